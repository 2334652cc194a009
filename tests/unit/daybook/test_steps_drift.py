"""Drift says when Ansible could not check the hosts."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from daybook.steps import drift


@pytest.fixture
def step(monkeypatch):
    """Return a step whose hosts have the states that a test sets."""
    it = object.__new__(drift.Drift)
    it._environment = SimpleNamespace(name="staging")
    it.run = SimpleNamespace(environment=it._environment)
    it.states = {}
    monkeypatch.setattr(
        drift.instances,
        "instances_of",
        lambda _environment: [SimpleNamespace(id=id, state=it.states[id]) for id in it.states],
    )
    return it


HOSTS = [{"id": "i-1", "name": "web-1"}, {"id": "i-2", "name": "web-2"}]


def test_running_hosts_are_no_difference(step):
    step.states |= {"i-1": "running", "i-2": "running"}
    assert list(step._not_running(HOSTS)) == []


@pytest.mark.parametrize("state", ["stopped", "terminated", None])
def test_a_host_that_does_not_run_is_shown_with_the_check_that_it_prevents(step, state):
    step.states |= {"i-1": "running"} | ({"i-2": state} if state else {})
    host, ansible = step._not_running(HOSTS)
    assert (host.address, host.action) == ("web-2", f"is {state or 'gone'}")
    assert (ansible.seen_by, ansible.action) == ("Ansible", "not checked")
