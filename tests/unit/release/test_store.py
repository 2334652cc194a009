"""What the host keeps of its releases."""

from __future__ import annotations

import stat
import subprocess
import sys

import pytest

from daybook_release import store
from daybook_release.errors import Locked
from daybook_release.store import LockingProcess, Release, ReleaseStore

IMAGE = f"registry/shop@sha256:{'0f1fb3d2' * 8}"
HOLDER = LockingProcess(1, 2, "deploy")
MOMENT = 1_795_475_400.0


@pytest.fixture
def kept(tmp_path) -> ReleaseStore:
    return ReleaseStore(tmp_path / "shop", tmp_path / "lock")


def release(id: str = "20261123T231000Z-0f1fb3d2", **facts) -> Release:
    usual = {"by": "ann", "run": "", "at": "2026-11-23T23:10:00Z", "settings": "sha256:1"}
    return Release(id, IMAGE, "v1", "c1", **usual, **facts)


def test_a_release_comes_back_as_it_was(kept):
    written = kept.write(release(secrets={"TOKEN": 3}, again=({"at": "x", "by": "bob"},)))
    assert kept.all() == [written] == [kept.find(written.id)]


def test_ids_sort_by_time():
    assert store.new_id(MOMENT, IMAGE) == "20261123T231000Z-0f1fb3d2"
    assert store.new_id(MOMENT, IMAGE) < store.new_id(MOMENT + 1, IMAGE)


@pytest.mark.parametrize("id", ["", None, "../shop", "nothing"])
def test_what_is_no_release_is_not_found(kept, id):
    kept.write(release())
    assert kept.find(id) is None


def test_current_is_a_link_that_moves_at_once(kept):
    assert kept.current is None
    for id in ("1-a", "2-b"):
        kept.write(release(id))
        kept.make_current(id)
        assert kept.current.id == id


def test_state_is_empty_until_something_goes_on_and_again_after_it(kept):
    kept.root.mkdir()
    assert kept.state == {}
    kept.note(phase="start", id="1-a")
    assert kept.state == {"phase": "start", "id": "1-a"}
    kept.note()
    assert kept.state == {}


def test_environments_are_private_and_go_with_their_slot(kept):
    for id in ("1-a", "2-b"):
        kept.put(id, "environment.json", '{"TOKEN": "x"}', mode=0o600)
    path = kept.folder("1-a") / "environment.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    kept.keep_environments("2-b")
    assert kept.environment("1-a") is None
    assert kept.environment("2-b") == {"TOKEN": "x"}


def test_a_half_written_file_is_never_seen(kept, tmp_path):
    kept.put("1-a", "x", "old")
    (kept.folder("1-a") / ".x.new").write_text("ne")
    assert kept.text("1-a", "x") == "old"
    kept.put("1-a", "x", "new")
    assert kept.text("1-a", "x") == "new"


def test_the_lock_is_held_by_one_and_outlives_a_kill_with_the_commands_started_under_it(kept):
    kept.root.mkdir()
    kept.note(id="1-a", since="now", by="bob")
    with kept.locked(HOLDER) as descriptor:
        child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=-1, pass_fds=[descriptor])
        with pytest.raises(Locked, match="1-a is being released since now by bob"):
            kept.locked(HOLDER).__enter__()
    assert kept.is_locked()
    assert kept.holder() == HOLDER
    child.communicate(b"\n")
    assert not kept.is_locked()


@pytest.mark.parametrize("text", ["", "x", "[]", '{"pid": 1}'])
def test_a_lock_without_a_holder_s_words_has_none(kept, text):
    kept.lock_path.write_text(text)
    assert kept.holder() is None
