"""JetStream: streams, consumers, acknowledged publish, reads."""
