"""What every test may ask for: a copy of the project, and one sandbox for the whole session."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml
from docker import DockerClient
from xdist.scheduler import LoadScopeScheduling

from daybook.errors import PreflightFailed
from daybook_sandbox import engine
from daybook_sandbox.state import Home

CHECKOUT = Path(__file__).resolve().parent.parent
BARE_AWS = CHECKOUT / "tests/terraform/bare_aws.py"
"""An AWS API without machines."""
PREFLIGHT_FAILED = 3
DELIVERY = r"(?ms)^deploy_via:.*?(?=^secrets:)"
"""The lines of an environment's settings about pushes."""
LIFE = "tests/sandbox/life/"
SHARES_SANDBOX = (LIFE, "tests/browser/test_provision.py", "tests/faults/", "tests/sandbox/")
RUNNING_SANDBOX = "DAYBOOK_TEST_SANDBOX"
"""The root of a checkout whose running sandbox the tests use, instead of one of their own."""
SANDBOX_LOG = pytest.StashKey[Path]()
SANDBOX_LINES = 40


@dataclass(frozen=True)
class Project:
    """A copy of the project, and the `daybook` command in it; `extra` adds to its environment."""

    root: Path
    extra: dict[str, str] = field(default_factory=dict, kw_only=True)

    def start(self, program: str, *args: str, **options: Any) -> subprocess.Popen[str]:
        """Start a program of the virtual environment here, its output in one pipe."""
        return subprocess.Popen(
            [Path(sys.executable).with_name(program), *args],
            cwd=self.root,
            env=os.environ | {"DAYBOOK_ROOT": str(self.root)} | self.extra,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            **options,
        )

    def run(
        self, *args: str, program: str = "daybook", timeout_s: float = 600
    ) -> subprocess.CompletedProcess[str]:
        """Run `daybook ARGS` here and return what it said, whatever its exit code."""
        with self.start(program, *args) as process:
            try:
                said, _ = process.communicate(timeout=timeout_s)
            except subprocess.TimeoutExpired as late:
                process.kill()
                said = (late.output or b"").decode(errors="replace")
                pytest.fail(f"{program} {' '.join(args)}: not done in {timeout_s} s\n{said}")
        return subprocess.CompletedProcess(args, process.returncode, said)

    def succeed(self, *args: str, program: str = "daybook", timeout_s: float = 600) -> str:
        """Run `daybook ARGS`, which must end with 0, and return what it said."""
        done = self.run(*args, program=program, timeout_s=timeout_s)
        assert done.returncode == 0, f"{program} {' '.join(args)}: {done.returncode}\n{done.stdout}"
        return done.stdout

    @staticmethod
    def wait_for(process: subprocess.Popen[str], pattern: str) -> None:
        """Read what a program prints as far as a line like this."""
        said = []
        for line in process.stdout:
            said.append(line)
            if re.search(pattern, line):
                return
        pytest.fail(f"{pattern!r} did not come: {''.join(said)}")

    def step(self, name: str, env: str, approve: str = "auto") -> str:
        """Run a step to its good end and return what it said."""
        typed = ("-p", "confirm", env) if name == "teardown" else ()
        return self.succeed("run", name, "-p", "env", env, "-p", "approve", approve, *typed)

    def set(self, env: str, **changes: Any) -> None:
        """Change settings of an environment, or make one from staging's."""
        path = self.root / "environments" / f"{env}.yml"
        source = path if path.exists() else path.with_name("staging.yml")
        settings = yaml.safe_load(source.read_text())
        path.write_text(yaml.safe_dump(settings | changes))

    def record(self, env: str, step: str) -> dict[str, Any]:
        """Return the newest record of a step."""
        folder = max((self.root / "runs" / env).glob(f"*-{step}-*"))
        return json.loads((folder / "record.json").read_text())


@dataclass(frozen=True)
class Sandbox(Project):
    """The rehearsal cloud of a project copy; `env` is what a client of it needs."""

    up_options: tuple[str, ...] = ()

    @property
    def env(self) -> dict[str, str]:
        """Return the target's variables, as daybook reads them: {"AWS_ENDPOINT_URL": "http://…"}."""
        lines = (self.root / ".sandbox/target.env").read_text().splitlines()
        return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))

    @property
    def is_ours(self) -> bool:
        """True unless somebody else's sandbox is used, which is not to be ended here."""
        return not (self.root / ".sandbox").is_symlink()

    def up(self) -> None:
        """Start the sandbox; skip the test where the machine lacks what it needs."""
        done = self.run("sandbox", "up", *self.up_options)
        if done.returncode == PREFLIGHT_FAILED:
            pytest.skip(f"no sandbox here: {done.stdout.strip()}")
        assert done.returncode == 0, done.stdout

    def down(self) -> None:
        """End the sandbox and everything in it; skip the test where it is not ours to end."""
        if not self.is_ours:
            pytest.skip(f"the sandbox in ${RUNNING_SANDBOX} is not ours to end")
        self.succeed("sandbox", "down")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--install`, which `make test` gives."""
    parser.addoption("--install", action="store_true", help="install Docker where there is none")


class ByScope(LoadScopeScheduling):
    """One process has the life's tests, one the others of the sandbox; a file stays in one."""

    def _split_scope(self, nodeid: str) -> str:
        return _scope(nodeid)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByScope:
    """Return who gives tests to processes. The suffix of --dist=loadgroup is lost in pytest 9.2."""
    return ByScope(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest, so that no process is left with it at the end."""
    longest = ("life", "sandbox")
    items.sort(key=lambda item: [*longest, _scope(item.nodeid)].index(_scope(item.nodeid)))


def _scope(nodeid: str) -> str:
    file = nodeid.split("::")[0]
    if file.startswith(LIFE):
        return "life"
    return "sandbox" if file.startswith(SHARES_SANDBOX) else file


class Shared:
    """Something that test processes share: the first brings it about, the last ends it.

    A process that uses it holds a lock on a file, and gives the lock up with the file.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self._turn, self._users = (
            (folder / f"{name}.{kind}").open("a") for kind in ("turn", "use")
        )

    @contextmanager
    def used(self, begin: Callable[[], Any], end: Callable[[], None]) -> Iterator[Any]:
        """Give what `begin` returns; it is called in each process, and never in two at once."""
        with self._in_turn():
            found = begin()
            fcntl.flock(self._users, fcntl.LOCK_SH)
        try:
            yield found
        finally:
            with self._in_turn():
                if self._is_alone():
                    end()
                fcntl.flock(self._users, fcntl.LOCK_UN)

    def wait_until_alone(self, within_s: float) -> None:
        """Wait until no other process uses it."""
        deadline = time.monotonic() + within_s
        while not self._is_alone():
            assert time.monotonic() < deadline, "another test process still uses it"
            time.sleep(0.5)

    def _is_alone(self) -> bool:
        try:
            fcntl.flock(self._users, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        finally:
            fcntl.flock(self._users, fcntl.LOCK_SH)
        return True

    @contextmanager
    def _in_turn(self) -> Iterator[None]:
        fcntl.flock(self._turn, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self._turn, fcntl.LOCK_UN)


@pytest.fixture(scope="session")
def copy_project(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return what copies the project, so that no test touches the checkout's runs or sandbox."""

    def copy(name: str) -> Path:
        root = tmp_path_factory.mktemp(name)
        for file in _project_files():
            target = root / file
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(CHECKOUT / file, target)
        terraform_rc = CHECKOUT / ".cache/terraform.rc"
        if terraform_rc.exists():
            (root / ".cache").mkdir()
            shutil.copy2(terraform_rc, root / ".cache")
        for settings in (root / "environments").glob("*.yml"):
            # A runner needs a token: who tests pushes asks for one.
            settings.write_text(re.sub(DELIVERY, "", settings.read_text()))
        return root

    return copy


@pytest.fixture(scope="session")
def make_project() -> type[Project]:
    """Return what makes a project of a folder: make_project(root, extra=variables)."""
    return Project


@pytest.fixture(scope="module")
def aws(tmp_path_factory) -> Iterator[dict[str, str]]:
    """Yield the variables that lead to an AWS API of this module's own."""
    key = tmp_path_factory.mktemp("ssh") / "id_ed25519"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    with subprocess.Popen([sys.executable, BARE_AWS], stdout=subprocess.PIPE, text=True) as server:
        port = server.stdout.readline().strip()
        keys = {"AWS_ACCESS_KEY_ID": "AKIDTEST", "AWS_SECRET_ACCESS_KEY": "test"}
        region = {"AWS_REGION": "us-east-1", "AWS_DEFAULT_REGION": "us-east-1"}
        where = {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}", "DAYBOOK_SSH_KEY": str(key)}
        yield keys | region | where
        server.terminate()


@pytest.fixture(scope="module")
def here(copy_project, aws, make_project):
    """Return a project whose sandbox is that API."""
    root = copy_project("steps")
    (root / ".sandbox").mkdir()
    lines = [f"{name}={value}\n" for name, value in aws.items()]
    (root / ".sandbox/target.env").write_text("".join(lines))
    return make_project(root)


@pytest.fixture(scope="module")
def client(aws):
    session = boto3.Session("AKIDTEST", "test", region_name="us-east-1")
    return lambda service: session.client(service, endpoint_url=aws["AWS_ENDPOINT_URL"])


@pytest.fixture(scope="session")
def project(copy_project: Callable[[str], Path]) -> Path:
    """Return a copy of the project."""
    return copy_project("project")


@pytest.fixture(scope="session")
def common(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder that all processes of this session share."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


@pytest.fixture(scope="session")
def docker_engine(common: Path, request: pytest.FixtureRequest) -> Iterator[DockerClient]:
    """Yield a client of an engine that outlives every sandbox; one started here is ended here."""
    home = Home(common / "engine")
    home.folder.mkdir(parents=True, exist_ok=True)

    def begin() -> DockerClient:
        wanted = engine.ensure(home, print) if request.config.getoption("install") else None
        return wanted or engine.find(home)

    try:
        with Shared(common, "engine").used(begin, lambda: engine.stop(home)) as client:
            yield client
    except PreflightFailed as missing:
        pytest.skip(f"no Docker engine here: {missing}")


@pytest.fixture(scope="session")
def sandbox_use(common: Path) -> Shared:
    """Return who uses the sandbox: for tests that have to be alone with it."""
    return Shared(common, "sandbox")


@pytest.fixture(scope="session")
def sandbox(
    common: Path,
    sandbox_use: Shared,
    copy_project: Callable[[str], Path],
    docker_engine: DockerClient,
    request: pytest.FixtureRequest,
) -> Iterator[Sandbox]:
    """Yield a running sandbox on a copy of the project; it ends with the test session."""
    options = ("--install",) if request.config.getoption("install") else ()
    known = common / "sandbox.root"

    def begin() -> Sandbox:
        if known.exists():
            return Sandbox(Path(known.read_text()), options)
        it = Sandbox(copy_project("sandbox"), options)
        if running := os.environ.get(RUNNING_SANDBOX):
            (it.root / ".sandbox").symlink_to(Path(running) / ".sandbox")
        else:
            it.up()
        known.write_text(str(it.root))
        return it

    def end() -> None:
        it = Sandbox(Path(known.read_text()), options)
        if it.is_ours:
            it.down()

    with sandbox_use.used(begin, end) as it:
        request.config.stash[SANDBOX_LOG] = it.root / ".sandbox/daemon.log"
        yield it


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Fail a test that skips itself in CI; show with a failed one what the sandbox said."""
    outcome = yield
    report = outcome.get_result()
    _refuse_skip(report)
    log = item.config.stash.get(SANDBOX_LOG, None)
    if report.failed and log and log.exists():
        last = log.read_text(errors="replace").splitlines()[-SANDBOX_LINES:]
        report.sections.append(("Sandbox's daemon.log", "\n".join(last)))


@pytest.hookimpl(hookwrapper=True)
def pytest_make_collect_report() -> Iterator[None]:
    """Fail a file that skips itself whole in CI."""
    outcome = yield
    _refuse_skip(outcome.get_result())


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print which attacks ran, and whether each was stopped."""
    reports = [
        (report, dict(report.user_properties)["attack"])
        for outcome in ("passed", "failed", "error", "skipped")
        for report in terminalreporter.getreports(outcome)
        if "attack" in dict(getattr(report, "user_properties", ()))
    ]
    if not reports:
        return
    terminalreporter.section("attacks")
    words = {"passed": "stopped", "failed": "NOT STOPPED", "skipped": "not tried"}
    rows = {(finding, what, words[report.outcome]) for report, (finding, what) in reports}
    for (finding, what), outcome in _worst(rows).items():
        terminalreporter.line(f"{finding:<5}{outcome:<13}{what}")


def _worst(rows: set[tuple[str, str, str]]) -> dict[tuple[str, str], str]:
    """Return one outcome for each attack: of several cases, the one that matters most."""
    return {row[:2]: row[2] for row in sorted(rows, key=lambda row: (row[2] != "stopped", row))}


def pytest_itemcollected(item: pytest.Item) -> None:
    """Note with each attack what it tries, for the table at the end."""
    if mark := item.get_closest_marker("attack"):
        item.user_properties.append(("attack", mark.args))


def _refuse_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    if report.skipped and os.environ.get("CI") == "true" and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"In CI nothing may be skipped. {reason}"


def _project_files() -> list[str]:
    """Return what git tracks or would track; deleted files are not there to be copied."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=CHECKOUT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    return [name for name in listed.split("\0") if name and (CHECKOUT / name).is_file()]
