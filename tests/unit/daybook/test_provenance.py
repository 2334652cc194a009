"""Who, from which commit, with what; and whether a kernel still lives."""

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
    """Return a repository with one commit, one changed file, one renamed and one new one."""

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


def test_the_checkout(checkout):
    found = provenance.git(checkout)
    assert (found["branch"], found["dirty"]) == (
        "main",
        ["changed: a file", "not in the commit: new"],
    )
    assert len(found["commit"]) == 40
    who = provenance.operator(checkout)
    assert (who["name"], who["email"]) == ("Ann Example", "ann@example.com")


@pytest.mark.attack("F4", "variables and an index that have a record say another commit")
def test_neither_variables_nor_the_index_say_what_is_checked_out(checkout, tmp_path, monkeypatch):
    before = provenance.git(checkout)
    subprocess.run(["git", "-C", checkout, "update-index", "--assume-unchanged", "a file"])
    other = tmp_path / "other"
    subprocess.run(["git", "init", "-q", "-b", "other", other], check=True)
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    found = provenance.git(checkout)
    assert found == before | {"dirty": [*before["dirty"], "not in the commit: other"]}


def test_no_checkout(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert provenance.git(tmp_path) == {"commit": "", "branch": "", "dirty": []}


def test_versions_of_python_packages_tools_and_providers():
    found = provenance.versions(Path(__file__).parents[3])
    assert found["python"] == ".".join(map(str, sys.version_info[:3]))
    assert {"boto3", "ipykernel", "git", "ssh", "hashicorp/aws"} <= found.keys()


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
def test_the_ci_job(environ, url):
    assert provenance.ci_url(environ) == url


def test_whether_a_kernel_lives():
    mine = provenance.kernel()
    assert provenance.is_alive(mine)
    assert not provenance.is_alive(mine | {"started": mine["started"] - 60})
    assert not provenance.is_alive(mine | {"pid": 2**22 + 1})
    assert not provenance.is_alive({})
    assert provenance.is_alive(mine | {"pid": 2**22 + 1, "host": "elsewhere"})


def test_a_kernel_that_nobody_has_buried_is_gone():
    child = subprocess.Popen([sys.executable, "-c", ""], stdout=subprocess.PIPE)
    started = psutil.Process(child.pid).create_time()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    facts = provenance.kernel() | {"pid": child.pid, "started": started}
    assert not provenance.is_alive(facts)
    child.communicate()
