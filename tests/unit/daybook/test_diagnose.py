"""What diagnose makes of what it sees."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from daybook import github, process, settings, ui
from daybook.environment import Environment
from daybook.errors import CommandFailed, VerifyFailed
from daybook.hosts.client import Host, HostStatus
from daybook.plan import Change
from daybook.steps.diagnose import Diagnose, Diagnosis, Finding
from daybook.target import Target

ROOT = Path(__file__).parents[3]
TARGET = Target("sandbox", "123456789012", "us-east-1", {})
WELL = Finding("web-1: disk", "40 % full")
ILL = Finding("web-1: runner", "failed", "daybook run configure -p env staging")


@pytest.fixture
def step():
    """Return a step that looks at nothing real."""
    step = object.__new__(Diagnose)
    chosen = settings.load(ROOT, "staging").model_copy(update={"deploy_via": "runner"})
    step._environment = Environment("staging", ROOT, chosen, TARGET)
    step.run = SimpleNamespace(title="diagnose staging", environment=step._environment)
    return step


def host(start: process.Start = process.run) -> Host:
    return Host("web-1", "203.0.113.9", Path("/key"), Path("/known"), {}, start)


def facts(step, *lines: str) -> dict[str, Finding]:
    def start(command, *, on_line, **_options):
        for line in lines:
            on_line(line)

    return {finding.subject: finding for finding in step._facts(host(start))}


def test_a_host_that_is_well_has_nothing_to_do(step):
    findings = facts(step, " 40%", "active", "active", "active", "Listening for Jobs")
    assert [each.next for each in findings.values()] == [""] * 4
    assert findings["web-1: runner"].observed == "active; Listening for Jobs"


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
    problems = [each for each in facts(step, *lines).values() if each.next]
    assert [each.subject for each in problems] == [f"web-1: {what}"]


@pytest.mark.parametrize(
    ("status", "next"),
    [
        (HostStatus("r1", healthy=True, serving_version="2"), ""),
        (HostStatus("r1"), "daybook run rollback -p env staging"),
        (HostStatus(), "daybook run first-deploy -p env staging"),
        (HostStatus("r1", interrupted={"phase": "switch"}), "on web-1: sudo release repair"),
        (
            HostStatus("r1", healthy=True, maintenance=True),
            "on web-1: sudo release maintenance off",
        ),
    ],
)
def test_a_release_is_judged_by_what_serves(step, monkeypatch, status, next):
    monkeypatch.setattr(Host, "status", lambda self: status)
    assert step._release(host()).next == next


@pytest.mark.parametrize(
    ("known", "observed"),
    [
        ([], "not registered"),
        ([github.Runner(1, "web-1", "offline")], "offline"),
        ([github.Runner(1, "web-1", "online", busy=True)], "online, busy"),
    ],
)
def test_github_says_whether_it_reaches_the_runner(step, monkeypatch, known, observed):
    repository = SimpleNamespace(runners=lambda: known)
    monkeypatch.setattr(github, "repository", lambda _environment: repository)
    monkeypatch.setattr(Environment, "hosts", (host(),))
    [finding] = step._runners()
    assert (finding.observed, bool(finding.next)) == (observed, "online" not in observed)


def test_a_github_that_refuses_is_one_row(step, monkeypatch):
    def refuse(_environment):
        raise CommandFailed("GitHub refuses", next="make a new token")

    monkeypatch.setattr(github, "repository", refuse)
    assert list(step._runners()) == [Finding("GitHub", "GitHub refuses", "make a new token")]


def diagnosis(step, monkeypatch, *findings: Finding) -> Diagnosis:
    """Return what the step makes of these findings of its hosts."""
    monkeypatch.setattr(step, "_hosts", lambda: findings)
    for nothing in ("_runners", "_from_outside"):
        monkeypatch.setattr(step, nothing, lambda: ())
    return step.make_plan()


def test_problems_stand_on_top_and_end_the_run(step, monkeypatch):
    step._plan = diagnosis(step, monkeypatch, WELL, ILL)
    assert step._plan.changes == (Change("problem", ILL.subject, ILL.observed),)
    said = ui.text(step._plan)
    assert said.index(ILL.subject) < said.index(WELL.subject)
    with pytest.raises(VerifyFailed, match="1 problem found in staging") as caught:
        step.look()
    assert caught.value.next == ILL.next
    healthy = diagnosis(step, monkeypatch, WELL)
    assert healthy.is_empty
    assert healthy.digest != step._plan.digest
    step._plan = healthy
    assert "no problem found" in ui.text(step.look())
