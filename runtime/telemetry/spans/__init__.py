"""Spans: how they are started, sampled, carried in messages, recorded and ended."""
