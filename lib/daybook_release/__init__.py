"""The host's release program: it puts one version in the place of another, and back.

Python's standard library and PyYAML alone, because it runs on a host as it is; nothing of
`daybook` is imported. `document` and `rules` are used on both sides: they refuse a compose file
before anything is built, and again on the host.
"""
