"""The orders service: orders of users, from creation to delivery."""
