"""A simulated self-hosted runner, which needs only this package, `expressions` and Python."""
