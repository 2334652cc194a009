"""The record of real kernels: driven in every way, failing, killed, starved of disk."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import jsonschema
import nbformat
import psutil
import pytest

from daybook.record import journal, model, seal, verification

SCHEMA = model.json_schema()
FRONT_ENDS = {
    "papermill": ("papermill", "--no-progress-bar", "notebooks/demo.ipynb", "out.ipynb"),
    "execute": ("jupyter-execute", "notebooks/demo.ipynb", "--output=out.ipynb"),
    "nbval": ("pytest", "-q", "--nbval-lax", "notebooks/demo.ipynb", "--nbval-cell-timeout=60"),
}


def statuses(folder: Path) -> list[str]:
    """Return what the record's notebook says of each code cell."""
    notebook = nbformat.read(folder / "notebook.ipynb", as_version=4)
    return [c.metadata.daybook.status for c in notebook.cells if c.cell_type == "code"]


def texts(folder: Path) -> str:
    """Return what the record's notebook shows as text."""
    notebook = nbformat.read(folder / "notebook.ipynb", as_version=4)
    outputs = [o for c in notebook.cells if c.cell_type == "code" for o in c.outputs]
    return "".join(o.get("text", "") or str(o.get("data", "")) for o in outputs)


def settle(root: Path) -> dict:
    """Close what was left behind, as the next run does; return the one record."""
    closed = seal.close_abandoned(root)
    assert len(closed) == 1
    return whole(closed[0].folder)


def whole(folder: Path) -> dict:
    """Return a record that keeps to its schema and is intact."""
    said = seal.load(folder)
    jsonschema.validate(said, SCHEMA)
    nbformat.validate(nbformat.read(folder / "notebook.ipynb", as_version=4))
    assert verification.verify(folder).state == verification.INTACT, verification.verify(
        folder
    ).problems
    return said


@pytest.mark.parametrize("way", FRONT_ENDS)
def test_every_front_end_leaves_the_same_record(workshop, way):
    workshop.write("print('one')", "import sys; print('two', file=sys.stderr); 40 + 2")
    workshop.start(*FRONT_ENDS[way]).communicate(timeout=120)
    said = whole(workshop.folder())
    assert said["status"] == "succeeded"
    assert texts(workshop.folder()) == "begun\none\ntwo\n{'text/plain': '42'}"
    assert set(statuses(workshop.folder())[1:]) == {"ok"}
    assert said["parameters"] == {"env": "staging"}


def test_a_failed_cell_ends_the_run_and_the_rest_did_not_run(workshop):
    folder = workshop.run("print('before')\n1 / 0", "print('after')")
    said = whole(folder)
    assert said["status"] == "failed"
    assert said["error"]["ename"] == "ZeroDivisionError"
    assert statuses(folder) == ["ok", "ok", "error", "not-run", "not-run"]
    page = (folder / "report.html").read_text()
    assert page.index("Failed cell") < page.index("ZeroDivisionError") < page.index("Facts")
    assert "after" not in texts(folder)


def test_the_record_has_the_traceback_that_the_screen_does_not_show(workshop):
    source = "from daybook.errors import ApplyFailed\nraise ApplyFailed('half way')"
    folder = workshop.run(source)
    ends = list(journal.read(folder / journal.NAME).of("cell_end"))
    assert "raise ApplyFailed('half way')" in ends[-1]["traceback"]
    assert "Traceback" not in texts(folder)


def test_parameters_that_papermill_injects_are_told(workshop):
    workshop.write()
    workshop.papermill("-p", "run", "r2").communicate(timeout=60)
    whole(workshop.folder("r2"))
    cells = nbformat.read(workshop.folder("r2") / "notebook.ipynb", as_version=4).cells
    assert [c.source for c in cells][1:3] == ['run = "r1"', '# Parameters\nrun = "r2"']


def test_a_run_that_waits_for_approval_says_so(workshop):
    folder = workshop.run("from daybook.errors import ApprovalNeeded\nraise ApprovalNeeded('ask')")
    assert whole(folder)["status"] == "waiting"


def test_a_killed_kernel(workshop):
    workshop.write("print('seen', flush=True)\nimport time; time.sleep(60)", "print('never')")
    process = workshop.papermill()
    workshop.wait_for('"text":"seen')
    os.kill(workshop.kernel_pid(), signal.SIGKILL)
    process.communicate(timeout=60)
    said = settle(workshop.root)
    assert said["status"] == "interrupted"
    assert statuses(workshop.folder()) == ["ok", "ok", "cut", "not-run", "not-run"]
    assert "seen" in texts(workshop.folder())


def test_a_killed_papermill(workshop):
    workshop.write("print('seen', flush=True)\nimport time; time.sleep(60)")
    process = workshop.papermill()
    workshop.wait_for('"text":"seen')
    pid = workshop.kernel_pid()
    process.kill()
    process.communicate(timeout=60)
    wait_for_end_of(pid)
    assert settle(workshop.root)["status"] == "interrupted"
    assert statuses(workshop.folder())[-2:] == ["cut", "not-run"]


def test_an_execution_timeout(workshop):
    workshop.write("import time; time.sleep(60)")
    workshop.papermill("--execution-timeout", "3").communicate(timeout=60)
    wait_for_end_of(workshop.kernel_pid())
    seal.close_abandoned(workshop.root)
    assert whole(workshop.folder())["status"] == "interrupted"
    assert statuses(workshop.folder())[-2:] in (["error", "not-run"], ["cut", "not-run"])


def test_an_interrupted_cell(workshop):
    workshop.write("print('seen', flush=True)\nimport time; time.sleep(60)")
    process = workshop.papermill()
    workshop.wait_for('"text":"seen')
    os.kill(workshop.kernel_pid(), signal.SIGINT)
    process.communicate(timeout=60)
    assert whole(workshop.folder())["status"] == "interrupted"


def test_a_living_kernel_is_left_alone(workshop, front):
    workshop.write()
    front.execute('run = "r1"')
    front.execute(workshop.begin)
    assert seal.close_abandoned(workshop.root) == []


def test_a_cell_that_is_run_again_in_jupyterlab(workshop, front):
    workshop.write("assert ready")
    front.execute('run = "r1"', "cell-1")
    front.execute(workshop.begin, "cell-2")
    assert front.execute("assert ready", "cell-3")["status"] == "error"
    front.execute("ready = True")
    front.execute("assert ready", "cell-3")
    front.execute("recorder.finish()", "cell-4")
    said = whole(workshop.folder())
    assert said["status"] == "succeeded"
    assert statuses(workshop.folder()) == ["ok", "ok", "error", "ok", "ok", "ok"]


def test_a_run_left_failed_in_jupyterlab_stays_failed(workshop, front):
    workshop.write("1 / 0")
    front.execute('run = "r1"')
    front.execute(workshop.begin)
    front.execute("1 / 0")
    front.manager.shutdown_kernel()
    said = whole(workshop.folder())
    assert (said["status"], said["reason"]) == ("failed", "the kernel exited")


def test_a_second_run_in_one_kernel_ends_the_first(workshop, front):
    workshop.write("print(run)")
    front.execute('run = "r1"')
    front.execute(workshop.begin)
    front.execute("run = 'r2'")
    front.execute(workshop.begin)
    front.execute("print(run)")
    front.execute("recorder.finish()")
    first, second = whole(workshop.folder("r1")), whole(workshop.folder("r2"))
    assert (first["status"], second["status"]) == ("interrupted", "succeeded")
    assert first["reason"] == "another run was started in this kernel"
    assert second["previous"]["run"] == "r1"


def test_updates_of_a_display_are_thinned_and_the_last_is_kept(workshop):
    source = (
        "from IPython.display import display, HTML\nshown = display(HTML('0'), display_id=True)\n"
        "for i in range(300): shown.update(HTML(f'step {i}'))"
    )
    folder = workshop.run(source)
    updates = [e for e in journal.read(folder / journal.NAME).of("output") if "update" in e["type"]]
    assert len(updates) <= 2
    assert "step 299" in texts(folder)


def test_a_long_output_goes_to_an_attachment(workshop):
    folder = workshop.run("for i in range(60_000): print('line', i, 'x' * 40)")
    said = whole(folder)
    log = folder / "attachments/cell-03.log"
    assert log.read_text().endswith(f"line 59999 {'x' * 40}\n")
    assert (folder / journal.NAME).stat().st_size < 1_500_000
    assert "attachments/cell-03.log" in (folder / "report.html").read_text()
    assert "attachments/cell-03.log" in said["files"]
    assert (workshop.root / "out.ipynb").stat().st_size < 1_500_000


@pytest.mark.skipif(os.getuid() != 0, reason="mounting a small disk needs root")
def test_a_full_disk(workshop):
    runs = workshop.root / "runs"
    runs.mkdir()
    mounted = ["mount", "-t", "tmpfs", "-o", "size=1500k", "daybook-test", str(runs)]
    subprocess.run(mounted, check=True)
    try:
        source = "(root / 'runs/filler').write_bytes(b'x' * 1_100_000)\nprint('x' * 900_000)"
        begin = "recorder.write('phase', name='apply', state='started'); print('changed!')"
        folder = workshop.run(source, begin)
        entries = journal.read(folder / journal.NAME)
        assert entries.end["status"] == "failed"
        assert "No space left" in entries.end["reason"]
        assert not list(entries.of("phase"))
        Path(runs, "filler").unlink()
        assert settle(workshop.root)["status"] == "failed"
        assert statuses(folder) == ["ok", "ok", "ok", "error", "not-run"]
    finally:
        subprocess.run(["umount", str(runs)], check=True)


def wait_for_end_of(pid: int) -> None:
    """Wait until a kernel is gone: its own poller ends it when its parent is."""
    try:
        psutil.Process(pid).wait(30)
    except psutil.NoSuchProcess:
        return
