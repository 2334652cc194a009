"""A simulated GitHub: repositories, the workflows that a push starts, and their runners."""
