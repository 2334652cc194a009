"""Read and validate environments/<env>.yml, and report every mistake with its line."""

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
from daybook.settings.model import Conflict, Freeze, GitHub, InstanceSettings, Settings
from daybook.settings.project import environments, nearest_hint, settings_file

RENAMED = {
    "names": "domains",
    "zone": "dns_zone",
    "cidr": "vpc_cidr",
    "operators": "ssh_allowed_cidrs",
    "protected": "deletion_protection",
    "git": "require_git",
}
"""Former names of keys, still read in this release, and their new names."""
_WARNED: set[str] = set()
"""The environments with a rename warning already printed in this process."""
MAX_PROBLEMS = 20
"""The number of problems that are listed; the rest are counted."""


def others(root: Path, env: str) -> tuple[list[tuple[str, Settings]], list[str]]:
    """Return the other environments, and the names of those with invalid settings."""
    loaded, invalid = [], []
    for name in environments(root):
        try:
            loaded += [(name, load(root, name))] if name != env else []
        except SettingsError:
            invalid.append(name)
    return loaded, invalid


def of_account(root: Path, env: str, settings: Settings) -> dict[str, Settings]:
    """Return the settings of the application's environments in this account, this one included."""
    account = (settings.app, settings.account)
    same_account = {
        name: other_settings
        for name, other_settings in others(root, env)[0]
        if (other_settings.app, other_settings.account) == account
    }
    return dict(sorted({env: settings, **same_account}.items()))


def load(root: Path, env: str) -> Settings:
    """Load and validate an environment's settings; SettingsError lists each mistake."""
    return parse(read(root, env), env)


def read(root: Path, env: str) -> str:
    """Return the text of an environment's settings file."""
    try:
        # A symbolic link could point to a file that was not reviewed.
        return bounded_yaml.read_text(settings_file(root, env), follow=False)
    except Problem as problem:
        raise _unusable(env, [_at(env, problem.line, problem.key, problem.problem)]) from None


def parse(text: str, env: str) -> Settings:
    """Validate the text of an environment's settings; SettingsError lists each mistake."""
    document = _document(text, env)
    _rename_keys(document, env)
    try:
        # As JSON, because strict mode then accepts text for an address and a list for a tuple.
        return Settings.model_validate_json(json.dumps(document.tree), strict=True)
    except ValidationError as err:
        details = [
            _at(env, _line_of(key, document.lines), key, problem)
            for error in err.errors(include_url=False)
            for key, problem in _problems(error)
        ]
    raise _unusable(env, details)


def _rename_keys(document: bounded_yaml.Document, env: str) -> None:
    """Replace the former names of keys with the new ones; warn once per process."""
    old = [key for key in RENAMED if key in document.tree]
    both = [key for key in old if RENAMED[key] in document.tree]
    if both:
        problems = [
            _at(
                env,
                document.lines[key,],
                (key,),
                f"set twice: this key is now named {RENAMED[key]}",
            )
            for key in both
        ]
        raise _unusable(env, problems)
    for key in old:
        document.tree[RENAMED[key]] = document.tree.pop(key)
    for path in [path for path in document.lines if path and path[0] in old]:
        document.lines[RENAMED[path[0]], *path[1:]] = document.lines.pop(path)
    if old and env not in _WARNED and "DAYBOOK_RUN_ID" not in os.environ:
        _WARNED.add(env)
        for key in old:
            print(
                f"environments/{env}.yml:{document.lines[RENAMED[key],]}: {key} is now named"
                f" {RENAMED[key]}; the next release will not read the former name.",
                file=sys.stderr,
            )


def lines(root: Path, env: str) -> dict[Key, int]:
    """Return the line of each setting in the file: `{("instance", "type"): 12}`."""
    document = _document(read(root, env), env)
    _rename_keys(document, env)
    return document.lines


def _document(text: str, env: str) -> bounded_yaml.Document:
    try:
        document = bounded_yaml.parse(text)
        if not isinstance(document.tree, dict):
            raise Problem("expected settings, each as `key: value`")
    except Problem as problem:
        raise _unusable(env, [_at(env, problem.line, problem.key, problem.problem)]) from None
    return document


def _unusable(env: str, details: list[str]) -> SettingsError:
    more = len(details) - MAX_PROBLEMS
    return SettingsError(
        f"The settings of {env} are invalid.",
        details=details[:MAX_PROBLEMS] + ([f"and {more} more"] if more > 0 else []),
        next=f"correct environments/{env}.yml and run the same command again",
    )


def _problems(error: dict) -> Iterator[tuple[Key, str]]:
    """Yield the key and the text of each problem in an error from pydantic."""
    key = tuple(part for part in error["loc"] if part != "[key]")
    conflict = error.get("ctx", {}).get("error")
    if isinstance(conflict, Conflict):
        yield from ((key + inner, text) for inner, text in conflict.problems.items())
    else:
        yield key, _text(error, key)


def _text(error: dict, key: Key) -> str:
    """Return the expected and the observed value; text under `secrets` is never quoted."""
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
    quote_hint = "; write it in quotes" if kind == "string_type" and is_number else ""
    return f"expected {expected}, got {value}{quote_hint}"


_EXPECTED = {
    "string_type": "text",
    "bool_type": "true or false",
    "literal_error": "{expected}",
    "model_type": "nested settings, each as `key: value`",
    "dict_type": "lines such as `NAME: its purpose`",
    "tuple_type": "a list",
    "too_long": "at most {max_length}",
}


def _model(key: Key) -> type[BaseModel]:
    """Return the model that has a key as a field."""
    inner = {"instance": InstanceSettings, "github": GitHub, "freezes": Freeze}
    return inner.get(key[0], Settings) if len(key) > 1 else Settings


def _line_of(key: Key, lines: dict[Key, int]) -> int:
    """Return the line of a key, or of its nearest parent in the file."""
    while key and key not in lines:
        key = key[:-1]
    return lines.get(key, 1)


def _at(env: str, line: int, key: Key, problem: str) -> str:
    parts = [str(part) if re.fullmatch(_PLAIN, str(part)) else "…" for part in key]
    name = ".".join(parts) or "the file"
    return f"environments/{env}.yml:{line}: {name}: {problem}"


_PLAIN = r"[A-Za-z0-9_.-]{1,64}"
"""The keys that an error may repeat; any other text may be hostile, or a misplaced secret."""
