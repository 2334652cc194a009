"""The release program on a host: it replaces the version that serves, and rolls back.

It depends on Python's standard library and PyYAML only, because it runs on a bare host, and imports
nothing from `daybook`. `daybook` imports `document` and `rules` to refuse a compose file before
anything is built; the host applies the same rules again.
"""
