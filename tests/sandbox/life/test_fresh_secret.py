"""Secret rotation: set, roll out, verify, and retire the previous value."""

from __future__ import annotations

import json

import pytest

pytestmark = [pytest.mark.sandbox, pytest.mark.timeout(1800)]


def rotate(serving, life):
    given = ("-p", "name", life.secret, "-p", "approve", "auto")
    return serving.run("run", "secrets", "-p", "env", "staging", *given)


def versions(serving, life) -> dict[int, bool]:
    """Return the secret's versions, True if retired: {2: False, 1: True}."""
    output = serving.succeed("secrets", "history", life.secret, "-e", "staging", "--json")
    return {version["number"]: version["is_retired"] for version in json.loads(output)}


def test_rotation_without_a_new_value_changes_nothing(serving, life):
    done = rotate(serving, life)
    assert done.returncode == 0, done.stdout
    assert f"daybook secrets set {life.secret} -e staging" in done.stdout
    assert versions(serving, life) == {1: False}


def test_a_new_value_is_deployed_and_the_old_one_is_retired(serving, life):
    before = life.version("staging")["version"]
    life.set_secret("staging", "second of staging")
    assert life.secret_in_use("staging") == "first of staging"
    done = rotate(serving, life)
    assert done.returncode == 0, done.stdout
    assert life.secret_in_use("staging") == "second of staging"
    assert life.version("staging")["version"] == before
    assert versions(serving, life) == {2: False, 1: True}
    record = serving.record("staging", "secrets")
    assert "retired" in " ".join(str(change) for change in record["changes"])
    assert "second of staging" not in "".join(
        path.read_text("utf-8", "replace")
        for path in (serving.root / "runs").rglob("*")
        if path.is_file()
    )


def test_repeated_rotation_changes_nothing(serving, life):
    assert "No changes" in rotate(serving, life).stdout


def test_only_a_declared_secret_can_be_rotated(serving):
    done = serving.run("run", "secrets", "-p", "env", "staging", "-p", "name", "OTHER_KEY")
    assert done.returncode == 3
    assert "expected one of DATABASE_URL" in done.stdout
