"""Proof that a run has ended, with real processes that are killed."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from daybook import liveness, process

# Acts as a kernel: it starts a tool that holds the file too, and prints its id.
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


def test_a_running_run_has_not_ended(life):
    assert not liveness.is_over(life.proof)
    assert liveness.is_alive(life.path)
    assert life.path.stat().st_mode & 0o777 == 0o600
    assert life.path.parent.stat().st_mode & 0o777 == 0o700


def test_a_run_with_a_free_file_has_ended(life):
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
def test_other_facts_prove_nothing(life, changed):
    proof = life.proof | changed
    os.close(life.fd)
    assert not liveness.is_over(proof)
    assert not liveness.is_over({})


def test_a_copy_of_the_file_proves_nothing(life, tmp_path):
    copy = tmp_path / "copy"
    copy.touch()
    assert not liveness.is_over(life.proof | {"file": str(copy)})


def test_a_fifo_or_a_link_does_not_block(life, tmp_path):
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "link").symlink_to(life.path)
    assert not liveness.is_over(life.proof | {"file": str(tmp_path / "fifo")})
    assert not liveness.is_over(life.proof | {"file": str(tmp_path / "link")})


def test_a_killed_kernels_run_ends_with_its_tool(tmp_path):
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


def test_a_second_end_does_nothing(life):
    life.end()
    life.end()
    assert not life.path.exists()
    assert process.run(["true"]).returncode == 0


def test_a_file_that_cannot_be_removed_is_released(tmp_path):
    life = liveness.hold(tmp_path / "run")
    held, moved = life.path, tmp_path / "moved"
    held.rename(moved)
    held.mkdir()
    life.end()
    assert not liveness.is_alive(moved)
