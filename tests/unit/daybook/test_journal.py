"""The journal is chained and redacted, and survives truncation and a full disk."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from daybook.errors import CommandFailed
from daybook.record import journal
from daybook.record.journal import Journal
from daybook.record.redact import Redactor

SAME_FOLDER = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return a closed journal of five lines."""
    writer = Journal.create(tmp_path, {"run": "r1", "step": "provision"})
    writer.write("phase", name="plan", state="started")
    writer.write("output", cell=1, type="stream", name="stdout", text="zwölf\nlines\n")
    writer.write("note", what="x")
    writer.close("succeeded")
    return tmp_path / journal.NAME


def test_every_line_has_the_hash_of_the_previous_line(path):
    entries = journal.read(path)
    assert [line["kind"] for line in entries.lines] == ["header", "phase", "output", "note", "end"]
    assert entries.lines[0]["prev"] == journal.FIRST
    assert (entries.end["status"], entries.cut) == ("succeeded", b"")
    assert journal.verify(path) == ()


def test_nothing_is_written_after_the_end(path):
    writer = Journal.create(path.parent / "other", {})
    writer.close("failed", "why")
    writer.write("note", what="late")
    assert journal.read(writer.path).end["reason"] == "why"


def test_a_secret_never_reaches_the_file(tmp_path):
    redactor = Redactor()
    redactor.add("DB", "hunter2-secret")
    writer = Journal.create(tmp_path, {"parameters": {"p": "hunter2-secret"}}, redactor)
    writer.write("tool_start", number=1, args=["x", "--pw=hunter2-secret"])
    assert b"hunter2" not in writer.path.read_bytes()
    assert journal.read(writer.path).lines[1]["args"] == ["x", "--pw=[redacted:DB]"]


@SAME_FOLDER
@given(data=st.data())
def test_a_truncated_journal_is_read_to_its_last_complete_line_and_can_be_closed(path, data):
    content = path.read_bytes()
    first_line = content.index(b"\n") + 1
    size = data.draw(st.integers(first_line, len(content) - 1))
    cut = path.with_name("cut.jsonl")
    cut.write_bytes(content[:size])
    entries = journal.read(cut)
    assert len(entries.lines) == content[:size].count(b"\n")
    assert entries.end is None
    assert journal.verify(cut) != ()
    Journal.resume(cut).close("interrupted")
    assert journal.verify(cut) == ()
    closed = journal.read(cut)
    assert closed.end["status"] == "interrupted"
    assert closed.lines[: len(entries.lines)] == entries.lines
    assert any(line.get("what") == "cut" for line in closed.lines) == bool(entries.cut)
    cut.unlink()


@SAME_FOLDER
@given(data=st.data())
def test_any_edited_byte_is_detected(path, data):
    content = path.read_bytes()
    position = data.draw(st.integers(0, len(content) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda byte: byte != content[position]))
    edited = path.with_name("edited.jsonl")
    edited.write_bytes(content[:position] + bytes([byte]) + content[position + 1 :])
    if position < content[:-1].rindex(b"\n"):
        assert journal.verify(edited) != ()
    else:
        assert (
            journal.verify(edited) != () or journal.read(edited).lines != journal.read(path).lines
        )


@SAME_FOLDER
@given(order=st.lists(st.integers(0, 4), max_size=7).filter(lambda order: order != [0, 1, 2, 3, 4]))
def test_a_removed_repeated_or_moved_line_is_detected(path, order):
    lines = path.read_bytes().splitlines(keepends=True)
    edited = path.with_name("edited.jsonl")
    edited.write_bytes(b"".join(lines[number] for number in order))
    assert journal.verify(edited) != ()


def test_a_secret_registered_late_is_redacted_and_the_chain_rebuilt(path):
    redactor = Redactor()
    assert not journal.rewrite(path, redactor)
    redactor.add("OTHER", "provision-9")
    assert not journal.rewrite(path, redactor)
    redactor.add("LATE", "zwölf\nlines")
    assert journal.rewrite(path, redactor)
    assert journal.verify(path) == ()
    assert journal.read(path).lines[2]["text"] == "[redacted:LATE]\n"


def test_a_full_disk_prevents_outputs_and_starts_but_not_the_end(tmp_path, monkeypatch):
    writer = Journal.create(tmp_path, {"run": "r1"})
    disk = FullDisk(tmp_path, free=300)
    monkeypatch.setattr(os, "write", disk.write)
    for _ in range(20):
        writer.write("output", cell=1, type="stream", name="stdout", text="x" * 100)
    with pytest.raises(CommandFailed, match="cannot be written"):
        writer.write("phase", name="apply", state="started")
    with pytest.raises(CommandFailed):
        writer.write("tool_start", number=1, args=["terraform"])
    writer.write("cell_end", cell=1, status="error")
    writer.close("failed", writer.stopped)
    assert journal.verify(writer.path) == ()
    kinds = [line["kind"] for line in journal.read(writer.path).lines]
    assert kinds[-2:] == ["cell_end", "end"]
    assert "phase" not in kinds


def test_a_lone_surrogate_is_kept_as_an_escape(tmp_path):
    writer = Journal.create(tmp_path, {})
    writer.write("output", cell=1, type="stream", name="stdout", text="a\udc80b")
    assert journal.read(writer.path).lines[1]["text"] == "a\udc80b"


def test_a_file_that_is_not_a_journal_has_no_entries(tmp_path):
    path = tmp_path / "x"
    path.write_text(json.dumps([1]) + "\n")
    assert journal.read(path).lines == ()
    assert journal.read(path).header == {}
    assert journal.verify(path) == ("line 1: not a complete entry",)


class FullDisk:
    """A disk with little free space; deleting the journal's reserve frees more."""

    def __init__(self, folder: Path, free: int) -> None:
        self.reserve, self.free, self.os_write = folder / ".reserve", free, os.write

    def write(self, fd: int, data: bytes) -> int:
        free = self.free if self.reserve.exists() else self.free + 100_000
        if len(data) > free:
            self.os_write(fd, bytes(data)[: max(0, free)])
            raise OSError(errno.ENOSPC, "No space left on device")
        self.free -= len(data)
        return self.os_write(fd, data)
