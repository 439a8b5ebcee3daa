"""What comes in: queries, commands, events, timers and redriven dead letters, until they are turns."""
