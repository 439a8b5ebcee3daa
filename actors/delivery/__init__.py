"""The delivery service: prices and deliveries."""
