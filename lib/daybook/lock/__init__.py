"""One change at a time: the lock of an environment, and its recovery after a killed run."""
