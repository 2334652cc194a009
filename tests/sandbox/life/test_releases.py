"""Later releases: promotion, a failed release, and rollbacks."""

from __future__ import annotations

import json

import pytest

pytestmark = [pytest.mark.sandbox, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def older(serving, life) -> dict:
    """Return staging's release before the newer version."""
    life.set_secret("staging", "of the older version")
    serving.step("deploy", "staging")
    return releases(serving, "staging")[0]


@pytest.fixture(scope="module")
def newer(serving, life, older) -> dict:
    """Return staging's release of a newer version with a newer secret."""
    page = serving.root / "app/page.html"
    page.write_text(page.read_text() + "<!-- the newer version -->\n")
    life.set_secret("staging", "of the newer version")
    serving.step("first-deploy", "staging")
    return releases(serving, "staging")[0]


def releases(project, env: str) -> list[dict]:
    """Return the releases of an environment's only host, newest first."""
    [found] = json.loads(project.succeed("release", "list", env, "--json")).values()
    return found


def result(project, release: dict) -> str:
    """Return the result of one of staging's releases."""
    [found] = [each for each in releases(project, "staging") if each["id"] == release["id"]]
    return found["result"]


def test_a_release_is_recorded_with_its_run_and_secrets(serving, life, older, newer):
    record = serving.record("staging", "first-deploy")
    assert newer["run"] == record["run"]
    assert newer["secrets"][life.secret] == older["secrets"][life.secret] + 1
    assert newer["version"] == life.version("staging")["version"] != older["version"]
    assert (result(serving, older), result(serving, newer)) == ("replaced", "serving")
    assert life.secret_in_use("staging") == "of the newer version"
    assert {"pull", "start", "switch"} <= {change["what"] for change in record["changes"]}
    said = serving.succeed("release", "list", "staging")
    assert newer["id"] in said
    assert "replaced" in said


def test_stagings_image_is_promoted_by_digest(serving, life, newer):
    given = ("-p", "env", "production", "-p", "image", "staging")
    waiting = serving.run("run", "deploy", *given)
    assert waiting.returncode == 4, waiting.stdout
    serving.succeed("run", "deploy", *given, "-p", "approve", "auto")
    promoted = releases(serving, "production")[0]
    assert promoted["image"] == newer["image"]
    assert promoted["secrets"] == {life.secret: 1}
    assert life.version("production")["version"] == newer["version"]
    assert "no changes" in serving.succeed("run", "deploy", *given).lower()


def test_the_old_version_serves_if_the_new_one_does_not_start(serving, life, newer):
    before = life.version("staging")
    server = serving.root / "app/server.py"
    good = server.read_text()
    server.write_text("raise SystemExit('there is no database')\n")
    done = serving.run("run", "first-deploy", "-p", "env", "staging", "-p", "approve", "auto")
    server.write_text(good)
    assert done.returncode == 6, done.stdout
    assert "there is no database" in done.stdout
    assert life.version("staging") == before
    assert serving.record("staging", "first-deploy")["status"] == "failed"
    assert releases(serving, "staging")[0]["result"] == "failed"
    assert result(serving, newer) == "serving"


def test_a_rollback_also_restores_the_secret(serving, life, older, newer):
    waiting = serving.run("run", "rollback", "-p", "env", "staging")
    assert waiting.returncode == 4, waiting.stdout
    assert life.secret in waiting.stdout
    assert f"version {older['secrets'][life.secret]}" in waiting.stdout
    serving.step("rollback", "staging")
    assert life.version("staging")["version"] == older["version"]
    assert life.secret_in_use("staging") == "of the older version"
    assert result(serving, older) == "serving"
    assert older["version"] in serving.succeed("release", "current", "staging")


@pytest.mark.faults
def test_a_rollback_is_undone_by_release_id(serving, life, newer):
    if life.version("staging")["version"] == newer["version"]:
        serving.step("rollback", "staging")
    given = ("-p", "env", "staging", "-p", "approve", "auto", "-p", "release", newer["id"])
    serving.succeed("run", "rollback", *given)
    assert "no changes" in serving.succeed("run", "rollback", *given).lower()
    assert life.version("staging")["version"] == newer["version"]
    assert life.secret_in_use("staging") == "of the newer version"


@pytest.mark.faults
def test_a_pruned_image_is_pulled_again_for_a_rollback(serving, life, older):
    life.out("staging", f"sudo docker image rm --force {older['image']}")
    assert "image" in serving.succeed("release", "diff", "staging", older["id"])
    given = ("-p", "env", "staging", "-p", "approve", "auto")
    serving.succeed("run", "rollback", *given, "-p", "release", older["id"])
    assert life.version("staging")["version"] == older["version"]


@pytest.mark.parametrize(
    ("step", "parameter", "says"),
    [
        ("deploy", "image=no-such-tag", "ECR has no image"),
        ("rollback", "release=20200101T000000Z-00000000", "There is no release"),
    ],
)
def test_missing_images_and_releases_are_refused_before_any_change(serving, step, parameter, says):
    given = ("-p", "env", "staging", "-p", *parameter.split("="), "-p", "approve", "auto")
    done = serving.run("run", step, *given)
    assert done.returncode == 3, done.stdout
    assert says in done.stdout
    assert "Nothing was changed." in done.stdout
