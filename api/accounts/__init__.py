"""People: signing in, tokens, roles."""
