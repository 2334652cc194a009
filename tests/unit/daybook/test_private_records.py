"""An open record on disk is readable by its owner only, for any umask."""

from __future__ import annotations

import os
import stat
import sys
import tarfile
from pathlib import Path

import pytest
from click.testing import CliRunner

from daybook import private_files, process
from daybook.cli import daybook
from daybook.record import journal, seal, search, verification
from daybook.record.outputs import RunOutputs
from daybook.record.recorder import Recorder

HEADER = {
    "run": "20261123T184500Z-provision-3fa9c2",
    "step": "provision",
    "environment": "staging",
    "target": "sandbox",
    "account": "123456789012",
}
EMPTY = "20261123T184501Z-deploy-0a1b2c"


@pytest.fixture(params=[0o000, 0o022], ids=["umask 000", "umask 022"])
def umask(request):
    before = os.umask(request.param)
    yield
    os.umask(before)


@pytest.fixture
def template(tmp_path: Path) -> Path:
    path = tmp_path / "notebooks/provision.ipynb"
    path.parent.mkdir()
    path.write_text('{"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}')
    return path


def modes(folder: Path) -> dict[str, int]:
    return {
        path.relative_to(folder).as_posix(): stat.S_IMODE(path.lstat().st_mode)
        for path in [folder, *folder.rglob("*")]
    }


def have_modes(modes: dict[str, int], folder: Path, *, file: int, directory: int) -> bool:
    return all(
        mode == (directory if (folder / name).is_dir() else file) for name, mode in modes.items()
    )


@pytest.mark.attack("F13", "another user of the computer reads a record, open or closed")
@pytest.mark.usefixtures("umask")
def test_the_group_can_read_a_record_only_once_it_is_closed(tmp_path, template):
    folder = tmp_path / "runs/staging" / HEADER["run"]
    recorder = Recorder.start(tmp_path, folder, HEADER, template=template)
    recorder.tool(process.run)([sys.executable, "-c", "print('x' * 99)"])
    RunOutputs(recorder.journal).attach("text/plain", "y" * 99)
    opened = modes(folder)
    logs = {"attachments/template.ipynb", "attachments/01-python.log"}
    assert {"journal.jsonl", *logs} <= opened.keys()
    assert have_modes(opened, folder, file=0o600, directory=0o700), opened
    recorder.close("succeeded")
    closed = modes(folder)
    assert {"record.json", "report.html", "notebook.ipynb"} <= set(closed)
    assert have_modes(closed, folder, file=0o440, directory=0o550), closed
    runs = modes(tmp_path / "runs")
    public = {name: oct(mode) for name, mode in runs.items() if mode & 0o007}
    assert not public
    assert verification.verify(folder).state in (verification.INTACT, verification.UNSIGNED)


@pytest.mark.usefixtures("umask")
def test_a_public_folder_of_records_becomes_private(tmp_path):
    runs = tmp_path / "runs"
    runs.mkdir()
    runs.chmod(0o755)
    Recorder.start(tmp_path, runs / "staging" / HEADER["run"], HEADER).close("succeeded")
    assert stat.S_IMODE(runs.stat().st_mode) == 0o750


@pytest.mark.usefixtures("umask")
def test_an_export_is_readable_by_its_owner_only(tmp_path, closed_run, monkeypatch):
    closed_run()
    monkeypatch.setenv("DAYBOOK_ROOT", str(tmp_path))
    (tmp_path / "environments/example.yml").touch()
    packed = tmp_path / "records.tar.gz"
    done = CliRunner().invoke(daybook, ["runs", "export", "-o", str(packed)])
    assert done.exit_code == 0, done.output
    assert stat.S_IMODE(packed.stat().st_mode) == 0o600
    with tarfile.open(packed) as tar:
        assert any(name.endswith("record.json") for name in tar.getnames())


def test_a_rewritten_file_becomes_private(tmp_path):
    path = tmp_path / "x"
    path.write_text("old")
    path.chmod(0o644)
    private_files.write(path, b"new")
    assert (path.read_bytes(), stat.S_IMODE(path.stat().st_mode)) == (b"new", 0o600)


@pytest.fixture(params=["nothing", "template", "no first line", "half a first line"])
def empty_run(request, tmp_path: Path) -> Path:
    """Create the files of a run that was killed before the first line of its journal."""
    folder = tmp_path / "runs/staging" / EMPTY
    (folder / "attachments").mkdir(parents=True)
    if request.param == "template":
        (folder / "attachments/template.ipynb").write_text("{}")
    if "first line" in request.param:
        (folder / ".reserve").write_bytes(b"\0" * 9)
        (folder / journal.NAME).write_text('{"seq":0' if "half" in request.param else "")
    return folder


@pytest.mark.attack("F13", "a run killed before its first line is never mentioned")
def test_an_empty_run_is_listed_verified_and_closed(empty_run, tmp_path):
    index = search.Archive(tmp_path)
    [row] = index.list()
    assert (row.run, row.step, row.status) == (EMPTY, "deploy", "interrupted")
    assert row.start.startswith("2026-11-23T18:45:01")
    [verdict] = verification.verify_all(tmp_path)
    assert (verdict.run, verdict.state) == (EMPTY, verification.OPEN)
    assert "daybook runs close" in verdict.problems[0]
    [closed] = seal.close_abandoned(tmp_path)
    assert (closed.folder.name, closed.status) == (EMPTY, seal.NOT_STARTED)
    assert not empty_run.exists()
    assert index.list() == []
    assert list(verification.verify_all(tmp_path)) == []


def test_a_run_that_is_starting_is_not_closed(empty_run, tmp_path):
    from daybook import liveness

    life = liveness.hold(liveness.file_of(empty_run))
    assert seal.close_abandoned(tmp_path) == []
    assert empty_run.exists()
    life.end()
    assert len(seal.close_abandoned(tmp_path)) == 1
