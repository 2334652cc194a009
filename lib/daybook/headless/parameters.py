"""A notebook's parameters, validated by name and type before a kernel starts."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import papermill
from jsonschema import ValidationError

from daybook import bounded_yaml, parameters, settings
from daybook.bounded_yaml import Problem
from daybook.errors import SettingsError
from daybook.settings.types import kind_of, shown

_BROKEN = (AttributeError, LookupError, RecursionError, TypeError, ValueError)
"""The errors of papermill and nbformat for JSON that is not a notebook."""
NOTEBOOK_BYTES = 8 * 2**20
STEP = r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}"
"""The pattern of a notebook's name, which is part of the names of run folders."""
Pairs = Iterable[tuple[str, object]]


def find_notebook(root: Path, name: str) -> Path:
    """Return the notebook of a step's name or path; SettingsError suggests the nearest name."""
    paths = (name, *(f"{root / folder}/{name}.ipynb" for folder in settings.NOTEBOOKS))
    for path in map(Path, paths if re.fullmatch(STEP, name) else paths[:1]):
        # Not path.is_file(), which raises for a name that is too long.
        if path.suffix == ".ipynb" and os.path.isfile(path):
            return _require_valid_name(path.resolve())
    known = sorted(
        path.stem for folder in settings.NOTEBOOKS for path in (root / folder).glob("*.ipynb")
    )
    raise SettingsError(
        f"No notebook is named {shown(name)}.",
        expected=", ".join(known) or "a path to a notebook",
        next=settings.nearest_hint(name, known) or "use one of these names",
    )


def _require_valid_name(notebook: Path) -> Path:
    if not re.fullmatch(STEP, notebook.stem):
        raise SettingsError(
            f"{shown(notebook.name)} is not a valid name of a notebook.",
            expected="at most 64 letters, digits, - and _, then .ipynb",
            next="rename the file",
        )
    return notebook


def check(notebook: Path, texts: Pairs, values: Pairs) -> dict[str, object]:
    """Return the parameters for a notebook, with the types that the notebook declares.

    texts: `-p NAME VALUE`, converted to the declared type. values: from YAML, only validated.
    Raises SettingsError with every mistake; a name given twice is one, from any source.
    """
    declared = declared_by(notebook)
    given = [*values, *texts]
    times = Counter(name for name, _ in given)
    problems = [f"{_printable(name)} is given {_count(n)}" for name, n in times.items() if n > 1]
    converted: dict[str, object] = {}
    for name, value in given:
        if name not in declared:
            hint = settings.nearest_hint(name, list(declared))
            problems.append(
                f"{_printable(name)}: no such parameter" + (f"; {hint}" if hint else "")
            )
            continue
        kind = declared[name]["inferred_type_name"]
        try:
            converted[name] = parameters.convert(kind, value)
        except (TypeError, ValueError):
            problems.append(
                f"{name}: expected {parameters.EXPECTED.get(kind, kind)}, got {shown(value)}"
            )
    if problems:
        accepted = ", ".join(
            f"{name} ({item['inferred_type_name']})" for name, item in declared.items()
        )
        raise SettingsError(
            f"The parameters of {notebook.stem} are invalid.",
            details=problems,
            next=f"{notebook.stem} accepts {accepted}",
        )
    return converted


def declared_by(notebook: Path) -> dict[str, Any]:
    """Return a notebook's parameters; SettingsError if the file is not a notebook."""
    try:
        text = bounded_yaml.read_text(notebook, max_bytes=NOTEBOOK_BYTES)
        if not isinstance(json.loads(text).get("cells"), list):
            raise Problem("not a notebook")
        return papermill.inspect_notebook(notebook)
    except (Problem, ValidationError, *_BROKEN) as err:
        observed = err.problem if isinstance(err, Problem) else "not a notebook"
        raise SettingsError(
            f"The notebook {notebook.name} cannot be read.",
            expected="a Jupyter notebook",
            observed=observed,
            next="restore it with git checkout",
        ) from None


def read_files(paths: Iterable[str], texts: Iterable[str]) -> list[tuple[str, object]]:
    """Return the parameters of `-f FILE` and `-y YAML` in their order, without merging them."""
    files = [pair for path in paths for pair in _pairs(shown(path), _read(path))]
    return files + [pair for text in texts for pair in _pairs("-y", text)]


def _read(path: str) -> str:
    try:
        return bounded_yaml.read_text(Path(path))
    except Problem as problem:
        raise SettingsError(
            f"The parameter file {shown(path)} cannot be read.",
            expected="a UTF-8 file of at most 64 KiB",
            observed=problem.problem,
            next="correct -f and run the same command again",
        ) from None


def _pairs(source: str, text: str) -> list[tuple[str, object]]:
    """Return the names and values of a YAML mapping."""
    try:
        if len(text) > bounded_yaml.MAX_BYTES:
            raise Problem("larger than 64 KiB")
        tree = bounded_yaml.parse(text).tree
    except Problem as problem:
        key = ".".join(map(str, problem.key[:3]))
        location = f"line {problem.line}: " + (f"{_printable(key)}: " if key else "")
        raise SettingsError(
            f"{source} is not valid YAML.",
            details=[location + problem.problem],
            next=f"correct {source} and run the same command again",
        ) from None
    if not isinstance(tree, dict):
        raise SettingsError(
            f"{source} has no parameters.",
            expected="NAME: VALUE lines",
            observed=kind_of(tree),
            next=f"correct {source} and run the same command again",
        )
    return list(tree.items())


def _printable(name: str) -> str:
    """Return a parameter's name in a form that is safe to print."""
    return name if re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", name) else shown(name)


def _count(times: int) -> str:
    return "twice" if times == 2 else f"{times} times"
