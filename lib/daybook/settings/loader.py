"""Read and validate environments/<env>.yml; every mistake is reported with its line."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel, ValidationError

from daybook import bounded_yaml
from daybook.bounded_yaml import Key, Problem
from daybook.errors import SettingsError
from daybook.settings import types
from daybook.settings.model import Conflict, Freeze, GitHub, Instance, Settings
from daybook.settings.project import environments, nearest_hint, settings_file

RENAMED = {
    "names": "domains",
    "zone": "dns_zone",
    "cidr": "vpc_cidr",
    "operators": "ssh_allowed_cidrs",
    "protected": "deletion_protection",
    "git": "require_git",
}
"""Keys by their old names, which this release still reads."""
_WARNED: set[str] = set()
"""The environments whose old names were reported in this process."""
MAX_PROBLEMS = 20
"""So many are listed; more are counted."""


def others(root: Path, env: str) -> tuple[list[tuple[str, Settings]], list[str]]:
    """Return the other environments, and the names of those whose settings cannot be used."""
    found, unread = [], []
    for name in environments(root):
        try:
            found += [(name, load(root, name))] if name != env else []
        except SettingsError:
            unread.append(name)
    return found, unread


def of_account(root: Path, env: str, chosen: Settings) -> dict[str, Settings]:
    """Return the application's environments in the account of this one, itself included."""
    found, _ = others(root, env)
    shared = (chosen.app, chosen.account)
    known = {name: each for name, each in found if (each.app, each.account) == shared}
    return dict(sorted({env: chosen, **known}.items()))


def load(root: Path, env: str) -> Settings:
    """Read and check an environment's settings; SettingsError lists each mistake and line."""
    return parse(read(root, env), env)


def read(root: Path, env: str) -> str:
    """Return the text of an environment's settings, which are a file of `environments/`."""
    try:
        # A link would lead out of what was reviewed.
        return bounded_yaml.read_text(settings_file(root, env), follow=False)
    except Problem as problem:
        raise _unusable(env, [_at(env, problem.line, problem.key, problem.problem)]) from None


def parse(text: str, env: str) -> Settings:
    """Check the text of an environment's settings; SettingsError lists each mistake and line."""
    document = _document(text, env)
    _rename_keys(document, env)
    try:
        # As JSON, because its strict mode takes text for an address and a list for a tuple.
        return Settings.model_validate_json(json.dumps(document.tree), strict=True)
    except ValidationError as err:
        details = [
            _at(env, _line_of(key, document.lines), key, problem)
            for error in err.errors(include_url=False)
            for key, problem in _problems(error)
        ]
    raise _unusable(env, details)


def _rename_keys(document: bounded_yaml.Document, env: str) -> None:
    """Replace the old names of keys by their new ones, with one warning per process."""
    old = [key for key in RENAMED if key in document.tree]
    both = [key for key in old if RENAMED[key] in document.tree]
    if both:
        problems = [
            _at(env, document.lines[key,], (key,), f"set twice: it is now called {RENAMED[key]}")
            for key in both
        ]
        raise _unusable(env, problems)
    for key in old:
        document.tree[RENAMED[key]] = document.tree.pop(key)
    for at in [at for at in document.lines if at and at[0] in old]:
        document.lines[RENAMED[at[0]], *at[1:]] = document.lines.pop(at)
    if old and env not in _WARNED and "DAYBOOK_RUN_ID" not in os.environ:
        _WARNED.add(env)
        names = ", ".join(f"{key} is now {RENAMED[key]}" for key in old)
        print(
            f"environments/{env}.yml: {names}. The next release will not read the old names.",
            file=sys.stderr,
        )


def lines(root: Path, env: str) -> dict[Key, int]:
    """Return the line of each setting that the file has: `{("instance", "type"): 12}`."""
    document = _document(read(root, env), env)
    _rename_keys(document, env)
    return document.lines


def _document(text: str, env: str) -> bounded_yaml.Document:
    try:
        document = bounded_yaml.parse(text)
        if not isinstance(document.tree, dict):
            raise Problem("expected settings, `key: value` each")
    except Problem as problem:
        raise _unusable(env, [_at(env, problem.line, problem.key, problem.problem)]) from None
    return document


def _unusable(env: str, details: list[str]) -> SettingsError:
    more = len(details) - MAX_PROBLEMS
    return SettingsError(
        f"The settings of {env} cannot be used.",
        details=details[:MAX_PROBLEMS] + ([f"and {more} more"] if more > 0 else []),
        next=f"correct environments/{env}.yml and run the same command again",
    )


def _problems(error: dict) -> Iterator[tuple[Key, str]]:
    """Give what an error of pydantic's means for the operator, by key."""
    key = tuple(part for part in error["loc"] if part != "[key]")
    conflict = error.get("ctx", {}).get("error")
    if isinstance(conflict, Conflict):
        yield from ((key + inner, text) for inner, text in conflict.problems.items())
    else:
        yield key, _text(error, key)


def _text(error: dict, key: Key) -> str:
    """Return what was expected and what was there; a secret's place is never quoted."""
    kind, context = error["type"], error.get("ctx", {})
    if kind == "value_error":
        return str(context["error"])
    if kind == "missing":
        return f"required, but not set: {_model(key).model_fields[key[-1]].description}"
    if kind == "extra_forbidden":
        known = list(_model(key).model_fields)
        hint = nearest_hint(str(key[-1]), known) or f"expected {', '.join(known)}"
        return f"no such setting; {hint}"
    show = types.kind_of if key[0] == "secrets" else types.shown
    value = show(error["input"])
    expected = _EXPECTED.get(kind, "").format(**context) or error["msg"]
    if kind == "too_long":
        return f"expected {expected}, got {context['actual_length']}"
    is_number = isinstance(error["input"], int | float)
    in_quotes = "; write it in quotes" if kind == "string_type" and is_number else ""
    return f"expected {expected}, got {value}{in_quotes}"


_EXPECTED = {
    "string_type": "text",
    "bool_type": "true or false",
    "literal_error": "{expected}",
    "model_type": "settings below this one, `key: value` each",
    "dict_type": "`NAME: what it is for` lines",
    "tuple_type": "a list",
    "too_long": "at most {max_length}",
}


def _model(key: Key) -> type[BaseModel]:
    """Return the model that a key is a field of."""
    inner = {"instance": Instance, "github": GitHub, "freezes": Freeze}
    return inner.get(key[0], Settings) if len(key) > 1 else Settings


def _line_of(key: Key, lines: dict[Key, int]) -> int:
    """Return the line of a key, or of the nearest one around it that is in the file."""
    while key and key not in lines:
        key = key[:-1]
    return lines.get(key, 1)


def _at(env: str, line: int, key: Key, problem: str) -> str:
    parts = [str(part) if re.fullmatch(_PLAIN, str(part)) else "…" for part in key]
    where = ".".join(parts) or "the file"
    return f"environments/{env}.yml:{line}: {where}: {problem}"


_PLAIN = r"[A-Za-z0-9_.-]{1,64}"
"""What of a file an error names a key with; anything else is hostile, or misplaced."""
