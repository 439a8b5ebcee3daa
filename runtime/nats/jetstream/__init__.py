"""JetStream: acknowledged publishes, reads at a stream's leader, streams, consumers, and a continuous pull.

Used from outside: `acks`, `client`, `configs`, `delivery`, `domains`, `errors`, `puller`, `responses`.
"""
