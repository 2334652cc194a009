"""What stands before a change: a plan's digest, its approval, and the environment's lock."""
