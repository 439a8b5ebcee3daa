"""The clients: send queries, commands and events to actors, for handlers and for plain programs.

Used from outside:

- `bus`: `Bus`, the client with message classes, and `connect` for plain programs.
- `sender`: the attempts at one request, and for how long they are repeated.
- `raw`: `RawClient`, which sends names and bytes, for tools and gateways.
- `no_reply`: the error for a missing reply.
- `tap`: `Tap`, the iterator over the events of many actors, and `tapped`: `TappedEvent`, its items.

The other modules are internal: `events` (following events of one type), `place` (a place in a stream of events),
`event_subjects` (the choice of events of several actors), `time_order` (the order of their stored events), `tells` (commands that are stored for their actors), `route` (a
prepared message type) and `breaker` (circuit breaker and retry budget).
"""
