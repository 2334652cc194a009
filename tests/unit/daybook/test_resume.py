"""Which runs can be resumed, and with which parameters."""

from __future__ import annotations

import json
import re
import subprocess

import pytest

from daybook.errors import SettingsError
from daybook.headless import resume
from daybook.record import provenance, seal
from daybook.record.journal import Journal

GIVEN = {"env": "staging", "rehearse": True, "approve": "plan-1"}


@pytest.fixture
def root(tmp_path):
    """Return a project with one notebook, at a commit."""
    for name in ("notebooks", "environments", "terraform"):
        (tmp_path / name).mkdir()
    (tmp_path / "notebooks/provision.ipynb").write_text("{}")
    (tmp_path / "environments/staging.yml").write_text("app: hello\n")
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "x"]):
        identity = ("-c", "user.name=Ann", "-c", "user.email=ann@example.com")
        subprocess.run(["git", "-C", tmp_path, *identity, *command], check=True)
    return tmp_path


@pytest.fixture
def notebook(root):
    return root / "notebooks/provision.ipynb"


def leave(root, status, run="20261123T184500Z-provision-3fa9c2", *, parameters=GIVEN) -> str:
    """Write a run that ended with a status."""
    folder = root / "runs/staging" / run
    header = {
        "run": run,
        "step": "provision",
        "environment": "staging",
        "parameters": parameters,
        "template": {"sha256": seal.digest(root / "notebooks/provision.ipynb")},
        "settings": {"sha256": seal.digest(root / "environments/staging.yml")},
        "git": provenance.git(root),
        "kernel": provenance.kernel(),
    }
    journal = Journal.create(folder, header)
    if status == "running":
        journal.release()
    else:
        journal.close(status)
    return run


@pytest.mark.parametrize("status", ["failed", "interrupted"])
def test_a_failed_run_resumes_with_its_parameters_and_without_its_used_plan(root, notebook, status):
    run = leave(root, status)
    assert resume.prepare(root, notebook, run, {}) == (run, GIVEN | {"approve": ""})


def test_a_waiting_run_keeps_its_approval(root, notebook):
    run = leave(root, "waiting")
    assert resume.prepare(root, notebook, run, {})[1] == GIVEN


def test_a_new_approval_replaces_the_old_one_and_auto_stays(root, notebook):
    run = leave(root, "failed", parameters=GIVEN | {"approve": "auto"})
    assert resume.prepare(root, notebook, run, {})[1]["approve"] == "auto"
    assert resume.prepare(root, notebook, run, {"approve": "plan-2"})[1]["approve"] == "plan-2"


def test_other_parameters_are_refused(root, notebook):
    run = leave(root, "failed")
    with pytest.raises(SettingsError, match="observed: env, rehearse"):
        resume.prepare(root, notebook, run, {"env": "production", "rehearse": False})


@pytest.mark.parametrize("status", ["succeeded", "running"])
def test_a_succeeded_or_running_run_cannot_be_resumed(root, notebook, status):
    run = leave(root, status)
    with pytest.raises(SettingsError, match=f"observed: {status}"):
        resume.prepare(root, notebook, run, {})


def test_a_run_of_another_step_gets_the_right_command(root, notebook):
    run = leave(root, "failed")
    with pytest.raises(SettingsError, match=f"daybook run provision --resume {run}"):
        resume.prepare(root, notebook.rename(notebook.with_stem("configure")), run, {})


def test_everything_that_changed_is_named(root, notebook):
    run = leave(root, "failed")
    (root / "environments/staging.yml").write_text("app: other\n")
    notebook.write_text(json.dumps({"cells": []}))
    commit = ["-c", "user.name=A", "-c", "user.email=a@b", "commit", "-qam", "y"]
    subprocess.run(["git", "-C", root, *commit], check=True)
    with pytest.raises(SettingsError) as caught:
        resume.prepare(root, notebook, run, {})
    assert [re.sub(r":.*", "", line) for line in caught.value.details] == [
        "template",
        "settings",
        "commit",
    ]
    assert caught.value.next == "start a new run: daybook run provision -p env staging"


def test_an_unknown_run_is_refused(root, notebook):
    with pytest.raises(SettingsError):
        resume.prepare(root, notebook, "nothing", {})
