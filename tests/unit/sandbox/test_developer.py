"""The demo's developer: a repository of the application, and a push that is watched."""

from __future__ import annotations

import subprocess
from pathlib import Path

import httpx
import pytest

from daybook import github, probe, settings
from daybook.environment import Environment
from daybook.errors import VerifyFailed
from daybook.target import Target
from daybook_sandbox import developer
from daybook_sandbox.developer import Checkout

ROOT = Path(__file__).parents[3]
PAGE = httpx.Response(200, request=httpx.Request("GET", "https://staging.daybook.test/"))


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """Return a checkout whose GitHub is a folder, and the environment that it is pushed for."""
    server = tmp_path / "server"
    target = Target("sandbox", "123456789012", "us-east-1", {"GITHUB_SERVER_URL": str(server)})
    environment = Environment("staging", tmp_path, settings.load(ROOT, "staging"), target)
    bare = server / f"{environment.settings.github.path}.git"
    subprocess.run(["git", "init", "--quiet", "--bare", bare], check=True)
    (tmp_path / "app").symlink_to(ROOT / "app")
    monkeypatch.setattr(probe, "fetch", lambda *_: PAGE)
    return Checkout.make(environment), environment


def answer(monkeypatch, conclusion: str) -> None:
    run = github.WorkflowRun("Deploy", conclusion, "http://127.0.0.1/runs/1")
    it = type("Repository", (), {"runs": lambda self, commit: (run,)})
    monkeypatch.setattr(github, "repository", lambda *_: it())


def test_a_push_has_the_application_without_its_workflow(checkout, monkeypatch):
    answer(monkeypatch, "success")
    it, environment = checkout
    pushed = it.push(environment)
    listed = subprocess.run(
        ["git", "ls-tree", "-r", "--name-only", pushed.commit],
        cwd=it.folder,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert {"Dockerfile", "page.html"} <= set(listed)
    assert not any(name.startswith(("ci/", ".github/")) for name in listed)
    assert pushed.visits.lost == []


def test_a_checkout_that_is_there_goes_on(checkout, monkeypatch):
    answer(monkeypatch, "success")
    it, environment = checkout
    first = it.push(environment).commit
    again = Checkout.make(environment).push(environment).commit
    before = subprocess.run(
        ["git", "rev-parse", f"{again}^"], cwd=it.folder, capture_output=True, text=True
    )
    assert before.stdout.strip() == first


@pytest.mark.parametrize("how", ["a run that fails", "a lost request"])
def test_what_is_not_released_well_fails_the_demo(checkout, monkeypatch, how):
    it, environment = checkout
    answer(monkeypatch, "failure" if how == "a run that fails" else "success")
    monkeypatch.setattr(developer, "ASK_EVERY_S", 0.001)
    if how == "a lost request":
        monkeypatch.setattr(probe, "fetch", lambda *_: httpx.Response(502, request=PAGE.request))
    with pytest.raises(VerifyFailed, match="not released as it should be"):
        it.push(environment)
