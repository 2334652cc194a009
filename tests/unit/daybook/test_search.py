"""The index lists and searches runs, and is always up to date with runs/."""

from __future__ import annotations

import shutil

import pytest

from daybook.errors import SettingsError
from daybook.record import journal
from daybook.record.search import INDEX, Archive, Filters, parse_time


@pytest.fixture
def archive(tmp_path) -> Archive:
    (tmp_path / "runs").mkdir()
    return Archive(tmp_path)


def runs(rows) -> list[str]:
    return [row.run for row in rows]


def test_new_runs_are_listed_newest_first(archive, closed_run):
    assert archive.list() == []
    closed_run("20261101T000000Z-provision-aaaaaa")
    assert archive.list()[0].status == "succeeded"
    closed_run("20261102T000000Z-provision-bbbbbb", status="failed")
    assert [row.status for row in archive.list()] == ["failed", "succeeded"]


def test_an_open_run_is_listed_with_its_current_status(archive, open_run):
    run = open_run("r1")
    assert archive.list()[0].status == "running"
    run.write("status", status="waiting", ename="ApprovalNeeded")
    assert archive.list()[0].status == "waiting"
    run.close("interrupted")
    assert archive.list()[0].status == "interrupted"


def test_a_run_with_an_exited_kernel_is_interrupted(archive, open_run):
    open_run("r1", kernel={"pid": 2**22 + 1, "started": 1.0, "host": journal_host()})
    assert archive.list()[0].status == "interrupted"


def test_filters(archive, closed_run):
    closed_run("r1", step="provision")
    closed_run("r2", step="teardown", status="failed")
    closed_run("r3", environment="production", operator={"user": "bob", "name": "Bob"})
    assert runs(archive.list(Filters(step="teardown"))) == ["r2"]
    assert runs(archive.list(Filters(status="failed"))) == ["r2"]
    assert runs(archive.list(Filters(environment="production"))) == ["r3"]
    assert runs(archive.list(Filters(operator="ann@"))) == ["r2", "r1"]
    assert runs(archive.list(Filters(since="1h"))) == ["r3", "r2", "r1"]
    assert runs(archive.list(Filters(until="2020-01-01"))) == []
    assert runs(archive.list(limit=1)) == ["r3"]


def test_search_finds_words_in_facts_and_outputs(archive, closed_run):
    closed_run("r1")
    closed_run("r2", parameters={"host": "10.20.0.4", "note": 'say "hé"'})
    assert runs(archive.search("one to create")) == ["r2", "r1"]
    assert runs(archive.search("10.20.0.4")) == ["r2"]
    assert runs(archive.search("plan-0123")) == ["r2", "r1"]
    assert runs(archive.search('"he"')) == ["r2"]
    assert runs(archive.search("nowhere")) == []
    assert "«one»" in archive.search("one")[0].excerpt
    assert runs(archive.search("one", Filters(step="teardown"))) == []


def test_a_removed_run_disappears_and_a_deleted_index_is_rebuilt(archive, closed_run, tmp_path):
    folders = [closed_run("r1"), closed_run("r2")]
    assert len(archive.list()) == 2
    for path in [folders[0], *folders[0].rglob("*")]:
        path.chmod(0o755)
    shutil.rmtree(folders[0])
    assert runs(archive.list()) == ["r2"]
    assert archive.search("r1") == []
    (tmp_path / "runs" / INDEX).unlink()
    assert runs(Archive(tmp_path).list()) == ["r2"]
    (tmp_path / "runs" / INDEX).write_text("garbage" * 1000)
    assert runs(Archive(tmp_path).list()) == ["r2"]


def test_a_run_is_found_by_the_first_or_last_part_of_its_id(archive, closed_run):
    first = closed_run("20261101T000000Z-provision-aaaaaa")
    second = closed_run("20261102T000000Z-provision-bbbbbb")
    assert archive.find("aaaaaa") == first
    assert archive.find("20261102") == second
    assert archive.find() == second
    with pytest.raises(SettingsError, match="2026 matches more than one run") as failed:
        archive.find("2026")
    assert "aaaaaa" in failed.value.observed
    with pytest.raises(SettingsError, match="cccccc matches no run"):
        archive.find("cccccc")


@pytest.mark.parametrize("text", ["yesterday", "7y", ""])
def test_an_invalid_time_is_refused(text):
    with pytest.raises(SettingsError, match="is not a time"):
        parse_time(text)


def journal_host() -> str:
    import socket

    return socket.gethostname()


def test_a_folder_that_is_not_a_run_is_ignored(archive, tmp_path):
    (tmp_path / "runs/staging/notes").mkdir(parents=True)
    (tmp_path / "runs/staging/empty").mkdir()
    (tmp_path / "runs/staging/empty" / journal.NAME).write_text("")
    assert [row.status for row in archive.list()] == ["interrupted"]
