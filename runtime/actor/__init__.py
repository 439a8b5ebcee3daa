"""The classes of an application: messages, handlers and actors, and the call in which a handler runs.

Applications import these names from `runtime`; the docstring of `patterns` describes the operators of `where`.

Used from outside by other rooms:

- `message`: the base classes of messages, and their `Contract`.
- `any_event`: `AnyEvent`, an event of any type, and `any_command`: `AnyCommand`, a command by its names.
- `decorators`: `query`, `command` and `react`.
- `handler`: the rows of the handler table.
- `patterns`: the content patterns of `where`, compiled.
- `pattern_operators` and `pattern_addresses`: the operators in them.
- `since`: the start of a reaction.
- `base`: `Actor`, and the view of an actor that one call has.
- `call`: the context of one running handler, and in a turn the changes that it collects.
- `invoke`: runs a handler on a view of its actor.
- `outcome`: what a handler leaves, encoded and read back before the commit.
- `timer`: timers and schedules.
- `state_type`: the declared type of the state, and its codec.
- `schedules`: the patterns of schedules.
- `indexes`: `Index` and `Page`.
- `index_values`: the order of the values by which an index finds and orders states.
- `raised_at`: the line of an application that an error comes from.
- `error_kinds`: the errors that an operation may answer with.
- `key_reader`: how the key of a message is read, and what a field with a key may hold.
- `metadata` and `metadata_texts`: the description of an actor for discovery, and its form on the wire.

The other modules are internal: `query_check` (the check that a query handler changes nothing).
"""
