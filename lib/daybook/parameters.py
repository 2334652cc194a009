"""A notebook's parameters, checked by name and type before a kernel starts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import papermill
import yaml

from daybook import settings
from daybook.errors import SettingsError

FILE_BYTES = 64 * 1024
"""The most that one `-f FILE` or `-y YAML` may hold."""
Pairs = Iterable[tuple[str, object]]


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


def check(notebook: Path, texts: Pairs, values: Pairs) -> dict[str, object]:
    """Return the parameters a notebook is to run with, typed as the notebook declares them.

    texts: `-p NAME VALUE`, converted to the declared type. values: from YAML, checked only.
    Raises SettingsError with every mistake; a name given twice is one, wherever it came from.
    """
    declared = papermill.inspect_notebook(notebook)
    given = [*values, *texts]
    times = Counter(name for name, _ in given)
    problems = [f"{name} is given {_often(n)}" for name, n in times.items() if n > 1]
    chosen: dict[str, object] = {}
    for name, value in given:
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


def read_files(paths: Iterable[str], texts: Iterable[str]) -> list[tuple[str, object]]:
    """Return what `-f FILE` and `-y YAML` give, a name that is given twice twice."""
    sources = [*((path, _read(path)) for path in paths), *(("-y", text) for text in texts)]
    return [pair for source, text in sources for pair in _pairs(source, text)]


def _pairs(source: str, text: str) -> Iterator[tuple[str, object]]:
    """Give the names and values of a YAML mapping; one value each, so no anchors and no merges."""
    try:
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(_bounded(text))):
            raise yaml.YAMLError("aliases are not allowed in parameters")
        tree = yaml.compose(text)
        if not isinstance(tree, yaml.MappingNode):
            raise SettingsError(f"{source} holds no parameters.", expected="NAME: VALUE lines")
        loader = yaml.constructor.SafeConstructor()
        for key, value in tree.value:
            if key.tag != "tag:yaml.org,2002:str":
                raise yaml.YAMLError(f"line {key.start_mark.line + 1}: a name is not plain text")
            yield key.value, loader.construct_document(value)
    except (yaml.YAMLError, ValueError, RecursionError, OverflowError) as err:
        raise SettingsError(f"{source} is not YAML.", details=[str(err)]) from err


def _bounded(text: str) -> str:
    if len(text) > FILE_BYTES:
        raise yaml.YAMLError(f"more than {FILE_BYTES} characters")
    return text


def _often(times: int) -> str:
    return "twice" if times == 2 else f"{times} times"


def _read(path: str) -> str:
    try:
        with Path(path).open("rb") as file:
            raw = file.read(FILE_BYTES + 1)
        return raw.decode()
    except (OSError, ValueError) as err:
        reason = getattr(err, "strerror", None) or "not a text file"
        raise SettingsError(f"The parameter file {path} cannot be read.", observed=reason) from err


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
