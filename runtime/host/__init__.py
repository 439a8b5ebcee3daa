"""Who runs it: the process, ownership of keys, start and drain, health and settings."""
