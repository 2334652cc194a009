"""The commands of `daybook runs`, with tables and with JSON."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from click.testing import CliRunner

from daybook.approval import pending
from daybook.cli.runs import runs
from daybook.errors import DaybookError, SettingsError, VerifyFailed
from daybook.headless import execution, resume
from daybook.headless.terminal import Terminal
from daybook.record import (
    compare,
    journal,
    model,
    render,
    replay,
    seal,
    search,
    summary,
    verification,
)

CHECKOUT = Path(__file__).parents[3]
GOOD, BAD = "20261101T000000Z-provision-aaaaaa", "20261102T000000Z-provision-bbbbbb"
GONE = {"pid": 2**22 + 1, "started": 1.0}
DEEP = b"[" * 100_000
MANY = b'{"files": ' + b"1" * 5_000 + b"}"
HEADER = b'{"seq":0,"time":"2026-11-02T00:00:00Z","kind":"header"'


@pytest.fixture
def call(tmp_path, monkeypatch):
    """Return a function that calls `daybook runs …` here and raises its errors."""
    monkeypatch.setenv("DAYBOOK_ROOT", str(tmp_path))

    def run(*args: str) -> str:
        return CliRunner().invoke(runs, args, catch_exceptions=False).output

    return run


def test_list_and_search(call, closed_run):
    closed_run("r1")
    closed_run("r2", status="failed", target="sandbox")
    table = call("list")
    assert "✗ failed" in table
    assert "REHEARSAL" in table
    assert [row["run"] for row in json.loads(call("list", "--json"))] == ["r2", "r1"]
    assert [row["run"] for row in json.loads(call("list", "--json", "--status", "failed"))] == [
        "r2"
    ]
    assert "«one»" in json.loads(call("search", "one", "--json"))[0]["found"]
    assert "0 runs" in call("search", "nothing")


def test_show(call, closed_run):
    closed_run("r1")
    tables = call("show", "r1")
    assert "plan-0123456789abcdef" in tables
    assert "size" in tables
    assert json.loads(call("show", "--json"))["run"] == "r1"


def test_show_of_an_open_run(call, open_run):
    open_run("r1")
    assert json.loads(call("show", "--json"))["status"] == "running"


def test_open_prints_and_opens_the_report(call, closed_run, monkeypatch):
    opened = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    folder = closed_run("r1")
    assert str(folder / "report.html") in call("open", "r1")
    assert opened == [(folder / "report.html").as_uri()]
    assert json.loads(call("open", "r1", "--json"))["report"] == str(folder / "report.html")


def test_open_of_an_open_run_is_refused(call, open_run):
    open_run("r1")
    with pytest.raises(SettingsError, match="no report"):
        call("open", "r1")


def test_diff(call, closed_run):
    closed_run("r1")
    closed_run("r2", parameters={"size": 7})
    assert "size" in call("diff", "r1", "r2")
    differences = json.loads(call("diff", "r1", "r2", "--json"))["differences"]
    assert differences == [{"section": "parameters", "name": "size", "before": 1, "after": 7}]


def test_verify(call, closed_run):
    folder = closed_run("r1")
    assert "ann@example.com" in call("verify")
    assert json.loads(call("verify", "--all", "--json"))[0]["state"] == "intact"
    (folder / "report.html").chmod(0o644)
    (folder / "report.html").write_text("x")
    with pytest.raises(VerifyFailed, match="1 of 1"):
        call("verify", "--all")


def test_close_closes_abandoned_runs(call, open_run):
    open_run("r1", kernel={"pid": 2**22 + 1, "started": 1.0})
    assert "r1: interrupted" in call("close")
    assert "no abandoned runs" in call("close")
    assert json.loads(call("close", "--json")) == json.loads(call("settle", "--json")) == []


def test_export(call, closed_run, tmp_path):
    closed_run("r1")
    closed_run("r2")
    assert "2 runs" in call("export", "-o", str(tmp_path / "all.tgz"))
    with tarfile.open(tmp_path / "all.tgz") as tar:
        names = tar.getnames()
    assert "runs/staging/r2/record.json" in names
    assert "environments/signers" in names
    packed = json.loads(call("export", "r1", "-o", str(tmp_path / "one.tgz"), "--json"))
    assert packed["runs"] == ["r1"]


COMMANDS = {
    "list": ("list",),
    "list as JSON": ("list", "--json"),
    "list of broken": ("list", "--status", "broken"),
    "search": ("search", "one"),
    "show": ("show", BAD),
    "show as JSON": ("show", BAD, "--json"),
    "show the newest": ("show",),
    "open": ("open", BAD, "--json"),
    "diff": ("diff", GOOD, BAD),
    "verify": ("verify", BAD),
    "verify all": ("verify", "--all"),
    "export": ("export", "-o", "packed.tgz"),
    "close": ("close",),
}


def _file(name: str, content: bytes) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.write_bytes(content)

    return make


def _fifo(name: str) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).unlink(missing_ok=True)
        os.mkfifo(folder / name)

    return make


def _link(name: str, to: str) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(to)

    return make


CLOSED = {
    "an empty record": _file("record.json", b""),
    "an incomplete record": _file("record.json", b"{"),
    "a binary record": _file("record.json", bytes(range(256))),
    "a record with a number of 5,000 digits": _file("record.json", MANY),
    "a deep record": _file("record.json", DEEP),
    "a record that is text": _file("record.json", b'"x"'),
    "a record that is a list": _file("record.json", b"[]"),
    "a record without fields": _file("record.json", b"{}"),
    "a record that is a FIFO": _fifo("record.json"),
    "a record that is a device": _link("record.json", "/dev/zero"),
    "a journal of a closed run that is a FIFO": _fifo("journal.jsonl"),
    "a signature that is a FIFO": _fifo("record.json.sig"),
    "an attachment that is a dangling link": _link("attachments/x", "x"),
    "an empty head": _file("../.head.json", b""),
    "a head that is a list": _file("../.head.json", b"[]"),
    "a head that points outside": _file("../.head.json", b'{"run": "../x", "sha256": ""}'),
    "a deep head": _file("../.head.json", DEEP),
    "a head that is a FIFO": _fifo("../.head.json"),
}
OPEN = {
    "a header without fields": _file("journal.jsonl", b'{"seq":0,"kind":"header"}\n'),
    "a header of wrong types": _file("journal.jsonl", HEADER + b',"git":5}\n'),
    "a deep journal": _file("journal.jsonl", HEADER + b',"x":' + DEEP + b"}\n"),
    "a binary journal": _file("journal.jsonl", bytes(range(256))),
    "an empty journal": _file("journal.jsonl", b""),
    "a journal that is a FIFO": _fifo("journal.jsonl"),
    "a journal that is a device": _link("journal.jsonl", "/dev/zero"),
    "a journal that links to itself": _link("journal.jsonl", "journal.jsonl"),
    "a record of an open run that is a FIFO": _fifo("record.json"),
    "a template that is a list": _file("attachments/template.ipynb", b"[]"),
    "a deep template": _file("attachments/template.ipynb", DEEP),
    "a template that is a FIFO": _fifo("attachments/template.ipynb"),
    "a lock that is a FIFO": _fifo("../.settling"),
    "an empty head before a close": _file("../.head.json", b""),
    "a head that is a FIFO before a close": _fifo("../.head.json"),
}
FOLDERS = {
    "a time that does not exist": b"99999999T999999Z-x-abcdef",
    "a name that is not UTF-8": b"20261102T000000Z-\xff-bbbbbb",
    "a name that writes to the terminal": b"20261102T000000Z-\x1b[31m-bbbbbb",
}


@pytest.fixture
def in_time() -> Iterator[None]:
    """Fail a test that blocks on a FIFO."""

    def fail(*_: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, fail)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture(params=[*CLOSED, *OPEN, *FOLDERS])
def hostile(request, closed_run, open_run, tmp_path: Path) -> Path:
    """Return the folder of a damaged run next to a good one."""
    closed_run(GOOD, sign=False)
    folder = tmp_path / "runs/staging" / BAD
    if request.param in FOLDERS:
        folder = folder.with_name(os.fsdecode(FOLDERS[request.param]))
        folder.mkdir()
        if b"9999" not in FOLDERS[request.param]:
            open_run(folder.name, kernel=GONE).release()
    elif request.param in CLOSED:
        writer = open_run(BAD, kernel=GONE)
        seal.close(folder, "succeeded", open_journal=writer)
        subprocess.run(["chmod", "-R", "u+rwX", str(folder)], check=True)
        CLOSED[request.param](folder)
    else:
        open_run(BAD, kernel=GONE).release()
        OPEN[request.param](folder)
    return folder


@pytest.mark.attack(
    "F13", "one bad record takes down the list, a resumed run, or another run's end"
)
def test_a_damaged_record_gives_a_clear_error_and_affects_no_other(
    hostile, call, tmp_path, in_time
):
    (tmp_path / "packed.tgz").unlink(missing_ok=True)
    os.chdir(tmp_path)
    for args in COMMANDS.values():
        with suppress(DaybookError):  # Any other error fails the test.
            call(*args)
    assert GOOD in [row["run"] for row in json.loads(call("list", "--json"))]
    assert json.loads(call("show", GOOD, "--json"))["status"] == "succeeded"
    with pytest.raises(DaybookError):
        resume.prepare(tmp_path, CHECKOUT / "notebooks/provision.ipynb", hostile.name[:60], {})
    execution._close_abandoned(tmp_path, "staging", Terminal(quiet=True))
    pending.delete_outdated(tmp_path, "staging", 1)


@pytest.mark.attack(
    "F13", "one bad record takes down the list, a resumed run, or another run's end"
)
@pytest.mark.parametrize("name", [name for name in CLOSED if "head" not in name])
def test_a_changed_record_is_broken(name, closed_run, tmp_path, in_time):
    folder = closed_run(BAD)
    subprocess.run(["chmod", "-R", "u+rwX", str(folder)], check=True)
    CLOSED[name](folder)
    is_outside = "dangling" in name  # A link is not a file of the record and is not followed.
    assert verification.verify(folder).is_broken != is_outside
    assert {verdict.is_broken for verdict in verification.verify_all(tmp_path)} == {not is_outside}


@pytest.mark.attack("F13", "a journal that cannot be read is taken for a run that never began")
def test_closing_abandoned_runs_deletes_no_journal(call, open_run, tmp_path):
    folder = open_run(BAD, kernel=GONE).path.parent
    _file("journal.jsonl", b"\0\n")(folder)
    [closed] = seal.close_abandoned(tmp_path)
    assert (closed.status, folder.exists()) == (seal.BROKEN, True)
    assert verification.verify(folder).problems == ("journal.jsonl line 1: not a complete entry",)
    with pytest.raises(VerifyFailed, match="is broken"):
        call("show", BAD)


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", DEEP, b'{"run": 1, "sha256": 2}'])
@pytest.mark.attack(
    "F13", "a power cut leaves an empty head: no later run is sealed, or a traceback"
)
def test_a_broken_head_is_reported_and_the_chain_continues(content, closed_run, tmp_path):
    closed_run("r1")
    head = tmp_path / "runs/staging" / seal.HEAD
    head.write_bytes(content)
    verdicts = {verdict.run: verdict for verdict in verification.verify_all(tmp_path)}
    assert (verdicts["r1"].is_broken, verdicts[seal.HEAD].is_broken) == (False, True)
    second = closed_run("r2")
    assert seal.load(second)["previous"]["run"] == "r1"
    verdicts = {verdict.run: verdict for verdict in verification.verify_all(tmp_path)}
    assert {run for run, verdict in verdicts.items() if verdict.is_broken} == {seal.LOST_HEAD}
    head.with_name(seal.LOST_HEAD).unlink()
    assert not any(verdict.is_broken for verdict in verification.verify_all(tmp_path))


WRONG = (None, True, -1, 5, 1e400, 10**400, "x", "", "\udcff", [], [1], ["x"], {}, {"x": 1}, [{}])


def _mutants(value: object) -> Iterator[object]:
    """Yield copies of a value in which one part is missing or of another type."""
    yield from (wrong for wrong in WRONG if wrong != value)
    if isinstance(value, dict):
        for name, part in value.items():
            yield {key: rest for key, rest in value.items() if key != name}
            yield from (value | {name: mutant} for mutant in _mutants(part))
    elif isinstance(value, list) and value:
        yield from ([mutant, *value[1:]] for mutant in _mutants(value[0]))


def _complete_run(open_run) -> list[dict]:
    """Return the entries of a journal with one entry of each kind."""
    writer = open_run(BAD, kernel=GONE, template={"path": "x", "sha256": "0", "cells": []})
    check = {"name": "a", "is_ok": False, "expected": "e", "observed": "o", "fix": "f"}
    writer.write("check", checks=[check])
    writer.write("approval", digest="plan-1", how="auto", by=[])
    writer.write("tool_start", number=1, args=["terraform"], log="x.log")
    writer.write("tool_end", number=1, returncode=0, seconds=1.0)
    writer.write("change", action="create", what="vpc", host="h")
    writer.write("outputs", values={"a": 1})
    data = {"text/plain": ["x"], "image/png": "eA=="}
    writer.write("output", cell=1, type="display_data", data=data, metadata={}, display_id="d")
    writer.write("output", cell=1, type="update_display_data", data={}, metadata={}, display_id="d")
    writer.write("output", cell=1, type="error", ename="E", evalue="e", traceback=["t"])
    writer.write("output", cell=1, type="attachment", file="attachments/x", bytes=5, lost_bytes=1)
    writer.write("output", cell=1, type="clear_output", wait=True)
    writer.write("note", what="redacted", files={"x": 1})
    writer.write("status", status="failed", ename="E")
    writer.close("failed", "why")
    return list(journal.read(writer.path).lines)


@pytest.mark.attack("F13", "a wrong type anywhere in a journal or a record")
def test_a_wrong_type_in_a_journal_is_rejected_or_harmless(open_run, tmp_path):
    from daybook.cli import runs_tables

    entries = _complete_run(open_run)
    good = summary.summarise(journal.Entries(tuple(entries))) | {"files": {}, "previous": None}
    assert model.is_valid(good, model.Record)
    survived = 0
    for at, entry in enumerate(entries):
        for mutant in _mutants(entry):
            if not model.is_entry(mutant):
                continue
            survived += 1
            changed = journal.Entries((*entries[:at], mutant, *entries[at + 1 :]))
            record = summary.summarise(changed)
            assert model.is_valid(record | {"files": {}, "previous": None}, model.Record)
            summary.abandoned_status(changed), search.open_status(changed)
            search._searchable_text(record, changed)
            list(runs_tables.sections(record)), runs_tables.facts(record)
            compare.compare(tmp_path, good, record)
            render.notebook({}, changed, record)
            outputs = [output for cell in replay.replay({}, changed) for output in cell.outputs]
            list(map(render._output, outputs))
            if survived % 25 == 0:
                render.report({}, changed, record)
    assert survived > 500


@pytest.mark.attack("F13", "a wrong type anywhere in a journal or a record")
def test_a_wrong_type_in_a_record_is_rejected_or_harmless(open_run, tmp_path):
    from daybook.cli import runs_tables

    entries = journal.Entries(tuple(_complete_run(open_run)))
    good = summary.summarise(entries) | {"files": {}, "previous": None}
    for mutant in _mutants(good):
        if model.is_valid(mutant, model.Record):
            list(runs_tables.sections(mutant)), runs_tables.facts(mutant)
            compare.compare(tmp_path, good, mutant)
            search._searchable_text(mutant, entries), search._operator(mutant)


@pytest.mark.attack("F13", "an invalid entry that a run writes hides all later entries")
def test_every_entry_that_a_run_writes_can_be_read(open_run):
    writer = open_run("r1")
    deep: list = []
    for _ in range(150):
        deep = [deep]
    data = {"application/json": deep}
    writer.write("output", cell=1, type="display_data", data=data, metadata={})
    writer.write("phase", name=None, state="started")
    writer.close("succeeded")
    entries = journal.read(writer.path)
    assert (entries.cut, entries.end["status"]) == (b"", "succeeded")
    assert [line["what"] for line in entries.of("note")] == ["no entry", "no entry"]
    assert journal.verify(writer.path) == ()


DAMAGES = {
    "pages of zeros": lambda raw: raw[:4096] + b"\0" * 32_768 + raw[36_864:],
    "garbage after the first page": lambda raw: raw[:4096] + bytes(b ^ 0x55 for b in raw[4096:]),
    "truncated": lambda raw: raw[:5000],
    "not a database": lambda _raw: b"x" * 5000,
}


@pytest.mark.attack("F13", "a damaged index, which stays damaged")
@pytest.mark.parametrize("name", DAMAGES)
@pytest.mark.parametrize("args", [("list",), ("search", "one"), ("show", GOOD)])
def test_a_damaged_index_is_rebuilt(name, args, call, closed_run, tmp_path):
    closed_run(GOOD)
    call("list")
    index = tmp_path / "runs" / search.INDEX
    index.write_bytes(DAMAGES[name](index.read_bytes()))
    assert "provision" in call(*args)
    assert GOOD in [row["run"] for row in json.loads(call("list", "--json"))]


@pytest.mark.parametrize("version", [1, search._VERSION], ids=["an older index", "no tables"])
def test_an_outdated_or_empty_index_is_rebuilt(version, call, closed_run, tmp_path):
    closed_run(GOOD)
    db = sqlite3.connect(tmp_path / "runs" / search.INDEX)
    db.executescript(f"PRAGMA user_version = {version};")
    db.close()
    assert GOOD in [row["run"] for row in json.loads(call("list", "--json"))]
