"""Docker's command lines, and what a version of the application is called."""

from __future__ import annotations

import base64
import gzip
import os
import subprocess
from pathlib import Path

import pytest

from daybook import images
from daybook.process import Result


@pytest.fixture
def repository(tmp_path) -> Path:
    (tmp_path / "app").mkdir()
    (tmp_path / "app/server.py").write_text("one")
    git(tmp_path, "init", "-q")
    return tmp_path


def git(root: Path, *args: str) -> str:
    who = ["-c", "user.name=ann", "-c", "user.email=ann@example.com"]
    done = subprocess.run(
        ["git", *who, *args], cwd=root, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


def commit(root: Path, message: str) -> str:
    git(root, "add", "-A")
    git(root, "commit", "-q", "-m", message)
    return git(root, "rev-parse", "HEAD")[:12]


def version(root: Path) -> str:
    return images.version_of(root, "app")


def test_commands_are_these():
    assert images.build_command(Path("app"), ["r/hello:1", "r/hello:latest"]) == [
        "docker", "build", "--tag", "r/hello:1", "--tag", "r/hello:latest", "app",
    ]  # fmt: skip
    assert images.push_command("r/hello:1") == ["docker", "push", "r/hello:1"]


def test_an_image_carries_all_that_makes_it_a_release(tmp_path):
    (tmp_path / "compose.yaml").write_text("services: {}\n")
    said = images.labels(tmp_path, version="3f2a", commit="3f2a99")
    assert said["org.opencontainers.image.version"] == "3f2a"
    assert said["org.opencontainers.image.revision"] == "3f2a99"
    carried = said["daybook.compose"]
    assert gzip.decompress(base64.b64decode(carried)) == b"services: {}\n"
    assert "daybook.caddyfile" not in said
    shell = subprocess.check_output(
        "gzip -9n < compose.yaml | base64 -w0", shell=True, cwd=tmp_path
    )
    assert gzip.decompress(base64.b64decode(shell)) == b"services: {}\n"
    command = images.build_command(Path("app"), ["r/hello:1"], {"a": "b"})
    assert command == ["docker", "build", "--tag", "r/hello:1", "--label", "a=b", "app"]


def test_a_label_is_the_same_for_the_same_file(tmp_path):
    file = tmp_path / "compose.yaml"
    file.write_text("services: {}\n")
    first = images.packed(file)
    os.utime(file, (0, 0))
    assert images.packed(file) == first


def test_a_password_is_read_from_stdin_and_kept_for_as_long_as_it_is_needed():
    started = []

    def start(command, *, env, **options):
        started.append((command, options["stdin"], options["private"]))
        (Path(env["DOCKER_CONFIG"]) / "config.json").write_text("hunter2")
        return Result(tuple(command), 0, 0.1)

    with images.login("registry", "AWS", "hunter2", env={}, start=start) as env:
        assert Path(env["DOCKER_CONFIG"]).is_dir()
    command = ["docker", "login", "--username", "AWS", "--password-stdin", "registry"]
    assert started == [(command, b"hunter2", True)]
    assert not Path(env["DOCKER_CONFIG"]).exists()


@pytest.mark.parametrize(("code", "expected"), [(0, {}), (1, {"DOCKER_BUILDKIT": "0"})])
def test_buildkit_is_left_out_where_docker_has_no_buildx(code, expected):
    def start(command, **_options):
        return Result(tuple(command), code, 0.1)

    assert images.builder_environment({}, start) == expected


def test_a_version_is_the_last_commit_that_touched_the_folder(repository):
    first = commit(repository, "one")
    (repository / "README").write_text("beside it")
    commit(repository, "two")
    assert version(repository) == first


def test_the_commit_is_whole_and_uncommitted_changes_have_none(repository):
    first = commit(repository, "one")
    found = images.commit_of(repository, "app")
    assert (found[:12], len(found)) == (first, 40)
    (repository / "app/server.py").write_text("two")
    found = images.commit_of(repository, "app")
    assert found == f"{images.tree_hash(repository / 'app')}-dirty"


def test_uncommitted_changes_are_another_version_each(repository):
    first = commit(repository, "one")
    (repository / "app/server.py").write_text("two")
    second = version(repository)
    (repository / "app/server.py").write_text("three")
    third = version(repository)
    assert second.startswith(f"{first}-")
    assert third.startswith(f"{first}-")
    assert second != third


def test_a_folder_that_is_left_out_changes_nothing(tmp_path):
    (tmp_path / "inventories").mkdir()
    (tmp_path / "play.yml").write_text("one")
    before = images.tree_hash(tmp_path, without=("inventories",))
    (tmp_path / "inventories/staging").write_text("of this computer")
    assert images.tree_hash(tmp_path, without=("inventories",)) == before
    assert images.tree_hash(tmp_path) != before


def test_without_a_commit_a_version_is_the_content(repository):
    before = version(repository)
    assert before.startswith("tree-")
    (repository / "app/server.py").rename(repository / "app/other.py")
    assert version(repository) != before
