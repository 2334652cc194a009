"""An environment's hosts: inventory, SSH keys and releases."""
