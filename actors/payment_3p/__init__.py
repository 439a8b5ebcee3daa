"""A simulated external payment provider, with injected faults."""
