"""The catalogue: what can be bought, and at what price."""
