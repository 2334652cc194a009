"""What every test may ask for: a copy of the project, and one sandbox for the whole session."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parent.parent
PREFLIGHT_FAILED = 3


@dataclass(frozen=True)
class Project:
    """A copy of the project, and the `daybook` command in it."""

    root: Path

    def run(self, *args: str, timeout_s: float = 600) -> subprocess.CompletedProcess[str]:
        """Run `daybook ARGS` here and return what it said, whatever its exit code."""
        return subprocess.run(
            [Path(sys.executable).with_name("daybook"), *args],
            cwd=self.root,
            env=os.environ | {"DAYBOOK_ROOT": str(self.root)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout_s,
        )

    def succeed(self, *args: str, timeout_s: float = 600) -> str:
        """Run `daybook ARGS`, which must end with 0, and return what it said."""
        done = self.run(*args, timeout_s=timeout_s)
        assert done.returncode == 0, f"daybook {' '.join(args)}: {done.returncode}\n{done.stdout}"
        return done.stdout


@dataclass(frozen=True)
class Sandbox(Project):
    """The rehearsal cloud of a project copy; `env` is what a client of it needs."""

    up_options: tuple[str, ...] = ()

    @property
    def env(self) -> dict[str, str]:
        """Return the target's variables, as daybook reads them: {"AWS_ENDPOINT_URL": "http://…"}."""
        lines = (self.root / ".sandbox/target.env").read_text().splitlines()
        return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))

    def up(self) -> None:
        """Start the sandbox; skip the test where the machine lacks what it needs."""
        done = self.run("sandbox", "up", *self.up_options)
        if done.returncode == PREFLIGHT_FAILED:
            pytest.skip(f"no sandbox here: {done.stdout.strip()}")
        assert done.returncode == 0, done.stdout

    def down(self) -> None:
        """End the sandbox and everything in it."""
        self.succeed("sandbox", "down")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--install`, which `make test` gives."""
    parser.addoption("--install", action="store_true", help="install Docker where there is none")


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the project, so that no test touches the checkout's runs or sandbox."""
    root = tmp_path_factory.mktemp("project")
    for name in _project_files():
        target = root / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(CHECKOUT / name, target)
    terraform_rc = CHECKOUT / ".cache/terraform.rc"
    if terraform_rc.exists():
        (root / ".cache").mkdir()
        shutil.copy2(terraform_rc, root / ".cache")
    return root


@pytest.fixture(scope="session")
def sandbox(project: Path, request: pytest.FixtureRequest) -> Iterator[Sandbox]:
    """Yield a running sandbox on the project copy; it ends with the test session."""
    options = ("--install",) if request.config.getoption("install") else ()
    it = Sandbox(project, options)
    it.up()
    yield it
    it.down()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport() -> Iterator[None]:
    """Fail a test that skips itself in CI, where everything a test needs is installed."""
    outcome = yield
    _refuse_skip(outcome.get_result())


@pytest.hookimpl(hookwrapper=True)
def pytest_make_collect_report() -> Iterator[None]:
    """Fail a file that skips itself whole in CI."""
    outcome = yield
    _refuse_skip(outcome.get_result())


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
