"""What is kept in JetStream: records, deduplication, outbox, positions, dead letters, indexes."""
