"""The parameters of a step: one dataclass per step, one field per notebook parameter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TypeVar, get_type_hints

from daybook import parameters, settings
from daybook.errors import SettingsError
from daybook.settings.types import shown


@dataclass(frozen=True, kw_only=True)
class LookParameters:
    """The parameters of every step."""

    rehearse: bool = False


@dataclass(frozen=True, kw_only=True)
class Parameters(LookParameters):
    """The parameters of every step that changes something."""

    approve: str = ""
    override_freeze: str = ""
    override_git: str = ""


P = TypeVar("P", bound=LookParameters)


def given_parameters(step: str, kind: type[P], values: Mapping[str, object]) -> P:
    """Return a step's parameters with their types; SettingsError lists every mistake."""
    types = get_type_hints(kind)
    known = {field.name: types[field.name] for field in fields(kind)}
    converted, problems = {}, []
    for name, value in values.items():
        if name not in known:
            hint = settings.nearest_hint(name, list(known))
            problems.append(f"{name}: no such parameter" + (f"; {hint}" if hint else ""))
            continue
        try:
            converted[name] = parameters.convert(known[name].__name__, value)
        except (TypeError, ValueError):
            expected = parameters.EXPECTED[known[name].__name__]
            problems.append(f"{name}: expected {expected}, got {shown(value)}")
    if problems:
        takes = ", ".join(f"{name} ({of.__name__})" for name, of in known.items())
        raise SettingsError(
            f"The parameters of {step} are wrong.",
            details=problems,
            next=f"{step} takes {takes}",
        )
    return kind(**converted)
