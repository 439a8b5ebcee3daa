"""The benchmark suite: one module per question. Each run also measures raw nats-py, so that figures are ratios."""
