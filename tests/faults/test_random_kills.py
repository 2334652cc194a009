"""Kill a step anywhere, three times in a row: the next run ends it, and nothing is left behind.

    DAYBOOK_KILLS=102 DAYBOOK_FAULT_SEED=4711 pytest -s tests/faults/test_random_kills.py

DAYBOOK_KILLS: how many kills, three a chain; 9 unless it is set. DAYBOOK_FAULT_SEED: the same
steps, victims, signals and moments again. Each kill is printed as a row of a table; one that met
nobody, because the run was over by then, counts for none.
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
"""The environment whose host is configured, for the steps that work on it; in its own project."""
TRIAL = "DAYBOOK_TRIAL"
TOOL = "DAYBOOK_TOOL"
ORPHANS_S = 20.0
LOCK_S = 10.0
END_S = 300.0
PER_CHAIN = 3
TRIES = 12
"""How often a chain may try: a run that has nothing left to do is over before most moments."""
KILLS = int(os.environ.get("DAYBOOK_KILLS") or 9)
SEED = int(os.environ.get("DAYBOOK_FAULT_SEED") or random.SystemRandom().randrange(1_000_000))
INFRASTRUCTURE = ("provision", "teardown")
ON_HOST = ("first-deploy", "secrets", "rollback", "deploy", "configure", "first-deploy", "patch")
SECONDS = {"provision": 30, "teardown": 35, "configure": 150, "patch": 40}
"""How long a step about takes, others 25: it is killed at any moment of that, or of what a run
takes that has less to do."""
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
    """Whom to kill, by which signal, and when: seconds after the start, or after a tool's start."""

    victim: str
    signum: int
    after_s: float
    tool: str = ""


def chains(steps: tuple[str, ...], number: int, name: str) -> list[tuple[str, str]]:
    """Return steps in turn, each with the seed of its kills; the same for the same seed."""
    return [(steps[index % len(steps)], f"{SEED} {name} {index}") for index in range(number)]


def draw(dice: random.Random, step: str, longest_s: float) -> Kill:
    """Return whom to kill, and when, in a run that takes no longer than this."""
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
    """A step that is killed some times, and then run to its end."""

    sandbox: object
    env: str
    words: tuple[str, ...]
    rows: list[str] = field(default_factory=list)
    longest_s: float = 0.0

    def kill(self, seed: str) -> None:
        """Strike until three strikes have met somebody."""
        dice, met = random.Random(seed), 0
        self.longest_s = SECONDS.get(self.words[1], 25)
        for _ in range(TRIES):
            met += self.strike(draw(dice, self.words[1], self.longest_s))
            if met == PER_CHAIN:
                return
        raise AssertionError(f"only {met} of {TRIES} strikes met anybody:\n" + "\n".join(self.rows))

    def strike(self, kill: Kill) -> bool:
        """Start the step, kill as it is asked, and see that nothing lives on and no lock stays."""
        trial = f"trial-{SEED}-{time.monotonic_ns()}"
        known = set(self._runs())
        project = type(self.sandbox)(self.sandbox.root, extra={TRIAL: trial})
        process = project.start("daybook", *self.words, start_new_session=True)
        began = time.monotonic()
        look = Look(trial, lambda: {run.name for run in set(self._runs()) - known})
        self._await(kill, process, look)
        victims = self._await_victims(kill, process, look)
        at_s = time.monotonic() - began
        names = _signal(victims, kill, process)
        struck = time.monotonic()
        said, _ = process.communicate(timeout=END_S)
        orphans_s = look.await_quiet(struck)
        lock_s = self._await_lock()
        self.rows.append(
            f"{self.words[1]:<10} {signal.Signals(kill.signum).name[3:]:<5} {kill.victim:<29} -> "
            f"{names or 'nobody'} at {at_s:.1f} s: exit {process.returncode}, "
            f"quiet after {orphans_s:.1f} s, lock free after {lock_s:.1f} s"
        )
        print(self.rows[-1], flush=True)
        if names and kill.signum == signal.SIGKILL and kill.victim in ("supervisor", "tool"):
            assert process.returncode != 0, f"a killed {kill.victim} was taken for success:\n{said}"
        if not names:
            self.longest_s = max(1.0, min(self.longest_s, at_s) * 0.8)
        return bool(names)

    def finish(self) -> str:
        """Run the step to its end: nothing but the same command again."""
        done = self.sandbox.run(*self.words, timeout_s=900)
        print(f"{self.words[1]:<10} run again: exit {done.returncode}", flush=True)
        assert done.returncode == 0, "\n".join([*self.rows, done.stdout])
        assert self._lock() == {"held": False}
        verdicts = json.loads(self.sandbox.succeed("runs", "verify", "--all", "--json"))
        own = [each for each in verdicts if each["environment"] == self.env]
        assert {each["state"] for each in own} <= {"intact", "unsigned"}, own
        return done.stdout

    def _await(self, kill: Kill, process: subprocess.Popen, look: Look) -> None:
        deadline = time.monotonic() + 120
        while kill.tool and process.poll() is None and time.monotonic() < deadline:
            if any(kill.tool in look.command(each) for each in look.alive()):
                break
            time.sleep(0.1)
        try:
            process.wait(kill.after_s)
        except subprocess.TimeoutExpired:
            return

    def _await_victims(
        self, kill: Kill, process: subprocess.Popen, look: Look
    ) -> list[psutil.Process]:
        """Return the victims as soon as there are any; none of a run that is over."""
        while True:
            is_over = process.poll() is not None
            if (found := look.victims(kill.victim, process)) or is_over:
                return found
            time.sleep(0.05)

    def _await_lock(self) -> float:
        began = time.monotonic()
        while self._lock().get("held"):
            assert time.monotonic() < began + LOCK_S, f"{self.rows}\n{self._lock()}"
            time.sleep(0.2)
        return time.monotonic() - began

    def _lock(self) -> dict:
        """Return what `daybook lock show` says; not by the command, whose start takes seconds."""
        seen = recovery.lock_of(Environment.load(self.sandbox.root, self.env)).read()
        return (
            {"held": True, "lines": seen.lines()} if seen and not seen.is_free else {"held": False}
        )

    def _runs(self) -> Iterator[Path]:
        return (self.sandbox.root / "runs" / self.env).glob("2*")


@dataclass(frozen=True)
class Look:
    """The processes of one trial: by its mark, or by the run that they are tools of."""

    trial: str
    runs: Callable[[], set[str]]

    def alive(self) -> list[psutil.Process]:
        runs = self.runs()
        return [each for each in psutil.process_iter() if self._is_ours(each, runs)]

    def victims(self, names: str, process: subprocess.Popen) -> list[psutil.Process]:
        found = self.alive()
        if names in ("group", "everything"):
            return found
        kinds = names.split()
        return [each for each in found if self.kind(each, process) in kinds]

    def kind(self, each: psutil.Process, process: subprocess.Popen) -> str:
        """Return what a process is: daybook, kernel, watchdog, supervisor, provider, tool, …"""
        command = self.command(each)
        words = {
            "ipykernel": "kernel",
            "watchdog.py": "watchdog",
            "supervisor.py": "supervisor",
            "terraform-provider": "provider",
        }
        if each.pid == process.pid:
            return "daybook"
        if kind := next((kind for word, kind in words.items() if word in command), ""):
            return kind
        try:
            parent = each.parent()
        except psutil.Error:
            return "other"
        return "tool" if parent and "supervisor.py" in self.command(parent) else "other"

    @staticmethod
    def command(process: psutil.Process) -> str:
        try:
            return " ".join(process.cmdline())
        except psutil.Error:
            return ""

    def await_quiet(self, struck: float) -> float:
        """Wait until nothing of the trial is left; what nobody supervises has 20 s."""
        while alive := self.alive():
            late = time.monotonic() - struck
            commands = [self.command(each) for each in alive]
            is_supervised = any("supervisor.py" in each for each in commands)
            assert late < (END_S if is_supervised else ORPHANS_S), f"orphans: {commands}"
            time.sleep(0.2)
        return time.monotonic() - struck

    def _is_ours(self, process: psutil.Process, runs: set[str]) -> bool:
        try:
            environ = process.environ()
            is_tool = environ.get(TOOL, "").partition(".")[0] in runs
            is_ours = environ.get(TRIAL) == self.trial or is_tool
            return is_ours and process.status() != psutil.STATUS_ZOMBIE
        except psutil.Error:
            return False


def _signal(victims: list[psutil.Process], kill: Kill, process: subprocess.Popen) -> str:
    """Send the signal; return whom it met."""
    if kill.victim == "group":
        try:
            os.killpg(process.pid, kill.signum)
        except ProcessLookupError:
            return ""
        return "group"
    # All at once, so that none has time to see another one go.
    for each in victims:
        if len(victims) > 1:
            _send(each, signal.SIGSTOP)
    met = [Path(each).name for each in (_send(each, kill.signum) for each in victims) if each]
    for each in victims:
        if len(victims) > 1 and kill.signum != signal.SIGKILL:
            _send(each, signal.SIGCONT)
    return ", ".join(met)


def _send(process: psutil.Process, signum: int) -> str:
    try:
        name = process.name()
        process.send_signal(signum)
    except psutil.Error:
        return ""
    return name


def name_of(value: object) -> str:
    """Return how a parameter shows in a test's name: by its number, and by its step."""
    return value[0] if isinstance(value, tuple) else str(value)


@pytest.fixture(scope="module", autouse=True)
def announced() -> None:
    print(f"\nDAYBOOK_FAULT_SEED={SEED} DAYBOOK_KILLS={KILLS}", flush=True)


@pytest.mark.parametrize(("number", "chain"), list(enumerate(ON_INFRASTRUCTURE)), ids=name_of)
def test_infrastructure(ground, number: int, chain: tuple[str, str]):
    step, seed = chain
    if step == "teardown" and not ground.hosts():
        ground.sandbox.step("provision", ENV)
    it = Chain(ground.sandbox, ENV, command(step, ENV))
    it.kill(seed)
    it.finish()
    if step == "teardown":
        assert ground.left() == []
        return
    assert ground.orphans() == []
    assert [host.state for host in ground.hosts()] == ["running"]


@pytest.fixture(scope="module")
def hosted(sandbox, copy_project, make_project):
    """Yield a project with an environment whose host serves two versions of the application."""
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


if ON_HOSTS:  # A few kills are not worth a configured host, and nothing may be skipped.

    @pytest.mark.parametrize(("number", "chain"), list(enumerate(ON_HOSTS)), ids=name_of)
    def test_on_a_host(hosted, number: int, chain: tuple[str, str]):
        step, seed = chain
        if step == "first-deploy":
            change_page(hosted)
        if step in ("deploy", "secrets"):
            set_secret(hosted)
        extra = ("-p", "name", "DATABASE_URL") if step == "secrets" else ()
        it = Chain(hosted, HOSTED, (*command(step, HOSTED), *extra))
        it.kill(seed)
        it.finish()
        current = json.loads(hosted.succeed("release", "current", HOSTED, "--json"))
        assert [each["serving_version"] for each in current.values()] != [None]
