"""A stand-in for an external payment provider, with injected faults."""
