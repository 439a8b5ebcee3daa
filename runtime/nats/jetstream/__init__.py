"""JetStream: acknowledged publishes, reads at a stream's leader, streams, consumers, a continuous pull, and a read without an end.

Used from outside: `acks`, `client`, `configs`, `delivery`, `domains`, `errors`, `following`, `puller`, `responses`.
"""
