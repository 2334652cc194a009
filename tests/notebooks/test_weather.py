"""Runs on a computer with a defect: one error, never exit code 1."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

BIN = Path(sys.executable).parent
RUN = "daybook run diagnose -p env staging"
NOT_UP = 3
"""The exit code of RUN without a sandbox."""
PROGRAMS = ("git", "ssh", "ssh-keygen", "terraform", "docker")

pytestmark = pytest.mark.attack("F11", "a closed terminal, a full or read-only disk, no program")


@pytest.fixture(scope="module")
def root(copy_project: Callable[[str], Path]) -> Path:
    return copy_project("weather")


@pytest.fixture
def shell(root: Path) -> Callable[..., tuple[int, str]]:
    """Return a function that runs a command line in the project and returns code and output."""

    def run(line: str, **environ: str) -> tuple[int, str]:
        variables = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}"}
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", line],
            cwd=root,
            env=variables | {"DAYBOOK_ROOT": str(root)} | environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
        )
        return done.returncode, done.stdout + done.stderr

    return run


def newest(root: Path) -> Path:
    return max((root / "runs/staging").glob("*-diagnose-*"))


def is_clean(said: str) -> bool:
    return not re.search(r"Traceback|Task was destroyed|Exception (?:ignored|in)|\[Errno", said)


@pytest.mark.parametrize(
    "line",
    [
        f"{RUN} >&-",
        f"{RUN} >/dev/full",
        f"PYTHONIOENCODING=ascii {RUN}",
        pytest.param(f"{RUN} >&- 2>&-", marks=pytest.mark.faults),
        pytest.param(f"{RUN} | head -n 1", marks=pytest.mark.faults),
        pytest.param(f"LC_ALL=C {RUN}", marks=pytest.mark.faults),
    ],
)
def test_a_display_problem_does_not_change_the_result(root, shell, line):
    before = set((root / "runs").glob("staging/*-diagnose-*"))
    code, said = shell(line)
    assert code == NOT_UP
    assert is_clean(said), said
    assert newest(root) not in before
    assert (newest(root) / "record.json").exists()


@pytest.mark.parametrize("files", [pytest.param(25, marks=pytest.mark.faults), 40])
def test_a_limit_on_open_files_causes_no_traceback(shell, files):
    code, said = shell(f"ulimit -n {files}; {RUN}")
    assert code == 5
    assert is_clean(said.replace("[Errno 24]", "")), said
    assert "Too many open files" in said or "kernel" in said
    for word in ("expected:", "observed:", "Nothing was changed.", "Next:"):
        assert word in said


def test_a_limit_on_file_size_is_named_before_anything_starts(root, shell):
    before = set((root / "runs").glob("staging/*"))
    code, said = shell(f"ulimit -f 10; {RUN}")
    assert code == NOT_UP
    assert is_clean(said)
    assert "raise the limit (ulimit -f unlimited)" in said
    assert set((root / "runs").glob("staging/*")) <= before


@pytest.mark.parametrize(
    ("options", "expected", "fix"),
    [
        ("size=200k", "free space on the disk", "free some space"),
        ("ro", "a writable disk", "remount"),
    ],
)
def test_a_disk_without_room_for_a_record_starts_nothing(shell, root, options, expected, fix):
    folder = root / "runs" / "staging"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", options, "none", str(folder)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("no permission to mount a disk")
    try:
        code, said = shell(RUN)
        assert list(folder.iterdir()) == []
    finally:
        subprocess.run(["umount", str(folder)], check=True)
    assert code == NOT_UP
    assert is_clean(said)
    assert f"expected: {expected}" in said
    assert fix in said
    assert "Nothing was changed." in said


def test_lost_output_fails_a_command_that_only_prints(shell):
    code, said = shell("daybook runs list >/dev/full")
    assert code == 5
    assert "it is not complete" in said
    assert shell("daybook runs list | head -n 1")[0] == 0


@pytest.mark.parametrize("step", ["configure", pytest.param("provision", marks=pytest.mark.faults)])
@pytest.mark.parametrize("program", ["ssh-keygen", "all"])
def test_the_preflight_names_a_missing_program(root, shell, tmp_path, step, program):
    missing = PROGRAMS if program == "all" else (program,)
    links = tmp_path / "bin"
    links.mkdir()
    for folder in os.environ["PATH"].split(":"):
        for tool in Path(folder).glob("*") if Path(folder).is_dir() else ():
            if tool.name not in missing and not (links / tool.name).exists():
                (links / tool.name).symlink_to(tool)
    code, said = shell(f"{BIN}/daybook run {step} -p env staging", PATH=str(links))
    assert code == NOT_UP
    assert is_clean(said)
    named = [each for each in ("git", "ssh", "ssh-keygen") if each in missing]
    assert f"{', '.join(named)} not on PATH" in said
    assert "fix: apt install git openssh-client" in said
