"""Daybook on a computer that has nothing but the repository: as a workflow of GitHub's runs it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.faults, pytest.mark.sandbox, pytest.mark.timeout(1800)]


@pytest.fixture
def clone(serving, life, copy_project):
    """Return a fresh checkout with the committed settings, and none of what runs leave behind."""
    root = copy_project(f"{life.app}-clone")
    shutil.copytree(serving.root / "environments", root / "environments", dirs_exist_ok=True)
    shutil.copytree(serving.root / "app", root / "app", dirs_exist_ok=True)
    (root / ".sandbox").symlink_to(serving.root / ".sandbox")
    assert not list((root / "ansible/inventories").glob("[!.]*"))
    return root


@pytest.fixture
def workflow(clone, tmp_path):
    """Return what runs the workflow's script: (exit code, what it said, its summary)."""

    def run(step: str, **given: str) -> tuple[int, str, str]:
        summary = tmp_path / f"{step}.md"
        tools = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        env = os.environ | {"PATH": tools, "DAYBOOK_ROOT": str(clone), **given}
        env |= {"STEP": step, "ENVIRONMENT": "staging", "GITHUB_STEP_SUMMARY": str(summary)}
        done = subprocess.run(
            [clone / ".github/scripts/run"],
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        return done.returncode, done.stdout, summary.read_text() if summary.exists() else ""

    return run


def test_a_clean_clone_configures_releases_and_diagnoses(serving, life, workflow):
    serving.succeed("github", "key", "staging")
    life.set_secret("staging", "set for the clone")
    code, said, summary = workflow("configure", APPROVE="auto")
    assert code == 0, said
    assert "written from the state" in said
    assert "exit code 0" in summary
    code, said, summary = workflow("deploy", PARAMETERS="image staging")
    assert code == 0, said
    assert "waits for approval of | `" in summary
    assert life.secret_in_use("staging") != "set for the clone"
    digest = summary.partition("approval of | `")[2].partition("`")[0]
    code, said, _ = workflow("deploy", PARAMETERS="image staging", APPROVE=digest)
    assert code == 0, said
    assert life.secret_in_use("staging") == "set for the clone"
    code, said, _ = workflow("diagnose")
    assert code == 0, said
    assert "all is well" in said
