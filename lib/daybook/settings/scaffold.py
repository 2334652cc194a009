"""Create a new environment from an existing one."""

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
    """Return the files of a new environment and their text; nothing is written.

    The network is the first free one, the DNS name is `<name>.<zone>`, and the branch is `<name>`.
    Everything else, including comments and the names of secrets, is copied from the source.
    """
    _require_new(root, name)
    template = settings.load(root, source)
    taken = [settings.load(root, env).vpc_cidr for env in settings.environments(root)]
    own = {
        "domains": f"[{name}.{template.dns_zone}]",
        "vpc_cidr": str(free_network(taken, template.vpc_cidr.prefixlen)),
        "github.branch": name,
    }
    text = _with_values(settings.read(root, source), own)
    text = re.sub("#.*", lambda comment: _renamed(comment[0], source, name), text)
    settings.parse(text, name)
    texts = {root / "environments" / f"{name}.yml": text}
    for folder in (root / "ansible", root / "ansible" / "group_vars"):
        if (source_file := folder / f"{source}.yml").is_file():
            texts[folder / f"{name}.yml"] = _renamed(_text(source_file), source, name)
    if existing := [str(path.relative_to(root)) for path in texts if path.exists()]:
        raise SettingsError(f"{', '.join(existing)} already exists.", next="move it away first")
    return texts


def free_network(taken: Iterable[IPv4Network], prefix: int) -> IPv4Network:
    """Return a private network that overlaps none of these, from 10.20.0.0 in steps of ten."""
    taken = list(taken)
    for second in itertools.chain(range(20, 256, 10), range(1, 256)):
        network = IPv4Network(f"10.{second}.0.0/{prefix}")
        if not any(map(network.overlaps, taken)):
            return network
    raise SettingsError("10.0.0.0/8 has no free network.", next="choose vpc_cidr yourself")


def _require_new(root: Path, name: str) -> None:
    settings.require_name(name)
    if name in settings.environments(root):
        raise SettingsError(f"{name} already exists.", next=f"edit environments/{name}.yml")


def _text(path: Path) -> str:
    try:
        return bounded_yaml.read_text(path)
    except bounded_yaml.Problem as problem:
        raise SettingsError(
            f"{path.name} cannot be read.", observed=problem.problem, next=f"correct {path}"
        ) from None


def _with_values(text: str, values: dict[str, str]) -> str:
    """Replace values in the text of a settings file, and keep its comments."""
    nodes = [
        (RENAMED.get(name, name), key, node)
        for name, key, node in _nodes(yaml.compose(text, Loader=bounded_yaml.LOADER))
        if RENAMED.get(name, name) in values
    ]
    for name, key, node in sorted(nodes, key=lambda entry: -entry[2].start_mark.index):
        start, value = node.start_mark, values[name]
        if start.line > key.end_mark.line:  # A block list, which need not be indented.
            text = f"{text[: start.index - start.column]}  {value}{text[_end(node) :]}"
        else:
            text = f"{text[: start.index]}{value}{text[_end(node) :]}"
    return text


def _nodes(tree: yaml.MappingNode, prefix: str = "") -> Iterator[tuple[str, yaml.Node, yaml.Node]]:
    """Yield each dotted key with the nodes of the key and the value: ("github.branch", …, …)."""
    for key, value in tree.value:
        yield f"{prefix}{key.value}", key, value
        if isinstance(value, yaml.MappingNode):
            yield from _nodes(value, f"{prefix}{key.value}.")


def _end(node: yaml.Node) -> int:
    """Return the end of a value; PyYAML counts lines after a block list as part of it."""
    if isinstance(node, yaml.SequenceNode) and not node.flow_style:
        return _end(node.value[-1])
    return node.end_mark.index


def _renamed(text: str, source: str, name: str) -> str:
    """Replace the old name as a whole word, except at the start of a DNS name."""
    return re.sub(rf"(?<![\w.-]){re.escape(source)}(?![\w-]|\.\w)", name, text)
