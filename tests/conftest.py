"""Fixtures for all tests: copies of the project, and one sandbox for the session."""

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
"""The settings for pushes in environments/*.yml."""
LIFE = "tests/sandbox/life/"
SHARES_SANDBOX = (LIFE, "tests/browser/test_provision.py", "tests/faults/", "tests/sandbox/")
RUNNING_SANDBOX = "DAYBOOK_TEST_SANDBOX"
"""The root of a checkout with a running sandbox to use instead of a new one."""
SANDBOX_LOG = pytest.StashKey[Path]()
SANDBOX_LINES = 40


@dataclass(frozen=True)
class Project:
    """A copy of the project and its `daybook` command. extra: additional environment variables."""

    root: Path
    extra: dict[str, str] = field(default_factory=dict, kw_only=True)

    def start(self, program: str, *args: str, **options: Any) -> subprocess.Popen[str]:
        """Start a program of the virtual environment here, with stdout and stderr in one pipe."""
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
        """Run `daybook ARGS` here and return the result with its output."""
        with self.start(program, *args) as process:
            try:
                output, _ = process.communicate(timeout=timeout_s)
            except subprocess.TimeoutExpired as late:
                process.kill()
                output = (late.output or b"").decode(errors="replace")
                pytest.fail(f"{program} {' '.join(args)}: not done in {timeout_s} s\n{output}")
        return subprocess.CompletedProcess(args, process.returncode, output)

    def succeed(self, *args: str, program: str = "daybook", timeout_s: float = 600) -> str:
        """Run `daybook ARGS`, which must exit with 0, and return its output."""
        done = self.run(*args, program=program, timeout_s=timeout_s)
        assert done.returncode == 0, f"{program} {' '.join(args)}: {done.returncode}\n{done.stdout}"
        return done.stdout

    @staticmethod
    def wait_for(process: subprocess.Popen[str], pattern: str) -> None:
        """Read a program's output up to a matching line."""
        lines = []
        for line in process.stdout:
            lines.append(line)
            if re.search(pattern, line):
                return
        pytest.fail(f"{pattern!r} was not printed: {''.join(lines)}")

    def step(self, name: str, env: str, approve: str = "auto") -> str:
        """Run a step, which must succeed, and return its output."""
        typed = ("-p", "confirm", env) if name == "teardown" else ()
        return self.succeed("run", name, "-p", "env", env, "-p", "approve", approve, *typed)

    def set(self, env: str, **changes: Any) -> None:
        """Change settings of an environment; create it from staging's if it is missing."""
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
    """The rehearsal cloud of a project copy. env: the variables for its clients."""

    up_options: tuple[str, ...] = ()

    @property
    def env(self) -> dict[str, str]:
        """Return the target's variables: {"AWS_ENDPOINT_URL": "http://…"}."""
        lines = (self.root / ".sandbox/target.env").read_text().splitlines()
        return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))

    @property
    def is_ours(self) -> bool:
        """False if the sandbox belongs to another checkout and must not be stopped here."""
        return not (self.root / ".sandbox").is_symlink()

    def up(self) -> None:
        """Start the sandbox; skip the test if this machine does not meet its requirements."""
        done = self.run("sandbox", "up", *self.up_options)
        if done.returncode == PREFLIGHT_FAILED:
            pytest.skip(f"the sandbox cannot start: {done.stdout.strip()}")
        assert done.returncode == 0, done.stdout

    def down(self) -> None:
        """Stop the sandbox; skip the test if it belongs to another checkout."""
        if not self.is_ours:
            pytest.skip(f"the sandbox in ${RUNNING_SANDBOX} belongs to another checkout")
        self.succeed("sandbox", "down")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--install`, which `make test` uses."""
    parser.addoption("--install", action="store_true", help="install Docker if it is missing")


class ByScope(LoadScopeScheduling):
    """One process runs the life tests, one the other sandbox tests; a file is never split."""

    def _split_scope(self, nodeid: str) -> str:
        return _scope(nodeid)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByScope:
    """Return the scheduler. pytest 9.2 drops the suffix of --dist=loadgroup."""
    return ByScope(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start with the longest scopes, so that none of them runs alone at the end."""
    longest = ("life", "sandbox")
    items.sort(key=lambda item: [*longest, _scope(item.nodeid)].index(_scope(item.nodeid)))


def _scope(nodeid: str) -> str:
    file = nodeid.split("::")[0]
    if file.startswith(LIFE):
        return "life"
    return "sandbox" if file.startswith(SHARES_SANDBOX) else file


class Shared:
    """A resource shared by test processes: the first one creates it, the last one removes it.

    Each process holds a shared lock on a file while it uses the resource.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self._mutex, self._users = (
            (folder / f"{name}.{kind}").open("a") for kind in ("mutex", "use")
        )

    @contextmanager
    def used(self, begin: Callable[[], Any], end: Callable[[], None]) -> Iterator[Any]:
        """Yield the result of `begin`, which each process calls, but only one at a time."""
        with self._exclusive():
            resource = begin()
            fcntl.flock(self._users, fcntl.LOCK_SH)
        try:
            yield resource
        finally:
            with self._exclusive():
                if self._is_alone():
                    end()
                fcntl.flock(self._users, fcntl.LOCK_UN)

    def wait_until_alone(self, within_s: float) -> None:
        """Wait until no other process uses the resource."""
        deadline = time.monotonic() + within_s
        while not self._is_alone():
            assert time.monotonic() < deadline, "another test process still uses the resource"
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
    def _exclusive(self) -> Iterator[None]:
        fcntl.flock(self._mutex, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self._mutex, fcntl.LOCK_UN)


@pytest.fixture(scope="session")
def copy_project(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return a function that copies the project, to isolate tests from the checkout's runs."""

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
            # A runner needs a token; tests of pushes configure one.
            settings.write_text(re.sub(DELIVERY, "", settings.read_text()))
        return root

    return copy


@pytest.fixture(scope="session")
def make_project() -> type[Project]:
    """Return the constructor of projects: make_project(root, extra=variables)."""
    return Project


@pytest.fixture(scope="module")
def aws(tmp_path_factory) -> Iterator[dict[str, str]]:
    """Yield the variables for an AWS API of this module."""
    key = tmp_path_factory.mktemp("ssh") / "id_ed25519"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    with subprocess.Popen([sys.executable, BARE_AWS], stdout=subprocess.PIPE, text=True) as server:
        port = server.stdout.readline().strip()
        keys = {"AWS_ACCESS_KEY_ID": "AKIDTEST", "AWS_SECRET_ACCESS_KEY": "test"}
        region = {"AWS_REGION": "us-east-1", "AWS_DEFAULT_REGION": "us-east-1"}
        endpoint = {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}", "DAYBOOK_SSH_KEY": str(key)}
        yield keys | region | endpoint
        server.terminate()


@pytest.fixture(scope="module")
def here(copy_project, aws, make_project):
    """Return a project that uses this API as its sandbox."""
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
    """Return a folder shared by all processes of this session."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


@pytest.fixture(scope="session")
def docker_engine(common: Path, request: pytest.FixtureRequest) -> Iterator[DockerClient]:
    """Yield a client of the engine; an engine started here is stopped at the end."""
    home = Home(common / "engine")
    home.folder.mkdir(parents=True, exist_ok=True)

    def begin() -> DockerClient:
        wanted = engine.ensure(home, print) if request.config.getoption("install") else None
        return wanted or engine.find(home)

    try:
        with Shared(common, "engine").used(begin, lambda: engine.stop(home)) as client:
            yield client
    except PreflightFailed as missing:
        pytest.skip(f"no usable Docker engine: {missing}")


@pytest.fixture(scope="session")
def sandbox_use(common: Path) -> Shared:
    """Return the users of the sandbox, for tests that need it exclusively."""
    return Shared(common, "sandbox")


@pytest.fixture(scope="session")
def sandbox(
    common: Path,
    sandbox_use: Shared,
    copy_project: Callable[[str], Path],
    docker_engine: DockerClient,
    request: pytest.FixtureRequest,
) -> Iterator[Sandbox]:
    """Yield a running sandbox on a copy of the project; it stops with the test session."""
    options = ("--install",) if request.config.getoption("install") else ()
    known = common / "sandbox.root"

    def begin() -> Sandbox:
        if known.exists():
            return Sandbox(Path(known.read_text()), options)
        created = Sandbox(copy_project("sandbox"), options)
        if running := os.environ.get(RUNNING_SANDBOX):
            (created.root / ".sandbox").symlink_to(Path(running) / ".sandbox")
        else:
            created.up()
        known.write_text(str(created.root))
        return created

    def end() -> None:
        shared = Sandbox(Path(known.read_text()), options)
        if shared.is_ours:
            shared.down()

    with sandbox_use.used(begin, end) as running:
        request.config.stash[SANDBOX_LOG] = running.root / ".sandbox/daemon.log"
        yield running


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Fail skipped tests in CI; add the sandbox's log to failed tests."""
    outcome = yield
    report = outcome.get_result()
    _refuse_skip(report)
    log = item.config.stash.get(SANDBOX_LOG, None)
    if report.failed and log and log.exists():
        last = log.read_text(errors="replace").splitlines()[-SANDBOX_LINES:]
        report.sections.append(("Sandbox's daemon.log", "\n".join(last)))


@pytest.hookimpl(hookwrapper=True)
def pytest_make_collect_report() -> Iterator[None]:
    """Fail skipped files in CI."""
    outcome = yield
    _refuse_skip(outcome.get_result())


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print the attacks and whether each was stopped."""
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
    rows = {(finding, title, words[report.outcome]) for report, (finding, title) in reports}
    for (finding, title), outcome in _worst(rows).items():
        terminalreporter.line(f"{finding:<5}{outcome:<13}{title}")


def _worst(rows: set[tuple[str, str, str]]) -> dict[tuple[str, str], str]:
    """Return one outcome per attack: the worst of its cases."""
    return {row[:2]: row[2] for row in sorted(rows, key=lambda row: (row[2] != "stopped", row))}


def pytest_itemcollected(item: pytest.Item) -> None:
    """Record each attack for the summary."""
    if mark := item.get_closest_marker("attack"):
        item.user_properties.append(("attack", mark.args))


def _refuse_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    if report.skipped and os.environ.get("CI") == "true" and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"Tests must not be skipped in CI. {reason}"


def _project_files() -> list[str]:
    """Return the existing files that git tracks or would track."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=CHECKOUT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    return [name for name in listed.split("\0") if name and (CHECKOUT / name).is_file()]
