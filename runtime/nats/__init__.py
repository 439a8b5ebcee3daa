"""Everything that knows NATS, and nothing that knows actors."""
