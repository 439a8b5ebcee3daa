"""The bytes of messages: subjects, headers, ids, bodies and replies. This room does no I/O and knows neither NATS nor actors.

Used from outside:

- `subjects`: the subjects and streams of an actor.
- `tokens`: keys and ids as tokens of subjects.
- `buckets`: the bucket and the partition of a key.
- `header_block`: the names of the headers, and the functions that read and write a block.
- `envelope`: the header block of a request.
- `cloudevents`: the header block of an event.
- `tells`: the header block of a command by `tell`.
- `hand_on`: events that one owner of a partitioned actor sends to another.
- `ids`: the ids of messages, and the time that they contain.
- `server_clock`: the time of the server, in which all dates on the wire are.
- `fingerprint`: whether an id comes with the message that it came with before.
- `codec`: the bodies of messages, as JSON or MessagePack.
- `schemas`: the JSON Schemas of types.
- `json_pointers`: the value to which a reference in a document leads.
- `schema_paths`: the fields that a JSON Schema describes.
- `regex` and `integers`: the rules that the codec adds to those of msgspec, so that it agrees with the JSON Schemas.
- `value_faults`: the part of a value that JSON cannot express.
- `type_parts`: the facts about a type that a declaration needs.
- `printable`: text from outside, in a form that controls no terminal.
- `replies`: the bytes of replies and errors.
"""
