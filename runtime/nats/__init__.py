"""The connection to NATS, JetStream, leases, service discovery and an embedded server; nothing here knows actors.

Used from outside: `client`, `connection`, `end_with_parent`, `errors`, `lease`, `lease_value`, `micro`, `options`, `server`,
`server_version`, and the modules that `runtime.nats.jetstream` lists.
"""
