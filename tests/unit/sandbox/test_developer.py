"""The demo's developer: a repository of the application, and a monitored push."""

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
    """Return a checkout with a folder as its GitHub, and its environment."""
    server = tmp_path / "server"
    target = Target("sandbox", "123456789012", "us-east-1", {"GITHUB_SERVER_URL": str(server)})
    environment = Environment("staging", tmp_path, settings.load(ROOT, "staging"), target)
    bare = server / f"{environment.settings.github.path}.git"
    subprocess.run(["git", "init", "--quiet", "--bare", bare], check=True)
    (tmp_path / "app").symlink_to(ROOT / "app")
    monkeypatch.setattr(probe, "fetch", lambda *_: PAGE)
    return Checkout.make(environment), environment


def set_conclusion(monkeypatch, conclusion: str) -> None:
    run = github.WorkflowRun("Deploy", conclusion, "http://127.0.0.1/runs/1")
    repository = type("Repository", (), {"runs": lambda self, commit: (run,)})
    monkeypatch.setattr(github, "repository", lambda *_: repository())


def test_a_push_contains_the_application_without_its_workflow(checkout, monkeypatch):
    set_conclusion(monkeypatch, "success")
    clone, environment = checkout
    pushed = clone.push(environment)
    listed = subprocess.run(
        ["git", "ls-tree", "-r", "--name-only", pushed.commit],
        cwd=clone.folder,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert {"Dockerfile", "page.html"} <= set(listed)
    assert not any(name.startswith(("ci/", ".github/")) for name in listed)
    assert pushed.visits.failures == []


def test_an_existing_checkout_is_continued(checkout, monkeypatch):
    set_conclusion(monkeypatch, "success")
    clone, environment = checkout
    first = clone.push(environment).commit
    again = Checkout.make(environment).push(environment).commit
    before = subprocess.run(
        ["git", "rev-parse", f"{again}^"], cwd=clone.folder, capture_output=True, text=True
    )
    assert before.stdout.strip() == first


@pytest.mark.parametrize("failure", ["failed run", "failed request"])
def test_a_failure_during_the_release_fails_the_demo(checkout, monkeypatch, failure):
    clone, environment = checkout
    set_conclusion(monkeypatch, "failure" if failure == "failed run" else "success")
    monkeypatch.setattr(developer, "REQUEST_EVERY_S", 0.001)
    if failure == "failed request":
        monkeypatch.setattr(probe, "fetch", lambda *_: httpx.Response(502, request=PAGE.request))
    with pytest.raises(VerifyFailed, match="not released cleanly"):
        clone.push(environment)
