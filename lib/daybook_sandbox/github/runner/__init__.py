"""The self-hosted runner's stand-in: this folder, `expressions` and Python are all it needs."""
