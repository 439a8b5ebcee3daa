"""Orders: what users bought, from creation to delivery."""
