"""What proves that a run is over, with real processes that are really killed."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from daybook import liveness, process

# Stands for a kernel: it lives, starts a tool that holds the file too, and says so.
KERNEL = """
import sys
from pathlib import Path
from daybook import liveness, process
life = liveness.hold(Path(sys.argv[1]))
script = "trap 'sleep 1; exit' INT; echo up; while :; do sleep 0.05; done"
process.run(["sh", "-c", script], life=life, on_line=lambda line: print(line, flush=True))
"""


@pytest.fixture
def life(tmp_path: Path):
    life = liveness.hold(tmp_path / "runs/staging/.alive/r1")
    yield life
    life.end()


def test_a_run_that_lives_is_not_over(life):
    assert not liveness.is_over(life.proof)
    assert liveness.is_alive(life.path)
    assert life.path.stat().st_mode & 0o777 == 0o600
    assert life.path.parent.stat().st_mode & 0o777 == 0o700


def test_a_run_whose_file_nobody_holds_is_over(life):
    proof = life.proof
    os.close(os.dup(life.fd))
    assert not liveness.is_over(proof)
    os.close(life.fd)
    assert liveness.is_over(proof)
    assert not liveness.is_alive(life.path)


@pytest.mark.parametrize(
    "changed",
    [
        {"boot": "another machine, or this one before"},
        {"boot": ""},
        {"inode": "1:1"},
        {"file": "/nowhere/at/all"},
        {"file": "relative"},
        {"file": "/\0"},
        {"file": 7, "inode": None},
    ],
    ids=str,
)
def test_nothing_else_proves_it(life, changed):
    proof = life.proof | changed
    os.close(life.fd)
    assert not liveness.is_over(proof)
    assert not liveness.is_over({})


def test_a_copy_of_the_file_proves_nothing(life, tmp_path):
    copy = tmp_path / "copy"
    copy.touch()
    assert not liveness.is_over(life.proof | {"file": str(copy)})


def test_a_fifo_or_a_link_is_not_waited_for(life, tmp_path):
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "link").symlink_to(life.path)
    assert not liveness.is_over(life.proof | {"file": str(tmp_path / "fifo")})
    assert not liveness.is_over(life.proof | {"file": str(tmp_path / "link")})


def test_a_killed_kernel_is_over_when_its_tool_is(tmp_path):
    path = tmp_path / "alive"
    kernel = subprocess.Popen(
        [sys.executable, "-c", KERNEL, str(path)], stdout=subprocess.PIPE, text=True
    )
    assert kernel.stdout.readline() == "up\n"
    found = path.stat()
    proof = {"boot": liveness._boot(), "file": str(path)}
    proof |= {"inode": f"{found.st_dev}:{found.st_ino}"}
    kernel.kill()
    kernel.wait()
    assert not liveness.is_over(proof)
    deadline = time.monotonic() + 10
    while not liveness.is_over(proof):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    kernel.stdout.close()


def test_an_end_twice_is_one(life):
    life.end()
    life.end()
    assert not life.path.exists()
    assert process.run(["true"]).returncode == 0


def test_a_file_that_cannot_be_removed_is_let_go_of(tmp_path):
    life = liveness.hold(tmp_path / "run")
    held, moved = life.path, tmp_path / "moved"
    held.rename(moved)
    held.mkdir()
    life.end()
    assert not liveness.is_alive(moved)
