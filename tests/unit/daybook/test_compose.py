"""An invalid compose file is rejected before a build, with its line."""

from __future__ import annotations

from pathlib import Path

import pytest
from compose_attacks import TEXTS

from daybook import compose

APP = Path(__file__).parents[3] / "app/compose.yaml"


def test_the_example_is_valid():
    found = compose.read(APP)
    assert found.problems == ()
    assert (found.wishes.web, found.wishes.health, found.wishes.version) == (
        "web",
        "/up",
        "/version",
    )


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("127.0.0.1:${APP_PORT:-8000}:8000", "127.0.0.1:8000:8000", "two copies"),
        ("healthcheck:", "x-healthcheck:", "no health check"),
        ("init: true", "privileged: true", "privileged"),
        ("version: /version", "versions: /version", "versions"),
    ],
)
def test_a_violation_is_reported_with_line_and_fix(tmp_path, old, new, says):
    text = APP.read_text()
    assert old in text
    path = tmp_path / "compose.yaml"
    path.write_text(text.replace(old, new))
    [problem] = compose.read(path).problems
    assert says in problem
    assert "compose.yaml line " in problem
    assert ";" in problem


@pytest.mark.parametrize("text", ["", "services: [", "- a list"])
def test_an_unreadable_compose_file_is_a_problem(tmp_path, text):
    path = tmp_path / "compose.yaml"
    path.write_text(text)
    [problem] = compose.read(path).problems
    assert problem.startswith("compose.yaml line ")


def test_an_undeclared_variable_is_reported(tmp_path):
    path = tmp_path / "compose.yaml"
    path.write_text(APP.read_text().replace("${APP_VERSION:-}", "${MAIL_TOKEN}"))
    assert compose.read(path, ["MAIL_TOKEN"]).problems == ()
    [problem] = compose.read(path, []).problems
    assert "MAIL_TOKEN has no value; declare it under secrets:" in problem


@pytest.mark.attack("F8", "a developer's compose file takes long to read, or names another file")
@pytest.mark.parametrize("text", [*TEXTS.values(), "a: \xff"], ids=[*TEXTS, "latin-1"])
def test_hostile_yaml_is_rejected_before_a_build(tmp_path, text):
    path = tmp_path / "compose.yaml"
    path.write_bytes(text.encode("latin-1" if "\xff" in text else "utf-8"))
    assert compose.read(path).problems
