"""Plans, their approval by a person, and the signatures that prove it."""
