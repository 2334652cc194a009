"""Records of real kernels: with every front-end, failing, killed, on a full disk."""

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
    """Return the status of each code cell in the record's notebook."""
    notebook = nbformat.read(folder / "notebook.ipynb", as_version=4)
    return [c.metadata.daybook.status for c in notebook.cells if c.cell_type == "code"]


def texts(folder: Path) -> str:
    """Return the output of the record's notebook as text."""
    notebook = nbformat.read(folder / "notebook.ipynb", as_version=4)
    outputs = [o for c in notebook.cells if c.cell_type == "code" for o in c.outputs]
    return "".join(o.get("text", "") or str(o.get("data", "")) for o in outputs)


def close_abandoned(root: Path) -> dict:
    """Close the abandoned run, as the next run does; return its record."""
    closed = seal.close_abandoned(root)
    assert len(closed) == 1
    return intact(closed[0].folder)


def intact(folder: Path) -> dict:
    """Return a record after checking its schema, notebook and integrity."""
    record = seal.load(folder)
    jsonschema.validate(record, SCHEMA)
    nbformat.validate(nbformat.read(folder / "notebook.ipynb", as_version=4))
    assert verification.verify(folder).state == verification.INTACT, verification.verify(
        folder
    ).problems
    return record


@pytest.mark.parametrize("way", FRONT_ENDS)
def test_every_front_end_gives_the_same_record(workshop, way):
    workshop.write("print('one')", "import sys; print('two', file=sys.stderr); 40 + 2")
    workshop.start(*FRONT_ENDS[way]).communicate(timeout=120)
    record = intact(workshop.folder())
    assert record["status"] == "succeeded"
    assert texts(workshop.folder()) == "begun\none\ntwo\n{'text/plain': '42'}"
    assert set(statuses(workshop.folder())[1:]) == {"ok"}
    assert record["parameters"] == {"env": "staging"}


def test_a_failed_cell_ends_the_run_before_later_cells(workshop):
    folder = workshop.run("print('before')\n1 / 0", "print('after')")
    record = intact(folder)
    assert record["status"] == "failed"
    assert record["error"]["ename"] == "ZeroDivisionError"
    assert statuses(folder) == ["ok", "ok", "error", "not-run", "not-run"]
    page = (folder / "report.html").read_text()
    assert page.index("Failed cell") < page.index("ZeroDivisionError") < page.index("Facts")
    assert "after" not in texts(folder)


def test_the_traceback_is_recorded_but_not_displayed(workshop):
    source = "from daybook.errors import ApplyFailed\nraise ApplyFailed('half way')"
    folder = workshop.run(source)
    ends = list(journal.read(folder / journal.NAME).of("cell_end"))
    assert "raise ApplyFailed('half way')" in ends[-1]["traceback"]
    assert "Traceback" not in texts(folder)


def test_parameters_injected_by_papermill_are_recorded(workshop):
    workshop.write()
    workshop.papermill("-p", "run", "r2").communicate(timeout=60)
    intact(workshop.folder("r2"))
    cells = nbformat.read(workshop.folder("r2") / "notebook.ipynb", as_version=4).cells
    assert [c.source for c in cells][1:3] == ['run = "r1"', '# Parameters\nrun = "r2"']


def test_a_run_that_needs_approval_is_waiting(workshop):
    folder = workshop.run("from daybook.errors import ApprovalNeeded\nraise ApprovalNeeded('ask')")
    assert intact(folder)["status"] == "waiting"


def test_a_killed_kernel(workshop):
    workshop.write("print('seen', flush=True)\nimport time; time.sleep(60)", "print('never')")
    process = workshop.papermill()
    workshop.wait_for('"text":"seen')
    os.kill(workshop.kernel_pid(), signal.SIGKILL)
    process.communicate(timeout=60)
    record = close_abandoned(workshop.root)
    assert record["status"] == "interrupted"
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
    assert close_abandoned(workshop.root)["status"] == "interrupted"
    assert statuses(workshop.folder())[-2:] == ["cut", "not-run"]


def test_an_execution_timeout(workshop):
    workshop.write("import time; time.sleep(60)")
    workshop.papermill("--execution-timeout", "3").communicate(timeout=60)
    wait_for_end_of(workshop.kernel_pid())
    seal.close_abandoned(workshop.root)
    assert intact(workshop.folder())["status"] == "interrupted"
    assert statuses(workshop.folder())[-2:] in (["error", "not-run"], ["cut", "not-run"])


def test_an_interrupted_cell(workshop):
    workshop.write("print('seen', flush=True)\nimport time; time.sleep(60)")
    process = workshop.papermill()
    workshop.wait_for('"text":"seen')
    os.kill(workshop.kernel_pid(), signal.SIGINT)
    process.communicate(timeout=60)
    assert intact(workshop.folder())["status"] == "interrupted"


def test_a_run_with_a_running_kernel_is_not_closed(workshop, front):
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
    record = intact(workshop.folder())
    assert record["status"] == "succeeded"
    assert statuses(workshop.folder()) == ["ok", "ok", "error", "ok", "ok", "ok"]


def test_a_run_left_failed_in_jupyterlab_stays_failed(workshop, front):
    workshop.write("1 / 0")
    front.execute('run = "r1"')
    front.execute(workshop.begin)
    front.execute("1 / 0")
    front.manager.shutdown_kernel()
    record = intact(workshop.folder())
    assert (record["status"], record["reason"]) == ("failed", "the kernel exited")


def test_a_second_run_in_one_kernel_ends_the_first(workshop, front):
    workshop.write("print(run)")
    front.execute('run = "r1"')
    front.execute(workshop.begin)
    front.execute("run = 'r2'")
    front.execute(workshop.begin)
    front.execute("print(run)")
    front.execute("recorder.finish()")
    first, second = intact(workshop.folder("r1")), intact(workshop.folder("r2"))
    assert (first["status"], second["status"]) == ("interrupted", "succeeded")
    assert first["reason"] == "another run was started in this kernel"
    assert second["previous"]["run"] == "r1"


def test_few_updates_of_a_display_are_recorded_including_the_last(workshop):
    source = (
        "from IPython.display import display, HTML\nshown = display(HTML('0'), display_id=True)\n"
        "for i in range(300): shown.update(HTML(f'step {i}'))"
    )
    folder = workshop.run(source)
    updates = [e for e in journal.read(folder / journal.NAME).of("output") if "update" in e["type"]]
    assert len(updates) <= 2
    assert "step 299" in texts(folder)


def test_a_long_output_is_written_to_an_attachment(workshop):
    folder = workshop.run("for i in range(60_000): print('line', i, 'x' * 40)")
    record = intact(folder)
    log = folder / "attachments/cell-03.log"
    assert log.read_text().endswith(f"line 59999 {'x' * 40}\n")
    assert (folder / journal.NAME).stat().st_size < 1_500_000
    assert "attachments/cell-03.log" in (folder / "report.html").read_text()
    assert "attachments/cell-03.log" in record["files"]
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
        assert close_abandoned(workshop.root)["status"] == "failed"
        assert statuses(folder) == ["ok", "ok", "ok", "error", "not-run"]
    finally:
        subprocess.run(["umount", str(runs)], check=True)


def wait_for_end_of(pid: int) -> None:
    """Wait until a kernel has exited: it polls for its parent and exits after it."""
    try:
        psutil.Process(pid).wait(30)
    except psutil.NoSuchProcess:
        return
