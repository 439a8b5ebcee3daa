"""Receives requests, events, timers, commands by `tell` and redriven dead letters, and makes a query call or a turn of each.

Used from outside:

- `queries`, `commands` and `cancels`: the endpoints of an actor.
- `endpoint`: their base, which answers requests.
- `router`: the plain subjects of a partitioned actor.
- `lists` and `list_endpoint`: lists over all partitions of an actor, and the part of one partition.
- `context`: the parts of a running actor that its endpoints share.
- `consumers`: the durable consumers of an actor, which deliver events, timers, commands by `tell` and redriven dead letters.
- `handed_on`: events of other partitions that act on a key of this one.
- `any_events`: an event of any type, read from its message.

The other modules are internal: `relays` (requests that a router has passed on), `reactions`, `timers`, `tells` and `redrive`
(the receivers of the consumers), `hand_on` with `sent_event` (events that act on
keys of other partitions), `handed_event` (one of them at its receiver), `sources` (the streams of other actors), `assignment`
(the consumer of each reaction), `durables` (the consumers on the server), `event_work` (a delivery in a turn), `blame`,
`watch` and `alone` (events that may have ended their process), and `poison` (those of actors without state).
"""
