"""Delivery: what it costs, and the parcels on their way."""
