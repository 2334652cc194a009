"""Faults at any step of a release: the old or the new version serves again soon."""

from __future__ import annotations

import time

import httpx
import pytest

pytestmark = [pytest.mark.sandbox, pytest.mark.timeout(900)]

UNDONE = ("accessories", "migrate", "start", "check", "switch", "outside", "workers", "commit")
FAULTS = [(when, step) for step in (*UNDONE, "drain") for when in ("before", "after")]
QUICK = [("after", "start"), ("after", "switch"), ("before", "commit"), ("after", "commit")]
BACK_S = 10.0


def fault_points():
    for when, step in FAULTS:
        marks = () if (when, step) in QUICK else (pytest.mark.faults,)
        yield pytest.param(when, step, marks=marks, id=f"{when}-{step}")


@pytest.fixture(autouse=True)
def good(host):
    """Release the first image."""
    host.deploy("one")
    assert host.serving["version"] == "one"


def expected(when: str, step: str) -> str:
    """Return the version that finally serves; the end of commit decides."""
    return "two" if (when, step) == ("after", "commit") or step == "drain" else "one"


def assert_whole(host, version: str) -> None:
    """Assert that one version serves with its worker, and no repair is pending."""
    assert host.serving["version"] == version
    status = host.status
    assert (status["healthy"], status["interrupted"], status["deploying"]) == (True, None, None)
    current = next(release for release in host.list if release["current"])
    assert (current["version"], current["result"]) == (version, "serving")
    others = [release["result"] for release in host.list if not release["current"]]
    assert "serving" not in others
    assert "" not in others
    id = status["current"]
    assert host.running == {f"web-{current['slot']}": id, "worker": id, "store": ""}


@pytest.mark.parametrize(("when", "step"), fault_points())
def test_a_killed_release_is_reported_and_repaired(host, when, step):
    assert host.release_with_fault("kill", when, step, "deploy", "two").code != 0
    assert host.serving["version"] in ("one", "two")
    assert host.status["interrupted"]["phase"] == step
    assert host.release("repair").code == 0
    assert_whole(host, expected(when, step))


@pytest.mark.faults
@pytest.mark.parametrize(("when", "step"), FAULTS)
def test_a_killed_rollback_is_repaired_by_the_next_release(host, when, step):
    host.deploy("two")
    host.release_with_fault("kill", when, step, "rollback")
    assert host.serving["version"] in ("one", "two")
    host.deploy("one")
    assert_whole(host, "one")


def test_an_interrupted_release_is_undone_immediately(host):
    done = host.release_with_fault("'kill -TERM $PPID'", "before", "outside", "deploy", "two")
    assert (done.code, "Interrupted by SIGTERM" in done.output) == (130, True)
    assert_whole(host, "one")


def test_a_release_is_refused_while_caddy_is_down(host):
    host.sh("systemctl stop caddy")
    done = host.release("deploy", "two")
    host.sh("systemctl start caddy")
    assert (done.code, done.next) == (3, "Next: sudo systemctl start caddy; sudo release status")
    assert_whole(host, "one")


def test_if_caddy_stops_during_a_release_it_restarts_with_the_old_version(host):
    done = host.release_with_fault("'systemctl stop caddy'", "before", "switch", "deploy", "two")
    assert done.code == 6, done.output
    assert done.next
    assert_whole(host, "one")


def test_a_full_disk_during_the_pull_is_reported(host):
    host.sh("mount -t tmpfs -o size=1m none /var/lib/docker/tmp")
    done = host.release("deploy", "large")
    host.sh("umount /var/lib/docker/tmp")
    assert (done.code, done.next) == (3, "Next: sudo release prune"), done.output
    assert_whole(host, "one")


@pytest.mark.faults
@pytest.mark.parametrize("step", ["accessories", "migrate", "start", "workers"])
def test_a_restart_of_docker_during_a_release_is_harmless(host, step):
    again = "systemd-run --quiet --on-active=2 systemctl start docker"
    stop = f"'{again}; systemctl stop docker.socket docker'"
    done = host.release_with_fault(stop, "before", step, "deploy", "two")
    assert done.code in (6, 7), done.output
    assert done.next
    assert_whole(host, "one")


@pytest.mark.faults
@pytest.mark.parametrize(("when", "step"), FAULTS)
def test_after_a_power_cut_a_version_serves_within_seconds(host, power, when, step):
    with host.held(step, "deploy", "two", when=when):
        power.cut()
    power.restore()
    began = time.monotonic()
    while not _answers(host):
        assert time.monotonic() - began < BACK_S
    host.eventually(lambda: host.status["interrupted"] is None)
    host.eventually(lambda: host.status["deploying"] is None)
    assert_whole(host, expected(when, step))


@pytest.mark.faults
def test_after_a_reboot_the_same_version_serves(host, power):
    power.cut()
    power.restore()
    host.eventually(lambda: _answers(host), within_s=BACK_S)
    host.eventually(lambda: host.sh("systemctl is-active release-repair || true") == "inactive")
    assert_whole(host, "one")


def _answers(host) -> bool:
    try:
        return host.visit().status_code == 200
    except httpx.HTTPError:
        return False
