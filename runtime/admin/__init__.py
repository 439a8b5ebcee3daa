"""Looks at running services from outside: discovery and the doctor."""
