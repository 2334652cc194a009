"""GitHub's stand-in: repositories that take a push, the workflows it starts, and who runs them."""
