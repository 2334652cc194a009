"""A release that is struck at any point: the old version serves, or the new one does, and soon."""

from __future__ import annotations

import time

import httpx
import pytest

pytestmark = [pytest.mark.sandbox, pytest.mark.timeout(900)]

UNDONE = ("accessories", "migrate", "start", "check", "switch", "outside", "workers", "commit")
STRIKES = [(when, step) for step in (*UNDONE, "drain") for when in ("before", "after")]
QUICK = [("after", "start"), ("after", "switch"), ("before", "commit"), ("after", "commit")]
BACK_S = 10.0


def each_strike():
    for when, step in STRIKES:
        marks = () if (when, step) in QUICK else (pytest.mark.faults,)
        yield pytest.param(when, step, marks=marks, id=f"{when}-{step}")


@pytest.fixture(autouse=True)
def good(host):
    """Begin with the first image, serving."""
    host.deploy("one")
    assert host.serving["version"] == "one"


def expected(when: str, step: str) -> str:
    """Return what serves in the end: the moment that decides is the end of commit."""
    return "two" if (when, step) == ("after", "commit") or step == "drain" else "one"


def assert_whole(host, version: str) -> None:
    """One version serves, with its worker; nothing else runs and nothing is left to do."""
    assert host.serving["version"] == version
    status = host.status
    assert (status["healthy"], status["interrupted"], status["deploying"]) == (True, None, None)
    current = next(each for each in host.list if each["current"])
    assert (current["version"], current["result"]) == (version, "serving")
    others = [each["result"] for each in host.list if not each["current"]]
    assert "serving" not in others
    assert "" not in others
    id = status["current"]
    assert host.running == {f"web-{current['slot']}": id, "worker": id, "store": ""}


@pytest.mark.parametrize(("when", "step"), each_strike())
def test_a_killed_release_is_told_and_repaired(host, when, step):
    assert host.strike("kill", when, step, "deploy", "two").code != 0
    assert host.serving["version"] in ("one", "two")
    assert host.status["interrupted"]["phase"] == step
    assert host.release("repair").code == 0
    assert_whole(host, expected(when, step))


@pytest.mark.faults
@pytest.mark.parametrize(("when", "step"), STRIKES)
def test_a_killed_rollback_is_repaired_by_the_next_release(host, when, step):
    host.deploy("two")
    host.strike("kill", when, step, "rollback")
    assert host.serving["version"] in ("one", "two")
    host.deploy("one")
    assert_whole(host, "one")


def test_an_interrupted_release_is_undone_at_once(host):
    done = host.strike("'kill -TERM $PPID'", "before", "outside", "deploy", "two")
    assert (done.code, "Interrupted by SIGTERM" in done.said) == (130, True)
    assert_whole(host, "one")


def test_when_caddy_is_down_nothing_begins(host):
    host.sh("systemctl stop caddy")
    done = host.release("deploy", "two")
    host.sh("systemctl start caddy")
    assert (done.code, done.next) == (3, "Next: sudo systemctl start caddy; sudo release status")
    assert_whole(host, "one")


def test_when_caddy_goes_down_in_the_middle_it_comes_back_with_the_old_version(host):
    done = host.strike("'systemctl stop caddy'", "before", "switch", "deploy", "two")
    assert done.code == 6, done.said
    assert done.next
    assert_whole(host, "one")


def test_a_disk_that_is_full_during_the_pull_is_told(host):
    host.sh("mount -t tmpfs -o size=1m none /var/lib/docker/tmp")
    done = host.release("deploy", "large")
    host.sh("umount /var/lib/docker/tmp")
    assert (done.code, done.next) == (3, "Next: sudo release prune"), done.said
    assert_whole(host, "one")


@pytest.mark.faults
@pytest.mark.parametrize("step", ["accessories", "migrate", "start", "workers"])
def test_an_engine_that_restarts_in_the_middle_does_no_harm(host, step):
    again = "systemd-run --quiet --on-active=2 systemctl start docker"
    stop = f"'{again}; systemctl stop docker.socket docker'"
    done = host.strike(stop, "before", step, "deploy", "two")
    assert done.code in (6, 7), done.said
    assert done.next
    assert_whole(host, "one")


@pytest.mark.faults
@pytest.mark.parametrize(("when", "step"), STRIKES)
def test_after_a_power_cut_a_version_serves_within_seconds(host, power, when, step):
    with host.held(step, "deploy", "two", when=when):
        power.cut()
    power.back()
    began = time.monotonic()
    while not _answers(host):
        assert time.monotonic() - began < BACK_S
    host.eventually(lambda: host.status["interrupted"] is None)
    host.eventually(lambda: host.status["deploying"] is None)
    assert_whole(host, expected(when, step))


@pytest.mark.faults
def test_after_a_reboot_the_same_version_serves(host, power):
    power.cut()
    power.back()
    host.eventually(lambda: _answers(host), within_s=BACK_S)
    host.eventually(lambda: host.sh("systemctl is-active release-repair || true") == "inactive")
    assert_whole(host, "one")


def _answers(host) -> bool:
    try:
        return host.visit().status_code == 200
    except httpx.HTTPError:
        return False
