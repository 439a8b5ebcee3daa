"""The benchmark suite: one file a question, every figure beside raw nats-py in the same run."""
