"""What goes out: queries, commands and events, with retries and circuit breakers."""
