"""What an application writes: messages, handlers, the actor class, and the call that a handler sees."""
