"""A notebook's parameters, checked by name and type before a kernel starts."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import papermill
import yaml

from daybook import settings
from daybook.errors import SettingsError


def find_notebook(root: Path, name: str) -> Path:
    """Return the notebook for a step's name or path; SettingsError names the nearest."""
    for path in (Path(name), *(root / folder / f"{name}.ipynb" for folder in settings.NOTEBOOKS)):
        if path.suffix == ".ipynb" and path.is_file():
            return path.resolve()
    known = sorted(
        path.stem for folder in settings.NOTEBOOKS for path in (root / folder).glob("*.ipynb")
    )
    raise SettingsError(
        f"There is no notebook {name!r}.",
        expected=", ".join(known) or "a path to a notebook",
        next=settings.nearest_hint(name, known) or "choose one of these",
    )


def check(
    notebook: Path, texts: Iterable[tuple[str, str]], values: dict[str, object]
) -> dict[str, object]:
    """Return the parameters a notebook is to run with, typed as the notebook declares them.

    texts: `-p NAME VALUE`, converted to the declared type. values: from YAML, checked only.
    Raises SettingsError with every mistake.
    """
    declared = papermill.inspect_notebook(notebook)
    problems: list[str] = []
    chosen: dict[str, object] = {}
    for name, value in [*values.items(), *texts]:
        if name not in declared:
            hint = settings.nearest_hint(name, list(declared))
            problems.append(f"{name}: no such parameter" + (f"; {hint}" if hint else ""))
            continue
        kind = declared[name]["inferred_type_name"]
        try:
            chosen[name] = _CONVERT.get(kind, _as_is)(value)
        except (TypeError, ValueError):
            problems.append(f"{name}: expected {_SAYS.get(kind, kind)}, got {value!r}")
    if problems:
        takes = ", ".join(
            f"{name} ({item['inferred_type_name']})" for name, item in declared.items()
        )
        raise SettingsError(
            f"The parameters of {notebook.stem} are wrong.",
            details=problems,
            next=f"{notebook.stem} takes {takes}",
        )
    return chosen


def read_files(paths: Iterable[str], texts: Iterable[str]) -> dict[str, object]:
    """Merge `-f FILE` and `-y YAML` into one mapping; later ones win."""
    merged: dict[str, object] = {}
    for source, text in [
        *((path, _read(path)) for path in paths),
        *(("-y", text) for text in texts),
    ]:
        try:
            tree = yaml.safe_load(text)
        except yaml.YAMLError as err:
            raise SettingsError(f"{source} is not YAML.", details=[str(err)]) from err
        if not isinstance(tree, dict):
            raise SettingsError(f"{source} holds no parameters.", expected="NAME: VALUE lines")
        merged |= {str(name): value for name, value in tree.items()}
    return merged


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as err:
        raise SettingsError(
            f"The parameter file {path} cannot be read.", observed=str(err)
        ) from err


def _to_bool(value: object) -> bool:
    if isinstance(value, bool):
        return value
    word = str(value).lower()
    if word not in {"true", "false", "yes", "no"}:
        raise ValueError
    return word in {"true", "yes"}


def _to_int(value: object) -> int:
    if isinstance(value, bool | float):
        raise ValueError
    return int(value)


def _to_str(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError
    return value


def _as_is(value: object) -> object:
    return value


_CONVERT: dict[str, Callable[[object], object]] = {
    "bool": _to_bool,
    "int": _to_int,
    "float": float,
    "str": _to_str,
}
_SAYS = {"bool": "true or false", "int": "a whole number", "float": "a number", "str": "text"}
