"""The releases, state and lock that a host stores."""

from __future__ import annotations

import stat
import subprocess
import sys

import pytest

from daybook_release import store as store_module
from daybook_release.errors import Locked
from daybook_release.store import LockingProcess, Release, ReleaseStore

IMAGE = f"registry/shop@sha256:{'0f1fb3d2' * 8}"
HOLDER = LockingProcess(1, 2, "deploy")
MOMENT = 1_795_475_400.0


@pytest.fixture
def store(tmp_path) -> ReleaseStore:
    return ReleaseStore(tmp_path / "shop", tmp_path / "lock")


def release(id: str = "20261123T231000Z-0f1fb3d2", **facts) -> Release:
    usual = {"by": "ann", "run": "", "at": "2026-11-23T23:10:00Z", "settings": "sha256:1"}
    return Release(id, IMAGE, "v1", "c1", **usual, **facts)


def test_a_release_is_read_as_it_was_written(store):
    written = store.write(release(secrets={"TOKEN": 3}, again=({"at": "x", "by": "bob"},)))
    assert store.all() == [written] == [store.find(written.id)]


def test_ids_sort_by_time():
    assert store_module.new_id(MOMENT, IMAGE) == "20261123T231000Z-0f1fb3d2"
    assert store_module.new_id(MOMENT, IMAGE) < store_module.new_id(MOMENT + 1, IMAGE)


def test_a_second_release_in_the_same_second_has_its_own_id(store):
    first = store.unused_id(MOMENT, IMAGE)
    store.write(release(first))
    assert first < store.unused_id(MOMENT, IMAGE)
    assert store.read(first).id == first


@pytest.mark.parametrize("id", ["", None, "../shop", "nothing"])
def test_an_id_without_a_release_is_not_found(store, id):
    store.write(release())
    assert store.find(id) is None


def test_the_current_release_changes_atomically(store):
    assert store.current is None
    for id in ("1-a", "2-b"):
        store.write(release(id))
        store.make_current(id)
        assert store.current.id == id


def test_the_state_is_empty_before_and_after_a_rollout(store):
    store.root.mkdir()
    assert store.state == {}
    store.save_state(phase="start", id="1-a")
    assert store.state == {"phase": "start", "id": "1-a"}
    store.clear_state()
    assert store.state == {}


def test_environments_are_private_and_deleted_with_their_slot(store):
    for id in ("1-a", "2-b"):
        store.put(id, "environment.json", '{"TOKEN": "x"}', mode=0o600)
    path = store.folder("1-a") / "environment.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    store.delete_environments(except_for=("2-b",))
    assert store.environment("1-a") is None
    assert store.environment("2-b") == {"TOKEN": "x"}


def test_a_partly_written_file_is_never_read(store, tmp_path):
    store.put("1-a", "x", "old")
    (store.folder("1-a") / ".x.new").write_text("ne")
    assert store.text("1-a", "x") == "old"
    store.put("1-a", "x", "new")
    assert store.text("1-a", "x") == "new"


def test_the_lock_is_exclusive_and_child_processes_keep_it(store):
    store.root.mkdir()
    store.save_state(id="1-a", since="now", by="bob")
    with store.locked(HOLDER) as descriptor:
        child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=-1, pass_fds=[descriptor])
        with pytest.raises(Locked, match="1-a, started by bob at now"):
            store.locked(HOLDER).__enter__()
    assert store.is_locked()
    assert store.holder() == HOLDER
    child.communicate(b"\n")
    assert not store.is_locked()


@pytest.mark.parametrize("text", ["", "x", "[]", '{"pid": 1}'])
def test_an_invalid_lock_file_has_no_holder(store, text):
    store.lock_path.write_text(text)
    assert store.holder() is None
