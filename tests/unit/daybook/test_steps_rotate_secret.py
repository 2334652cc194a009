"""What rotating a secret would do, and what it asks a person."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from moto import mock_aws

from daybook.approval import gate
from daybook.environment import Environment
from daybook.errors import ApplyFailed, PreflightFailed, SettingsError
from daybook.hosts.client import HostStatus, Release
from daybook.hosts.states import HostState
from daybook.secrets import Store
from daybook.settings import Settings
from daybook.steps import rotate_secret
from daybook.steps.rotate_secret import RotateSecret
from daybook.target import Target

SETTINGS = Settings(
    app="hello",
    account="sandbox",
    dns_zone="daybook.test",
    domains=("staging.daybook.test",),
    vpc_cidr="10.20.0.0/16",
    ssh_allowed_cidrs=(),
    secrets={"KEY": "opens the door"},
)
DIGEST = f"sha256:{'1' * 64}"


class Step(RotateSecret):
    """A rotation whose hosts are what a test says."""

    def host_states(self):
        return self.found

    def by(self):
        return "Ann"


def host(name: str, version: int, *, healthy: bool = True, image: str = DIGEST) -> HostState:
    release = Release("id", f"r@{image}", "v1", "serving", secrets={"KEY": version})
    return HostState(SimpleNamespace(name=name), HostStatus("id", healthy=healthy), (release,))


@pytest.fixture
def step():
    """Return a step with a store of its own, in which KEY was set twice."""
    with mock_aws():
        it = object.__new__(Step)
        target = Target("sandbox", "123456789012", "us-east-1", {})
        it._environment = Environment("staging", Path(), SETTINGS, target)
        it.parameters = RotateSecret.Parameters(name="KEY")
        it._plan, it.written, it.hidden = None, [], {}
        it.lock = SimpleNamespace(verify_held=lambda: None)
        it.run = SimpleNamespace(
            title="secrets staging",
            id="r1",
            environment=it._environment,
            changed=lambda **facts: it.written.append(facts["what"]),
            hide=it.hidden.__setitem__,
        )
        for value in ("one", "two"):
            Store(it._environment).put("KEY", value, "Ann")
        yield it


@pytest.fixture
def operator(monkeypatch):
    """Simulate an operator at the terminal; return the list of their input."""
    typed: list[str] = []
    monkeypatch.setattr(gate, "is_interactive", lambda: True)
    monkeypatch.setattr(rotate_secret.getpass, "getpass", lambda _prompt: typed.pop(0))
    return typed


def planned(step, *found: HostState) -> list[tuple[str, str]]:
    step.found = found
    step._plan = step.make_plan()
    return [(change.action, change.address) for change in step._plan.changes]


def test_a_value_that_runs_nowhere_yet_is_rolled_out_and_the_one_before_retired(step):
    assert planned(step, host("web-1", 1), host("web-2", 2)) == [
        ("release", "web-1"),
        ("retire", "/hello/staging/KEY version 1"),
    ]
    assert step._plan.basis["secrets"] == {"KEY": 2}


def test_what_runs_everywhere_and_is_all_retired_needs_nothing(step):
    step._store.retire("KEY", 1)
    assert planned(step, host("web-1", 2)) == []


def test_where_somebody_can_type_a_new_value_is_proposed(step, operator):
    assert planned(step, host("web-1", 2)) == [
        ("set", "/hello/staging/KEY version 3"),
        ("release", "web-1"),
        ("retire", "/hello/staging/KEY version 2"),
        ("retire", "/hello/staging/KEY version 1"),
    ]
    assert planned(step, host("web-1", 1))[0] == ("release", "web-1")


def test_a_typed_value_is_set_and_hidden(step, operator):
    planned(step, host("web-1", 2))
    operator += ["three", "three"]
    step._set(3)
    assert step._store.values() == {"KEY": "three"}
    assert step.hidden == {"KEY": "three"}
    assert step.written == ["/hello/staging/KEY version 3"]


@pytest.mark.parametrize("typed", [["three", "tree"], ["  "]])
def test_a_value_that_cannot_be_meant_is_not_set(step, operator, typed):
    operator += typed
    with pytest.raises(SettingsError):
        step._set(3)
    assert step._store.values() == {"KEY": "two"}


def test_somebody_elses_new_value_stops_it(step, operator):
    planned(step, host("web-1", 2))
    step._store.put("KEY", "theirs", "Ben")
    operator += ["three", "three"]
    with pytest.raises(ApplyFailed, match="KEY was set by someone else"):
        step._set(3)


def test_without_anybody_nothing_is_asked(step):
    with pytest.raises(SettingsError, match="KEY must be entered interactively"):
        step._set(3)


def test_hosts_that_serve_different_releases_are_not_touched(step):
    other = host("web-2", 1, image=f"sha256:{'2' * 64}")
    with pytest.raises(PreflightFailed, match="serve different releases or none"):
        planned(step, host("web-1", 1), other)


def test_nothing_is_retired_while_a_host_has_it(step):
    planned(step, host("web-1", 1))
    with pytest.raises(ApplyFailed, match="web-1 has another value"):
        step.look()
    assert not any(version.is_retired for version in step._store.history("KEY"))
