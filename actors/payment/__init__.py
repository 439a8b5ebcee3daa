"""Payment: takes the money for what was delivered, through the provider."""
