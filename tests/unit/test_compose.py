"""A compose file that cannot be released is refused before anything is built, with its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from daybook import compose

APP = Path(__file__).parents[2] / "app/compose.yaml"


def test_the_example_can_be_released():
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
def test_what_cannot_is_refused_with_its_line_and_the_fix(tmp_path, old, new, says):
    text = APP.read_text()
    assert old in text
    path = tmp_path / "compose.yaml"
    path.write_text(text.replace(old, new))
    [problem] = compose.read(path).problems
    assert says in problem
    assert "compose.yaml line " in problem
    assert ";" in problem


@pytest.mark.parametrize("text", ["", "services: [", "- a list"])
def test_what_is_no_compose_file_is_told_as_a_problem_too(tmp_path, text):
    path = tmp_path / "compose.yaml"
    path.write_text(text)
    [problem] = compose.read(path).problems
    assert problem.startswith("compose.yaml line ")
