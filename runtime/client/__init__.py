"""The clients: send queries, commands and events to actors, for handlers and for plain programs.

Used from outside:

- `bus`: `Bus`, the client with message classes, and `connect` for plain programs.
- `raw`: `RawClient`, which sends names and bytes, for tools and gateways.
- `no_reply`: the error for a missing reply.

The other modules are internal: `sender` (the attempts at one request), `route` (a prepared message type) and `breaker` (circuit
breaker and retry budget).
"""
