"""A further environment, made after the pattern of one that is there."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator
from ipaddress import IPv4Network
from pathlib import Path

import yaml

from daybook import bounded_yaml, settings
from daybook.errors import SettingsError
from daybook.settings.loader import RENAMED


def files(root: Path, name: str, source: str) -> dict[Path, str]:
    """Return the files of a new environment and what is in them; nothing is written.

    Its network is the first free one, its DNS name is `<name>.<zone>`, its branch is `<name>`; all
    else is the source's, the comments and the names of the secrets included.
    """
    _require_new(root, name)
    pattern = settings.load(root, source)
    taken = [settings.load(root, env).vpc_cidr for env in settings.environments(root)]
    own = {
        "domains": f"[{name}.{pattern.dns_zone}]",
        "vpc_cidr": str(free_network(taken, pattern.vpc_cidr.prefixlen)),
        "github.branch": name,
    }
    text = _with_values(settings.read(root, source), own)
    text = re.sub("#.*", lambda comment: _renamed(comment[0], source, name), text)
    settings.parse(text, name)
    made = {root / "environments" / f"{name}.yml": text}
    for folder in (root / "ansible", root / "ansible" / "group_vars"):
        if (model := folder / f"{source}.yml").is_file():
            made[folder / f"{name}.yml"] = _renamed(_text(model), source, name)
    if there := [str(path.relative_to(root)) for path in made if path.exists()]:
        raise SettingsError(f"{', '.join(there)} is there already.", next="move it away first")
    return made


def free_network(taken: Iterable[IPv4Network], prefix: int) -> IPv4Network:
    """Return a private network that overlaps none of these: 10.20.0.0 and upwards, by tens."""
    taken = list(taken)
    for second in itertools.chain(range(20, 256, 10), range(1, 256)):
        network = IPv4Network(f"10.{second}.0.0/{prefix}")
        if not any(network.overlaps(other) for other in taken):
            return network
    raise SettingsError("10.0.0.0/8 has no free network.", next="set vpc_cidr by hand")


def _require_new(root: Path, name: str) -> None:
    settings.require_name(name)
    if name in settings.environments(root):
        raise SettingsError(f"{name} is there already.", next=f"edit environments/{name}.yml")


def _text(path: Path) -> str:
    try:
        return bounded_yaml.read_text(path)
    except bounded_yaml.Problem as problem:
        raise SettingsError(
            f"{path.name} cannot be read.", observed=problem.problem, next=f"correct {path}"
        ) from None


def _with_values(text: str, values: dict[str, str]) -> str:
    """Put other values into a settings file, leaving its comments where they are."""
    nodes = [
        (RENAMED.get(name, name), key, node)
        for name, key, node in _nodes(yaml.compose(text, Loader=bounded_yaml.LOADER))
        if RENAMED.get(name, name) in values
    ]
    for name, key, node in sorted(nodes, key=lambda found: -found[2].start_mark.index):
        start, own = node.start_mark, values[name]
        if start.line > key.end_mark.line:  # a list of lines, which need not be indented
            text = f"{text[: start.index - start.column]}  {own}{text[_end(node) :]}"
        else:
            text = f"{text[: start.index]}{own}{text[_end(node) :]}"
    return text


def _nodes(tree: yaml.MappingNode, at: str = "") -> Iterator[tuple[str, yaml.Node, yaml.Node]]:
    """Give each key under its dotted name, with its value: ("github.branch", …, …)."""
    for key, value in tree.value:
        yield f"{at}{key.value}", key, value
        if isinstance(value, yaml.MappingNode):
            yield from _nodes(value, f"{at}{key.value}.")


def _end(node: yaml.Node) -> int:
    """Return where a value ends; a list of lines claims the empty ones and comments after it."""
    if isinstance(node, yaml.SequenceNode) and not node.flow_style:
        return _end(node.value[-1])
    return node.end_mark.index


def _renamed(text: str, source: str, name: str) -> str:
    """Put the new name where the old one stands as a word; not where it begins a DNS name."""
    return re.sub(rf"(?<![\w.-]){re.escape(source)}(?![\w-]|\.\w)", name, text)
