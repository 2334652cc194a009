"""Sockets lie in the sandbox's folder where their paths fit."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from daybook.errors import PreflightFailed
from daybook_sandbox import runfolder
from daybook_sandbox.state import Home


def home(root: Path) -> Home:
    it = Home(root)
    it.folder.mkdir(parents=True)
    return it


def test_short_path_stays_inside(tmp_path):
    it = home(tmp_path / "x")
    folder = runfolder.run_folder(it)
    assert folder == it.folder / "run"
    assert folder.stat().st_mode & 0o777 == 0o700


def test_long_path_goes_beside_and_is_removed(tmp_path):
    it = home(tmp_path / ("x" * 100))
    folder = runfolder.run_folder(it)
    assert len(os.fsencode(folder / runfolder.LONGEST_NAME)) <= runfolder.SOCKET_PATH_MAX
    assert runfolder.run_folder(it) == folder
    runfolder.remove_run_folder(it)
    assert not folder.exists()


def test_somebody_elses_folder_is_refused(tmp_path):
    it = home(tmp_path / "x")
    (it.folder / "run").symlink_to(tmp_path)
    with pytest.raises(PreflightFailed):
        runfolder.run_folder(it)
