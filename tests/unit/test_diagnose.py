"""What diagnose makes of what it sees."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from daybook import github, ui
from daybook.errors import CommandFailed, VerifyFailed
from daybook.hosts.client import Host, Status
from daybook.steps import diagnose
from daybook.steps.diagnose import Diagnose, Diagnosis, Finding

WELL = Finding("web-1: disk", "40 % full")
ILL = Finding("web-1: runner", "failed", "daybook run configure -p env staging")


@pytest.fixture
def step():
    """Return a step that looks at nothing real."""
    it = object.__new__(Diagnose)
    it.env, it.target = "staging", SimpleNamespace(environ={})
    it.settings = SimpleNamespace(deploy_via="runner", names=())
    it.run = SimpleNamespace(title="diagnose staging", start=None)
    return it


def host(*lines: str) -> Host:
    def start(command, *, on_line, **_options):
        for line in lines:
            on_line(line)

    return Host("web-1", "203.0.113.9", Path("/key"), Path("/known"), {}, start)


def facts(step, *lines: str) -> dict[str, Finding]:
    it = host(*lines)
    step.run.start = it.start
    return {seen.what: seen for seen in step._facts(it)}


def test_a_host_that_is_well_has_nothing_to_do(step):
    seen = facts(step, " 40%", "active", "active", "active", "Listening for Jobs")
    assert [each.next for each in seen.values()] == [""] * 4
    assert seen["web-1: runner"].said == "active; Listening for Jobs"


@pytest.mark.parametrize(
    ("lines", "what"),
    [
        ((" 93%", "active", "active", "active"), "disk"),
        ((" 40%", "inactive", "active", "active"), "docker"),
        ((" 40%", "active", "failed", "active"), "caddy"),
        ((" 40%", "active", "active", "activating", "registration has been deleted"), "runner"),
    ],
)
def test_what_is_not_well_has_a_next_step(step, lines, what):
    ill = [each for each in facts(step, *lines).values() if each.next]
    assert [each.what for each in ill] == [f"web-1: {what}"]


@pytest.mark.parametrize(
    ("status", "next"),
    [
        (Status("r1", healthy=True, serving_version="2"), ""),
        (Status("r1"), "daybook run rollback -p env staging"),
        (Status(), "daybook run first-deploy -p env staging"),
        (Status("r1", interrupted={"phase": "switch"}), "on web-1: sudo release repair"),
        (Status("r1", healthy=True, maintenance=True), "on web-1: sudo release maintenance off"),
    ],
)
def test_a_release_is_judged_by_what_serves(step, monkeypatch, status, next):
    monkeypatch.setattr(Host, "status", lambda self: status)
    assert step._release(host()).next == next


@pytest.mark.parametrize(
    ("known", "said"),
    [
        ([], "does not know it"),
        ([github.Runner(1, "web-1", "offline")], "offline"),
        ([github.Runner(1, "web-1", "online", busy=True)], "online, busy"),
    ],
)
def test_github_says_whether_it_reaches_the_runner(step, monkeypatch, known, said):
    here = SimpleNamespace(runners=lambda: known)
    monkeypatch.setattr(diagnose.github, "repository", lambda *_: here)
    monkeypatch.setattr(diagnose.states, "of", lambda *_: [host()])
    [seen] = step._runners()
    assert (seen.said, bool(seen.next)) == (said, "online" not in said)


def test_a_github_that_refuses_is_one_row(step, monkeypatch):
    def refuse(*_):
        raise CommandFailed("GitHub refuses", next="make a new token")

    monkeypatch.setattr(diagnose.github, "repository", refuse)
    assert list(step._runners()) == [Finding("GitHub", "GitHub refuses", "make a new token")]


def test_what_is_not_well_stands_on_top_and_ends_the_run(step):
    step._plan = Diagnosis("diagnose staging", (WELL, ILL))
    said = ui.text(step._plan)
    assert said.index(ILL.what) < said.index(WELL.what)
    with pytest.raises(VerifyFailed, match="1 things of staging") as caught:
        step.look()
    assert caught.value.next == ILL.next
    step._plan = Diagnosis("diagnose staging", (WELL,))
    assert "all is well" in ui.text(step.look())
