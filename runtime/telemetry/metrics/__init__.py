"""Metrics: instruments, their collection, their export, and the Prometheus text format."""
