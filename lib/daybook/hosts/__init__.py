"""The hosts of an environment: their inventory, SSH keys and releases."""
