"""The bytes: subjects, headers, ids, bodies and replies. No I/O, and nothing that knows NATS or actors."""
