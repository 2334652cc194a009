"""The steps that notebooks call, one module each; a notebook imports no other's."""

from __future__ import annotations

import importlib
from typing import Any

_MODULES = {
    "Ami": "ami",
    "Bootstrap": "bootstrap",
    "Configure": "configure",
    "Deploy": "deploy",
    "Diagnose": "diagnose",
    "Drift": "drift",
    "FirstDeploy": "first_deploy",
    "Patch": "patch",
    "Provision": "provision",
    "Rollback": "rollback",
    "RotateSecret": "rotate_secret",
    "Teardown": "teardown",
}
__all__ = [*_MODULES]


def __getattr__(name: str) -> Any:
    """Import a step's module when the step is first named."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
