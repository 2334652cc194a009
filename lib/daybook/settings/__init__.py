"""An environment's settings, `environments/<env>.yml`, validated as a whole before a run starts."""

from daybook.settings.loader import lines, load, of_account, others, parse, read
from daybook.settings.model import Freeze, GitHub, InstanceSettings, Settings
from daybook.settings.project import (
    NOTEBOOKS,
    environments,
    find_root,
    nearest_hint,
    require_name,
)

__all__ = [
    "NOTEBOOKS",
    "Freeze",
    "GitHub",
    "InstanceSettings",
    "Settings",
    "environments",
    "find_root",
    "lines",
    "load",
    "nearest_hint",
    "of_account",
    "others",
    "parse",
    "read",
    "require_name",
]
