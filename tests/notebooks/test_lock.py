"""Runs of one environment: one at a time, and no change after a failure."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import nbformat
import psutil
import pytest
from nbformat.v4 import new_code_cell, new_notebook

BUCKET = "hello-state-123456789012"
STEP = '''
"""A slow step: each of its tools adds a line to a file."""
from dataclasses import dataclass
from daybook import ui
from daybook.lock import object_lock
from daybook.plan import Change, Plan
from daybook.steps import parameters
from daybook.steps.base import Step

object_lock.RENEW_S = 0.5

class Slow(Step):
    name, next = "slow", "nothing"

    @dataclass(frozen=True, kw_only=True)
    class Parameters(parameters.Parameters):
        tools: int = 1
        seconds: int = 0
        fails: bool = False

    def make_plan(self):
        if self.parameters.fails:
            raise OSError("the plan fails")
        return Plan("slow", (Change("add lines", "changes"),), {})

    def apply_plan(self, plan):
        for _ in range(self.parameters.tools):
            script = f"echo {self.run.id} >> changes; exec sleep {self.parameters.seconds}"
            environment = self.environment
            environment.start(["sh", "-c", script], env=self.target.environ, cwd=environment.root)
        return ui.Notice("Changed", ui.OK)

    def look(self):
        return ui.Notice("Seen", ui.OK)
'''
PARAMETERS = """
env: str = "staging"
approve: str = "auto"
tools: int = 1
seconds: int = 0
fails: bool = False
"""
CELLS = {
    "preflight": "import slow\n"
    "step = slow.Slow(env, tools=tools, seconds=seconds, fails=fails)\nstep.preflight()",
    "plan": "step.plan()",
    "approve": "step.approve(approve)",
    "apply": "step.apply()",
    "verify": "step.verify()",
    "record": "step.record()",
}
RACE = """
import os, sys, time
from pathlib import Path
from slow import Slow
from daybook.errors import Locked

# Twenty forks of one process: importing twenty times would take minutes on a small machine.
racers = []
for number in range(20):
    racers.append(os.fork())
    if racers[-1] == 0:
        break
else:
    for racer in racers:
        ended, status = os.wait()
        print("exit", os.waitstatus_to_exitcode(status), flush=True)
    sys.exit()
step = Slow("staging", tools=1, seconds=0, fails=False)
step.preflight()
Path(f"ready-{number}").touch()
while not Path("go").exists():
    time.sleep(0.02)
try:
    step.plan()
except Locked as err:
    print(err)
    sys.exit(err.exit_code)
while not Path("stop").exists():
    time.sleep(0.02)
step.approve("auto")
step.apply()
step.verify()
step.record()
"""


@pytest.fixture(scope="module")
def project(here, client):
    """Return a project with a slow step, and with a state bucket to lock in."""
    client("s3").create_bucket(Bucket=BUCKET)
    note = {"remote": "", "require_git": {"staging": "any"}, "approvals": {"staging": 0}}
    where = {"Name": "/hello/account/review", "Type": "String"}
    client("ssm").put_parameter(**where, Value=json.dumps(note))
    (here.root / "slow.py").write_text(STEP)
    write(here.root / "notebooks/slow.ipynb")
    return here


@pytest.fixture(autouse=True)
def clean(project, client):
    for name in ("changes", "go", "stop"):
        (project.root / name).unlink(missing_ok=True)
    client("s3").delete_object(Bucket=BUCKET, Key="locks/staging.json")


def write(path: Path, **metadata) -> None:
    cells = [new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]})]
    cells += [
        new_code_cell(source, metadata={"tags": [tag, *metadata.get("tags", ())]})
        for tag, source in CELLS.items()
    ]
    spec = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(new_notebook(cells=cells, metadata=spec), path)


def start(project, *options: str, **parameters: object) -> subprocess.Popen[str]:
    words = [word for name, value in parameters.items() for word in ("-p", name, str(value))]
    return project.start("daybook", "run", "slow", *options, *words)


def end(process: subprocess.Popen[str]) -> str:
    return process.communicate(timeout=90)[0]


def wait_until(is_so: Callable[[], object]) -> None:
    deadline = time.monotonic() + 120
    while not is_so():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.05)


def changes(project) -> list[str]:
    """Return the run of each change, in order."""
    path = project.root / "changes"
    return path.read_text().split() if path.exists() else []


def shown(project) -> dict:
    return json.loads(project.succeed("lock", "show", "staging", "--json"))


def test_a_second_run_ends_with_the_holders_details(project):
    first = start(project, tools=1, seconds=45)
    wait_until(lambda: changes(project))
    held = shown(project)
    assert held["held"]
    assert held["step"] == "slow"
    second = start(project)
    said = end(second)
    assert second.returncode == 8
    for fact in ("staging is locked by another run", held["run"], held["operator"], "until: 20"):
        assert fact in said
    assert "Nothing was changed." in said
    assert project.record("staging", "slow")["status"] == "failed"
    assert held["run"] in project.succeed("lock", "show", "staging")
    assert end(first)
    assert first.returncode == 0
    assert changes(project) == [held["run"]]
    assert shown(project) == {"held": False}


def test_a_waiting_run_proceeds_afterwards(project):
    first = start(project, tools=3, seconds=15)
    wait_until(lambda: changes(project))
    second = start(project, "--wait", "2m", tools=1)
    said = end(second)
    assert end(first)
    assert (first.returncode, second.returncode) == (0, 0), said
    assert "waiting" in said
    one, *rest = changes(project)
    assert rest[:2] == [one, one]
    assert len(rest) == 3
    assert rest[2] != one


def test_a_broken_lock_stops_its_holder_before_the_next_change(project):
    first = start(project, tools=60, seconds=1)
    wait_until(lambda: changes(project))
    holder = shown(project)["run"]
    said = project.succeed("lock", "break", "staging", "--reason", "ann went home")
    assert holder in said
    before = len(changes(project))
    told = end(first)
    assert first.returncode == 8, told
    assert "ann went home" in told
    assert len(changes(project)) <= before + 1
    assert project.record("staging", "slow")["status"] == "failed"
    broken = project.record("staging", "lock-break")
    assert broken["status"] == "succeeded"
    assert "ann went home" in json.dumps(broken["changes"])
    assert end(start(project))
    assert len(set(changes(project))) == 2


def test_a_broken_lock_interrupts_a_long_tool(project):
    first = start(project, tools=2, seconds=300)
    wait_until(lambda: changes(project))
    project.succeed("lock", "break", "staging", "--reason", "it hangs")
    began = time.monotonic()
    assert "it hangs" in end(first)
    assert first.returncode == 8
    assert time.monotonic() - began < 30
    assert len(changes(project)) == 1


def test_breaking_a_free_lock_changes_nothing(project):
    assert "staging is not locked" in project.succeed(
        "lock", "break", "staging", "--reason", "curious"
    )


def test_a_lock_is_not_broken_without_a_reason(project):
    assert project.run("lock", "break", "staging").returncode == 2
    assert project.run("lock", "break", "staging", "--reason", " ").returncode == 2


def test_an_invalid_waiting_time_is_refused_before_anything_starts(project):
    done = project.run("run", "slow", "--wait", "soon")
    assert done.returncode == 2
    assert "such as 90s, 10m or 1h" in done.stdout


def test_exactly_one_of_twenty_runs_proceeds(project):
    race = subprocess.Popen(
        [sys.executable, "-c", RACE],
        cwd=project.root,
        env=os.environ | {"DAYBOOK_ROOT": str(project.root)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    wait_until(lambda: len(list(project.root.glob("ready-*"))) == 20)
    (project.root / "go").touch()
    said = []
    for line in race.stdout:
        said.append(line)
        if said.count("exit 8\n") == 19:
            break
    winner = shown(project)["run"]
    (project.root / "stop").touch()
    rest = race.communicate(timeout=90)[0]
    assert said.count("exit 8\n") == 19, "".join(said)
    assert "exit 0" in rest
    assert sum(winner in line for line in said) >= 19
    assert changes(project) == [winner]


@pytest.mark.parametrize("driver", ["papermill", "nbval"])
def test_after_a_failed_cell_nothing_is_changed_in_any_front_end(project, driver):
    path = project.root / "stubborn.ipynb"
    if driver == "papermill":
        write(path, tags=["raises-exception"])
        given = ("stubborn.ipynb", "out.ipynb", "-p", "fails", "True", "--no-progress-bar")
        assert project.run(*given, program="papermill").returncode == 1
    else:
        write(path)
        path.write_text(path.read_text().replace("fails: bool = False", "fails: bool = True"))
        done = project.run("--nbval-lax", "-p", "no:cacheprovider", path.name, program="pytest")
        assert done.returncode == 1
        assert done.stdout.count("the plan fails") >= 5, done.stdout
    assert changes(project) == []
    record = project.record("staging", "slow")
    assert record["status"] == "failed"
    assert [phase["name"] for phase in record["phases"]] == ["preflight", "plan"]


def test_a_closed_run_can_change_nothing(project):
    path = project.root / "stubborn.ipynb"
    write(path, tags=["raises-exception"])
    notebook = nbformat.read(path, as_version=4)
    notebook.cells.insert(4, new_code_cell("1 / 0", metadata={"tags": ["raises-exception"]}))
    nbformat.write(notebook, path)
    done = project.run("stubborn.ipynb", "out.ipynb", "--no-progress-bar", program="papermill")
    assert done.returncode == 1
    assert changes(project) == []
    assert "This run has ended: its record is closed." in done.stdout


def parts(run: subprocess.Popen[str]) -> dict[str, list[psutil.Process]]:
    """Return the processes of a run by kind, and all of them."""
    everything = [psutil.Process(run.pid), *psutil.Process(run.pid).children(recursive=True)]
    words = {"kernel": "ipykernel", "supervisor": "supervisor.py", "watchdog": "watchdog.py"}
    found = {
        name: [p for p in everything if w in " ".join(p.cmdline())] for name, w in words.items()
    }
    return found | {"daybook": everything[:1], "everything": everything}


@pytest.mark.parametrize(
    "victims",
    [("kernel",), ("daybook",), ("daybook", "kernel", "supervisor"), ("everything",)],
    ids=" ".join,
)
@pytest.mark.attack("F5", "processes of a run are killed: its lock stays for three minutes")
def test_the_lock_of_a_killed_run_is_free_within_seconds(project, victims):
    first = start(project, tools=1, seconds=300)
    wait_until(lambda: changes(project))
    held = shown(project)
    found = parts(first)
    for process in {each for name in victims for each in found[name]}:
        process.kill()
    killed = time.monotonic()
    end(first)
    assert first.returncode != 0
    wait_until(lambda: not any(each.is_running() for each in found["everything"][1:]))
    wait_until(lambda: not shown(project)["held"])
    assert time.monotonic() - killed < 40  # Each look takes seconds.
    second = start(project)
    said = end(second)
    assert second.returncode == 0, said
    assert shown(project) == {"held": False}
    record = json.loads((project.root / "runs/staging" / held["run"] / "record.json").read_text())
    assert record["status"] == "interrupted"


@pytest.mark.attack("F13", "a run continues, and ends with 0, after its supervisor was killed")
def test_a_killed_supervisor_fails_the_run(project):
    first = start(project, tools=1, seconds=300)
    wait_until(lambda: changes(project))
    [supervisor] = parts(first)["supervisor"]
    tools = supervisor.children(recursive=True)
    supervisor.kill()
    said = end(first)
    assert first.returncode == 5, said
    assert "was killed" in said
    assert psutil.wait_procs(tools, timeout=30)[1] == []
    assert project.record("staging", "slow")["status"] == "failed"
    assert shown(project) == {"held": False}
