"""The connection to NATS, JetStream, leases, service discovery and an embedded server; nothing here knows actors.

Used from outside: `connection`, `errors`, `lease`, `micro`, `options`, `server`, and the modules that
`runtime.nats.jetstream` lists.
"""
