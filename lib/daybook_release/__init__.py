"""The host's release program: it puts one version in the place of another, and back.

Python's standard library alone, because it runs on a host as it is; nothing of `daybook` is
imported. `rules` is read on both sides: it refuses a compose file before anything is built, and
again on the host.
"""
