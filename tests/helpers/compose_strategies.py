"""Random compose files: valid ones with changes, some of them malicious."""

from __future__ import annotations

import copy
import json
from typing import Any

import yaml
from compose_attacks import ATTACKS, GOOD, ORDINARY
from hypothesis import strategies as st

from daybook_release import document, generate, names, rules, variables

APP, IMAGE = "shop", f"registry.example.com/shop@sha256:{'0f' * 32}"
SECRETS = {"DATABASE_PASSWORD": "hush$HOME", "RAILS_MASTER_KEY": "hush ${PATH} \u2028"}
OWN = {
    "APP_NAME": APP,
    "APP_IMAGE": IMAGE,
    "APP_VERSION": "v1",
    "APP_ENVIRONMENT": "staging",
    "APP_HOST": "shop-1",
    "APP_PORT": "8001",
}
BASES = [document.read(text).tree for text in (GOOD, *ORDINARY.values())]
VALUES = [value for _, _, value in ATTACKS]
KEYS = sorted(
    {path[-1] for _, path, _ in ATTACKS}
    | {*rules.SERVICE, "image", "name", "driver", "external", "driver_opts", "source", "target"}
)
USUAL = [
    (key, value)
    for base in BASES
    for service in base["services"].values()
    for key, value in service.items()
    if key not in ("image", "ports", "depends_on", "volumes", "networks", "container_name")
]
"""Settings of services in valid files."""
HARMLESS = [True, False, None, 1, "x", "always", "512m", "30s", ["a"], {"a": "b"}, "data:/data:ro"]


@st.composite
def trees(draw: st.DrawFn) -> dict[str, Any]:
    """Return a valid file with up to seven changed values."""
    tree = copy.deepcopy(draw(st.sampled_from(BASES)))
    for _ in range(draw(st.integers(0, 4))):
        service = draw(st.sampled_from(sorted(tree["services"])))
        key, value = draw(st.sampled_from(USUAL))
        tree["services"][service][key] = copy.deepcopy(value)
    for _ in range(draw(st.integers(0, 3))):
        value = copy.deepcopy(draw(st.sampled_from(VALUES + HARMLESS)))
        if draw(st.booleans()):
            path = list(draw(st.sampled_from([path for _, path, _ in ATTACKS])))
            if path[0] == "services" and len(path) > 2:
                path[1] = draw(st.sampled_from(sorted(_map(tree.get("services"))) or ["x"]))
        else:
            path = _random_path(draw, tree)
        _put(tree, path, value)
    return tree


@st.composite
def texts(draw: st.DrawFn) -> str:
    """Return such a file as text: in block style, in flow style, as JSON, or with a merge key."""
    tree = draw(trees())
    style = draw(st.sampled_from(["block", "flow", "json", "merged"]))
    if style == "json":
        return json.dumps(tree)
    if style == "merged" and isinstance(tree.get("services"), dict):
        services = tree.pop("services")
        shared = yaml.safe_dump({"x-shared": services}, default_flow_style=True, width=10**6)
        rest = yaml.safe_dump(tree) if tree else ""
        return shared.replace("{x-shared: ", "x-shared: &s ", 1).rstrip()[:-1] + (
            f"\nservices:\n  <<: *s\n{rest}"
        )
    return yaml.safe_dump(tree, default_flow_style=style == "flow", sort_keys=False)


def filled_in(text: str) -> dict[str, Any] | None:
    """Return the file that Compose gets for a text; None if the rules refuse it."""
    try:
        tree = document.read(text).tree
    except document.Unreadable:
        return None
    if rules.problems(tree) or rules.unknown(tree, {*names.OWN, *SECRETS}):
        return None
    known = tuple(sorted({*OWN, *SECRETS}))
    generated_tree = generate.generated(
        tree, app=APP, release="r1", slot="green", port=8001, names=known
    )
    return variables.render(generated_tree, OWN | SECRETS)


def final(text: str) -> rules.Final:
    """Return the required values of a generated file."""
    web = rules.wishes(document.read(text).tree).web
    return rules.Final(APP, IMAGE, f"{web}-green", 8001, taken=(8000, 8001))


def _random_path(draw: st.DrawFn, tree: Any) -> list[Any]:
    path: list[Any] = []
    while isinstance(tree, dict) and tree and (not path or draw(st.integers(0, 3))):
        key = draw(st.sampled_from(sorted(tree)))
        path.append(key)
        tree = tree[key]
    if draw(st.booleans()):
        path[-1] = draw(st.sampled_from(KEYS))
    return path


def _put(tree: dict[str, Any], path: list[Any], value: Any) -> None:
    for key in path[:-1]:
        if not isinstance(tree.get(key), dict):
            tree[key] = {}
        tree = tree[key]
    tree[path[-1]] = value


def _map(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
