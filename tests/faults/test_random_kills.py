"""Kill a step at random moments, three times in a row: the next run completes it without remains.

    DAYBOOK_KILLS=102 DAYBOOK_FAULT_SEED=4711 pytest -s tests/faults/test_random_kills.py

DAYBOOK_KILLS: the number of kills, three per chain; default 9. DAYBOOK_FAULT_SEED: repeats the
steps, victims, signals and moments of a seed. Each kill is printed as a row of a table; a kill
without a victim, because the run had already ended, is not counted.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from daybook.environment import Environment
from daybook.lock import recovery

ENV = "faults"
HOSTED, HOSTED_APP = "staging", "kills"
"""The environment with a configured host, in a separate project, for steps that need one."""
TRIAL = "DAYBOOK_TRIAL"
TOOL = "DAYBOOK_TOOL"
ORPHANS_S = 20.0
LOCK_S = 10.0
END_S = 300.0
PER_CHAIN = 3
TRIES = 12
"""The maximum kills per chain, because a run without changes ends before most moments."""
KILLS = int(os.environ.get("DAYBOOK_KILLS") or 9)
SEED = int(os.environ.get("DAYBOOK_FAULT_SEED") or random.SystemRandom().randrange(1_000_000))
INFRASTRUCTURE = ("provision", "teardown")
ON_HOST = ("first-deploy", "secrets", "rollback", "deploy", "configure", "first-deploy", "patch")
SECONDS = {"provision": 30, "teardown": 35, "configure": 150, "patch": 40}
"""The approximate duration of a step, default 25. A step is killed at a random moment within it, or
within the shorter duration of a run with less to do."""
VICTIMS = {
    "daybook": (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP),
    "kernel": (signal.SIGKILL, signal.SIGTERM),
    "supervisor": (signal.SIGKILL,),
    "tool": (signal.SIGKILL, signal.SIGTERM),
    "provider": (signal.SIGKILL,),
    "watchdog": (signal.SIGKILL,),
    "daybook kernel": (signal.SIGKILL,),
    "daybook kernel supervisor": (signal.SIGKILL,),
    "daybook kernel supervisor watchdog": (signal.SIGKILL,),
    "group": (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL),
    "everything": (signal.SIGKILL,),
}
TOOLS = {
    "provision": "terraform",
    "teardown": "terraform",
    "configure": "child.py",
    "first-deploy": "docker",
}

pytestmark = [
    pytest.mark.kills,
    pytest.mark.sandbox,
    pytest.mark.timeout(2400),
    pytest.mark.attack("F5", "a run is killed anywhere, three times in a row, and run again"),
]


@dataclass(frozen=True)
class Kill:
    """A victim, a signal, and the seconds after the start of the run or of a tool."""

    victim: str
    signum: int
    after_s: float
    tool: str = ""


def chains(steps: tuple[str, ...], number: int, name: str) -> list[tuple[str, str]]:
    """Return steps in rotation, each with the seed of its kills."""
    return [(steps[index % len(steps)], f"{SEED} {name} {index}") for index in range(number)]


def draw(dice: random.Random, step: str, longest_s: float) -> Kill:
    """Return a random kill in a run of at most `longest_s` seconds."""
    victim = dice.choice(list(VICTIMS))
    signum = dice.choice(VICTIMS[victim])
    if step in TOOLS and dice.random() < 0.5:
        return Kill(victim, signum, dice.uniform(0, 3), TOOLS[step])
    return Kill(victim, signum, dice.uniform(0, longest_s))


NUMBER = -(-KILLS // PER_CHAIN)
ON_INFRASTRUCTURE = chains(INFRASTRUCTURE, NUMBER if NUMBER <= 6 else NUMBER // 2, "infra")
ON_HOSTS = chains(ON_HOST, NUMBER - len(ON_INFRASTRUCTURE), "host")


@dataclass
class Chain:
    """A step that is killed several times and then run to its end."""

    sandbox: object
    env: str
    words: tuple[str, ...]
    rows: list[str] = field(default_factory=list)
    longest_s: float = 0.0

    def kill(self, seed: str) -> None:
        """Kill the step until three kills had a victim."""
        dice, hits = random.Random(seed), 0
        self.longest_s = SECONDS.get(self.words[1], 25)
        for _ in range(TRIES):
            hits += self.kill_once(draw(dice, self.words[1], self.longest_s))
            if hits == PER_CHAIN:
                return
        raise AssertionError(f"only {hits} of {TRIES} kills had a victim:\n" + "\n".join(self.rows))

    def kill_once(self, kill: Kill) -> bool:
        """Start the step, kill it, and assert that no process or lock remains.

        Returns True if the kill had a victim.
        """
        trial = f"trial-{SEED}-{time.monotonic_ns()}"
        known = set(self._runs())
        project = type(self.sandbox)(self.sandbox.root, extra={TRIAL: trial})
        process = project.start("daybook", *self.words, start_new_session=True)
        began = time.monotonic()
        processes = TrialProcesses(trial, lambda: {run.name for run in set(self._runs()) - known})
        self._await(kill, process, processes)
        victims = self._await_victims(kill, process, processes)
        at_s = time.monotonic() - began
        names = _signal(victims, kill, process)
        killed_at = time.monotonic()
        output, _ = process.communicate(timeout=END_S)
        orphans_s = processes.await_quiet(killed_at)
        lock_s = self._await_lock()
        self.rows.append(
            f"{self.words[1]:<10} {signal.Signals(kill.signum).name[3:]:<5} {kill.victim:<29} -> "
            f"{names or 'no victim'} at {at_s:.1f} s: exit {process.returncode}, "
            f"quiet after {orphans_s:.1f} s, lock free after {lock_s:.1f} s"
        )
        print(self.rows[-1], flush=True)
        if names and kill.signum == signal.SIGKILL and kill.victim in ("supervisor", "tool"):
            assert process.returncode != 0, f"success after a killed {kill.victim}:\n{output}"
        if not names:
            self.longest_s = max(1.0, min(self.longest_s, at_s) * 0.8)
        return bool(names)

    def finish(self) -> str:
        """Run the same command again, which must succeed."""
        done = self.sandbox.run(*self.words, timeout_s=900)
        print(f"{self.words[1]:<10} run again: exit {done.returncode}", flush=True)
        assert done.returncode == 0, "\n".join([*self.rows, done.stdout])
        assert self._lock() == {"held": False}
        verdicts = json.loads(self.sandbox.succeed("runs", "verify", "--all", "--json"))
        own = [verdict for verdict in verdicts if verdict["environment"] == self.env]
        assert {verdict["state"] for verdict in own} <= {"intact", "unsigned"}, own
        return done.stdout

    def _await(self, kill: Kill, process: subprocess.Popen, processes: TrialProcesses) -> None:
        deadline = time.monotonic() + 120
        while kill.tool and process.poll() is None and time.monotonic() < deadline:
            if any(kill.tool in processes.command(alive) for alive in processes.alive()):
                break
            time.sleep(0.1)
        try:
            process.wait(kill.after_s)
        except subprocess.TimeoutExpired:
            return

    def _await_victims(
        self, kill: Kill, process: subprocess.Popen, processes: TrialProcesses
    ) -> list[psutil.Process]:
        """Wait for victims and return them; empty if the run has ended."""
        while True:
            has_ended = process.poll() is not None
            if (victims := processes.victims(kill.victim, process)) or has_ended:
                return victims
            time.sleep(0.05)

    def _await_lock(self) -> float:
        began = time.monotonic()
        while self._lock().get("held"):
            assert time.monotonic() < began + LOCK_S, f"{self.rows}\n{self._lock()}"
            time.sleep(0.2)
        return time.monotonic() - began

    def _lock(self) -> dict:
        """Return the result of `daybook lock show` without the seconds of the command's start."""
        lock = recovery.lock_of(Environment.load(self.sandbox.root, self.env)).read()
        return (
            {"held": True, "lines": lock.lines()} if lock and not lock.is_free else {"held": False}
        )

    def _runs(self) -> Iterator[Path]:
        return (self.sandbox.root / "runs" / self.env).glob("2*")


@dataclass(frozen=True)
class TrialProcesses:
    """The processes of a trial, identified by its mark or, for tools, by their run."""

    trial: str
    runs: Callable[[], set[str]]

    def alive(self) -> list[psutil.Process]:
        runs = self.runs()
        return [process for process in psutil.process_iter() if self._is_ours(process, runs)]

    def victims(self, names: str, process: subprocess.Popen) -> list[psutil.Process]:
        alive = self.alive()
        if names in ("group", "everything"):
            return alive
        kinds = names.split()
        return [candidate for candidate in alive if self.kind(candidate, process) in kinds]

    def kind(self, candidate: psutil.Process, process: subprocess.Popen) -> str:
        """Return the kind of a process: daybook, kernel, watchdog, supervisor, provider, tool, …"""
        command = self.command(candidate)
        words = {
            "ipykernel": "kernel",
            "watchdog.py": "watchdog",
            "supervisor.py": "supervisor",
            "terraform-provider": "provider",
        }
        if candidate.pid == process.pid:
            return "daybook"
        if kind := next((kind for word, kind in words.items() if word in command), ""):
            return kind
        try:
            parent = candidate.parent()
        except psutil.Error:
            return "other"
        return "tool" if parent and "supervisor.py" in self.command(parent) else "other"

    @staticmethod
    def command(process: psutil.Process) -> str:
        try:
            return " ".join(process.cmdline())
        except psutil.Error:
            return ""

    def await_quiet(self, killed_at: float) -> float:
        """Wait until all processes have exited; unsupervised ones must exit within 20 s."""
        while alive := self.alive():
            late = time.monotonic() - killed_at
            commands = [self.command(process) for process in alive]
            is_supervised = any("supervisor.py" in command for command in commands)
            assert late < (END_S if is_supervised else ORPHANS_S), f"orphans: {commands}"
            time.sleep(0.2)
        return time.monotonic() - killed_at

    def _is_ours(self, process: psutil.Process, runs: set[str]) -> bool:
        try:
            environ = process.environ()
            is_tool = environ.get(TOOL, "").partition(".")[0] in runs
            is_ours = environ.get(TRIAL) == self.trial or is_tool
            return is_ours and process.status() != psutil.STATUS_ZOMBIE
        except psutil.Error:
            return False


def _signal(victims: list[psutil.Process], kill: Kill, process: subprocess.Popen) -> str:
    """Send the signal; return the names of the processes that received it."""
    if kill.victim == "group":
        try:
            os.killpg(process.pid, kill.signum)
        except ProcessLookupError:
            return ""
        return "group"
    # Stop all first, so that none can react to the death of another.
    for victim in victims:
        if len(victims) > 1:
            _send(victim, signal.SIGSTOP)
    names = [_send(victim, kill.signum) for victim in victims]
    for victim in victims:
        if len(victims) > 1 and kill.signum != signal.SIGKILL:
            _send(victim, signal.SIGCONT)
    return ", ".join(Path(name).name for name in names if name)


def _send(process: psutil.Process, signum: int) -> str:
    try:
        name = process.name()
        process.send_signal(signum)
    except psutil.Error:
        return ""
    return name


def name_of(value: object) -> str:
    """Return a parameter's part of the test ID: its number or its step."""
    return value[0] if isinstance(value, tuple) else str(value)


@pytest.fixture(scope="module", autouse=True)
def announced() -> None:
    print(f"\nDAYBOOK_FAULT_SEED={SEED} DAYBOOK_KILLS={KILLS}", flush=True)


@pytest.mark.parametrize(("number", "chain"), list(enumerate(ON_INFRASTRUCTURE)), ids=name_of)
def test_infrastructure(faulty, number: int, chain: tuple[str, str]):
    step, seed = chain
    if step == "teardown" and not faulty.hosts():
        faulty.sandbox.step("provision", ENV)
    killed = Chain(faulty.sandbox, ENV, command(step, ENV))
    killed.kill(seed)
    killed.finish()
    if step == "teardown":
        assert faulty.resources() == []
        return
    assert faulty.orphans() == []
    assert [host.state for host in faulty.hosts()] == ["running"]


@pytest.fixture(scope="module")
def hosted(sandbox, copy_project, make_project):
    """Yield a project with a configured host and two releases of the application."""
    root = copy_project(HOSTED_APP)
    (root / ".sandbox").symlink_to(sandbox.root / ".sandbox")
    project = make_project(root)
    own = {"app": HOSTED_APP, "dns_zone": f"{HOSTED_APP}.test", "domains": [f"{HOSTED_APP}.test"]}
    secrets = {"DATABASE_URL": "the database"}
    project.set(HOSTED, **own, vpc_cidr="10.78.0.0/16", secrets=secrets, deploy_via="none")
    project.step("bootstrap", HOSTED)
    set_secret(project)
    for step in ("provision", "configure", "first-deploy"):
        project.step(step, HOSTED)
    change_page(project)
    project.step("first-deploy", HOSTED)
    yield project
    project.step("teardown", HOSTED)


def command(step: str, env: str) -> tuple[str, ...]:
    typed = ("-p", "confirm", env) if step == "teardown" else ()
    return ("run", step, "-p", "env", env, "-p", "approve", "auto", *typed)


def change_page(project) -> None:
    page = project.root / "app/page.html"
    page.write_text(page.read_text() + f"<!-- {time.monotonic_ns()} -->\n")


def set_secret(project) -> None:
    file = project.root / "secret"
    file.write_text(f"postgres://app@db/{time.monotonic_ns()}")
    project.succeed("secrets", "set", "DATABASE_URL", "-f", str(file), "-e", HOSTED)
    file.unlink()


if ON_HOSTS:  # A few kills do not justify a configured host, and tests must not be skipped.

    @pytest.mark.parametrize(("number", "chain"), list(enumerate(ON_HOSTS)), ids=name_of)
    def test_on_a_host(hosted, number: int, chain: tuple[str, str]):
        step, seed = chain
        if step == "first-deploy":
            change_page(hosted)
        if step in ("deploy", "secrets"):
            set_secret(hosted)
        extra = ("-p", "name", "DATABASE_URL") if step == "secrets" else ()
        killed = Chain(hosted, HOSTED, (*command(step, HOSTED), *extra))
        killed.kill(seed)
        killed.finish()
        current = json.loads(hosted.succeed("release", "current", HOSTED, "--json"))
        assert [host["serving_version"] for host in current.values()] != [None]
