"""Actions on hosts before they are destroyed."""

from __future__ import annotations

import pytest

from daybook.errors import SettingsError
from daybook.resources import instances
from daybook.resources.snapshots import FinalSnapshots
from daybook.target import Target

TARGET = Target("sandbox", "123456789012", "us-east-1", {})
ROOT = instances.Disk("vol-1", "/dev/xvda", 20)
DATA = instances.Disk("vol-2", "/dev/sdf", 100)
HOST = instances.Instance("i-1", "web-1", "running", False, (ROOT, DATA))


def host(**changes) -> instances.Instance:
    return instances.Instance(**{**vars(HOST), **changes})


def actions(snapshots: FinalSnapshots) -> list[str]:
    return [f"{each.action} {each.address.partition(',')[0]}" for each in snapshots.changes()]


@pytest.mark.parametrize(
    ("found", "skipped", "expected"),
    [
        (HOST, (), ["stop web-1 (i-1)", "snapshot vol-1", "snapshot vol-2"]),
        (HOST, ("vol-1",), ["stop web-1 (i-1)", "discard vol-1", "snapshot vol-2"]),
        (HOST, ("web-1",), ["discard vol-1", "discard vol-2"]),
        (HOST, ("all",), ["discard vol-1", "discard vol-2"]),
        (host(state="stopped", disks=(ROOT,)), (), ["snapshot vol-1"]),
        (
            host(state="stopped", disks=(instances.Disk("vol-1", "/dev/xvda", 20, "snap-1"),)),
            (),
            ["keep vol-1"],
        ),
        (
            host(is_protected=True, disks=()),
            (),
            ["lift termination protection of web-1"],
        ),
    ],
)
def test_changes_state_the_fate_of_each_disk(found, skipped, expected):
    assert actions(FinalSnapshots((found,), frozenset(skipped))) == expected


def test_an_unknown_name_in_skipped_is_rejected():
    FinalSnapshots((HOST,), frozenset({"vol-1", "web-1", "i-1", "all"})).require_names()
    with pytest.raises(SettingsError, match="vol-9") as caught:
        FinalSnapshots((HOST,), frozenset({"vol-1", "vol-9"})).require_names()
    assert "web-1" in caught.value.expected


def test_actions_are_carried_out_in_order(monkeypatch):
    done: list[object] = []
    monkeypatch.setattr(
        instances, "unprotect", lambda _target, host: done.append(f"lift {host.id}")
    )
    monkeypatch.setattr(instances, "stop", lambda _target, ids: done.append(f"stop {ids}"))
    monkeypatch.setattr(instances, "snapshot", lambda *args: f"snap of {args[2].id}")
    monkeypatch.setattr(instances, "wait", lambda _target, made: done.append(made))
    said: list[str] = []
    snapshots = FinalSnapshots((host(is_protected=True),), frozenset({"vol-2"}))
    snapshots.carry_out(TARGET, {}, lambda what, detail: said.append(f"{what} {detail}"))
    assert done == ["lift i-1", "stop ['i-1']", ["snap of vol-1"]]
    assert said == [
        "lifted termination protection of web-1",
        "stopped web-1",
        "snapshot snap of vol-1 of vol-1, /dev/xvda of web-1, 20 GiB",
        "no snapshot of vol-2, /dev/sdf of web-1, 100 GiB: skipped by parameter",
    ]
