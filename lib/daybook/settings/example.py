"""Generate environments/example.yml: every setting with its meaning and its default."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from daybook.settings import Settings

HEAD = """\
# Every setting of an environment, with its meaning; keys after "# " show defaults or examples.
# Copy what you need to environments/NAME.yml, or run: daybook env new NAME
# Generated from lib/daybook/settings/model.py:
#   python -m daybook.settings.example > environments/example.yml
"""
WIDTH = 98


def render() -> str:
    """Return the text of the file."""
    return HEAD + "".join(f"{line}\n".replace(" \n", "\n") for line in _lines(Settings))


def _lines(model: type[BaseModel], indent: str = "", mark: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        if not indent:
            yield ""
        for line in textwrap.wrap(field.description or "", WIDTH - len(indent)):
            yield f"{indent}# {line}"
        nested = field.annotation
        if isinstance(nested, type) and issubclass(nested, BaseModel):
            yield f"# {name}:"
            yield from _lines(nested, "#   ")
            continue
        prefix = "" if field.is_required() else "# "
        yield f"{indent or prefix}{_value(name, field)}"


def _value(name: str, field: FieldInfo) -> str:
    """Return a key with its example, or else with its default."""
    value: Any = field.examples[0] if field.examples else field.default
    if isinstance(value, Path):
        value = str(value)
    if isinstance(value, tuple):
        value = list(value)
    text = yaml.safe_dump(value, default_flow_style=True, width=1000, sort_keys=False)
    # PyYAML ends a lone scalar with a document mark.
    return f"{name}: {text.strip().removesuffix('...').strip()}"


if __name__ == "__main__":
    print(render(), end="")
