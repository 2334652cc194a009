"""Docker commands, and versions of the application."""

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


def test_commands():
    assert images.build_command(Path("app"), ["r/hello:1", "r/hello:latest"]) == [
        "docker", "build", "--tag", "r/hello:1", "--tag", "r/hello:latest", "app",
    ]  # fmt: skip
    assert images.push_command("r/hello:1") == ["docker", "push", "r/hello:1"]


def test_labels_contain_the_files_of_a_release(tmp_path):
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


def test_a_typed_build_has_the_same_labels(tmp_path):
    (tmp_path / "compose.yaml").write_text("services: {}\n")
    labels = images.labels(tmp_path, version="3f2a b", commit="3f2a99")
    command = images.build_command(tmp_path, ["r/hello:1"], labels)
    typed = images.typed_build(command, tmp_path)
    assert labels["daybook.compose"] not in typed
    words = subprocess.check_output(["bash", "-c", f"printf '%s\\n' {typed}"], text=True)
    assert words.splitlines() == command


def test_a_label_depends_only_on_the_content(tmp_path):
    file = tmp_path / "compose.yaml"
    file.write_text("services: {}\n")
    first = images.packed(file)
    os.utime(file, (0, 0))
    assert images.packed(file) == first


def test_a_password_is_passed_on_stdin_and_removed_afterwards():
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
def test_buildkit_is_disabled_without_buildx(code, expected):
    def start(command, **_options):
        return Result(tuple(command), code, 0.1)

    assert images.builder_environment({}, start) == expected


def test_a_version_is_the_last_commit_of_the_folder(repository):
    first = commit(repository, "one")
    (repository / "README").write_text("beside it")
    commit(repository, "two")
    assert version(repository) == first


def test_commit_of_is_a_full_commit_or_a_dirty_hash(repository):
    first = commit(repository, "one")
    found = images.commit_of(repository, "app")
    assert (found[:12], len(found)) == (first, 40)
    (repository / "app/server.py").write_text("two")
    found = images.commit_of(repository, "app")
    assert found == f"{images.tree_hash(repository / 'app')}-dirty"


def test_each_uncommitted_change_is_another_version(repository):
    first = commit(repository, "one")
    (repository / "app/server.py").write_text("two")
    second = version(repository)
    (repository / "app/server.py").write_text("three")
    third = version(repository)
    assert second.startswith(f"{first}-")
    assert third.startswith(f"{first}-")
    assert second != third


def test_an_ignored_folder_does_not_change_the_hash(tmp_path):
    (tmp_path / "inventories").mkdir()
    (tmp_path / "play.yml").write_text("one")
    before = images.tree_hash(tmp_path, without=("inventories",))
    (tmp_path / "inventories/staging").write_text("of this computer")
    assert images.tree_hash(tmp_path, without=("inventories",)) == before
    assert images.tree_hash(tmp_path) != before


def test_without_a_commit_a_version_is_a_content_hash(repository):
    before = version(repository)
    assert before.startswith("tree-")
    (repository / "app/server.py").rename(repository / "app/other.py")
    assert version(repository) != before
