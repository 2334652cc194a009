"""The operator, commit and versions of a run, and whether its kernel is running."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from daybook.record import provenance


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Return a repository with one commit, a changed file and a new one."""

    def git(*args: str) -> None:
        subprocess.run(["git", "-C", tmp_path, *args], check=True, capture_output=True)

    git("init", "-b", "main")
    git("config", "user.name", "Ann Example")
    git("config", "user.email", "ann@example.com")
    for name in ("a file", "b"):
        (tmp_path / name).write_text(name * 50)
    git("add", ".")
    git("commit", "-m", "one")
    (tmp_path / "a file").write_text("changed")
    (tmp_path / "new").write_text("x")
    return tmp_path


def test_git_and_operator_of_a_checkout(checkout):
    git = provenance.git(checkout)
    assert (git["branch"], git["dirty"]) == (
        "main",
        ["changed: a file", "not in the commit: new"],
    )
    assert len(git["commit"]) == 40
    operator = provenance.operator(checkout)
    assert (operator["name"], operator["email"]) == ("Ann Example", "ann@example.com")
    assert provenance.person(checkout) == "Ann Example <ann@example.com>"


@pytest.mark.attack("F4", "git's variables or index make a record name another commit")
def test_git_variables_and_the_index_are_ignored(checkout, tmp_path, monkeypatch):
    before = provenance.git(checkout)
    subprocess.run(["git", "-C", checkout, "update-index", "--assume-unchanged", "a file"])
    other = tmp_path / "other"
    subprocess.run(["git", "init", "-q", "-b", "other", other], check=True)
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    git = provenance.git(checkout)
    assert git == before | {"dirty": [*before["dirty"], "not in the commit: other"]}


def test_without_a_checkout_git_is_empty(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert provenance.git(tmp_path) == {"commit": "", "branch": "", "dirty": []}


def test_versions_of_python_packages_tools_and_providers():
    versions = provenance.versions(Path(__file__).parents[3])
    assert versions["python"] == ".".join(map(str, sys.version_info[:3]))
    assert {"boto3", "ipykernel", "git", "ssh", "hashicorp/aws"} <= versions.keys()


@pytest.mark.parametrize(
    ("environ", "url"),
    [
        ({}, None),
        ({"CI_JOB_URL": "https://ci/1"}, "https://ci/1"),
        (
            {
                "GITHUB_RUN_ID": "7",
                "GITHUB_SERVER_URL": "https://github.com",
                "GITHUB_REPOSITORY": "a/b",
            },
            "https://github.com/a/b/actions/runs/7",
        ),
    ],
)
def test_the_url_of_the_ci_job(environ, url):
    assert provenance.ci_url(environ) == url


def test_whether_a_kernel_is_running():
    mine = provenance.kernel()
    assert provenance.is_alive(mine)
    assert not provenance.is_alive(mine | {"started": mine["started"] - 60})
    assert not provenance.is_alive(mine | {"pid": 2**22 + 1})
    assert not provenance.is_alive({})
    assert provenance.is_alive(mine | {"pid": 2**22 + 1, "host": "elsewhere"})


def test_a_zombie_kernel_is_not_running():
    child = subprocess.Popen([sys.executable, "-c", ""], stdout=subprocess.PIPE)
    started = psutil.Process(child.pid).create_time()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    facts = provenance.kernel() | {"pid": child.pid, "started": started}
    assert not provenance.is_alive(facts)
    child.communicate()
