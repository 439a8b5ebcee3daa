"""A stand-in for an outside payment provider, which can be told to fail."""
