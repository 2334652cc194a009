"""Sockets are in the sandbox's folder if their paths fit."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from daybook.errors import PreflightFailed
from daybook_sandbox import runfolder
from daybook_sandbox.state import Home


def make_home(root: Path) -> Home:
    home = Home(root)
    home.folder.mkdir(parents=True)
    return home


def test_short_path_is_inside_the_sandboxs_folder(tmp_path):
    home = make_home(tmp_path / "x")
    folder = runfolder.run_folder(home)
    assert folder == home.folder / "run"
    assert folder.stat().st_mode & 0o777 == 0o700


def test_long_path_is_elsewhere_and_is_removed(tmp_path):
    home = make_home(tmp_path / ("x" * 100))
    folder = runfolder.run_folder(home)
    assert len(os.fsencode(folder / runfolder.LONGEST_NAME)) <= runfolder.SOCKET_PATH_MAX
    assert runfolder.run_folder(home) == folder
    runfolder.remove_run_folder(home)
    assert not folder.exists()


def test_another_users_folder_is_refused(tmp_path):
    home = make_home(tmp_path / "x")
    (home.folder / "run").symlink_to(tmp_path)
    with pytest.raises(PreflightFailed):
        runfolder.run_folder(home)
