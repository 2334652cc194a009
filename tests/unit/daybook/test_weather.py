"""AWS or the disk fails at any call of a command: one clear and correct error."""

from __future__ import annotations

import io
import itertools
import shutil
import sys
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import boto3
import pytest
import yaml
from moto import mock_aws

from daybook import cli
from daybook.record import provenance, seal

from .weather import CALLS, FILES, Weather, stand_between

CHECKOUT = Path(__file__).parents[3]
REGION = "us-east-1"
CODES = {0, 2, 3, 4, 5, 6, 7, 8, 130}
LOCKED = 8
VALUE = "sw0rdfish-of-a-test"
CHANGED = (
    "Nothing was changed.",
    "Already set",
    "Set before",
    "was set",
    "is not known",
    "is unknown whether",
    "in its record",
    "in this run's record",
)
TARGET = f"""\
AWS_REGION={REGION}
AWS_DEFAULT_REGION={REGION}
AWS_ACCESS_KEY_ID=test
AWS_SECRET_ACCESS_KEY=test
"""
SAME = ("operator", "host", "ci", "git", "versions")
"""Facts about this computer in a record's header; cached, because each takes a second."""
BUCKETS = ("hello-state-123456789012", "hello-records-123456789012")
SET = ("secrets", "set", "MAIL_TOKEN", "-e", "staging", "-f", "value")
COMMANDS = {
    "set": SET,
    "import": ("secrets", "import", "values.env", "-e", "staging"),
    "unset": ("secrets", "unset", "MAIL_TOKEN", "-e", "staging"),
    "list": ("secrets", "list", "-e", "staging"),
    "history": ("secrets", "history", "MAIL_TOKEN", "-e", "staging"),
    "lock": ("lock", "show", "staging"),
    "break": ("lock", "break", "staging", "--reason", "its holder is gone"),
    "runs": ("runs", "list"),
    "show": ("runs", "show"),
    "verify": ("runs", "verify", "--all"),
    "search": ("runs", "search", "MAIL_TOKEN"),
}
WANTED = {"set": VALUE, "import": VALUE, "unset": ""}
"""The value of MAIL_TOKEN after a command that changes it has succeeded."""
FINE = {("ssm.DeleteParameter", way) for way in ("nothing in it", "binary", "json of another kind")}
"""Failures that look like AWS's own answer, which is empty."""
NEEDS_VALUE = ("unset", "history", "show", "runs", "verify", "search")


@dataclass(frozen=True)
class Outcome:
    """A command's exit code and output."""

    code: int
    said: str


class World:
    """A project in moto's sandbox, in which commands run with failures."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.weather = Weather(root)
        self.ssm, self.s3 = (boto3.client(name, region_name=REGION) for name in ("ssm", "s3"))

    def run(self, args: tuple[str, ...], weather: Weather | None = None) -> Outcome:
        """Run `daybook ARGS` in this process, as its command does."""
        self.weather = weather or Weather(self.root)
        out, code = io.StringIO(), 0
        with (
            pytest.MonkeyPatch.context() as patch,
            redirect_stdout(out),
            redirect_stderr(out),
            self.weather.watched(),
        ):
            patch.setattr(sys, "argv", ["daybook", *args])
            try:
                cli.main()
            except SystemExit as ended:
                code = ended.code
        self.weather, calm = Weather(self.root), self.weather
        self.last = calm
        return Outcome(code, out.getvalue())

    def value(self) -> str:
        """Return the secret's value, "" for none."""
        try:
            name = "/hello/staging/MAIL_TOKEN"
            return self.ssm.get_parameter(Name=name, WithDecryption=True)["Parameter"]["Value"]
        except self.ssm.exceptions.ParameterNotFound:
            return ""

    def runs(self) -> list[Path]:
        return sorted((self.root / "runs").glob("staging/[0-9]*"))

    def prepare(self, command: str) -> None:
        """Remove the results of earlier commands, except those that the command needs."""
        found = self.ssm.describe_parameters()["Parameters"]
        for each in found:
            self.ssm.delete_parameter(Name=each["Name"])
        for bucket in BUCKETS:
            for each in self.s3.list_objects_v2(Bucket=bucket).get("Contents", ()):
                self.s3.delete_object(Bucket=bucket, Key=each["Key"])
        for folder in [each for each in (self.root / "runs").rglob("*") if each.is_dir()]:
            folder.chmod(0o755)
        shutil.rmtree(self.root / "runs", ignore_errors=True)
        if command in NEEDS_VALUE:
            assert self.run(SET).code == 0


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, key: Path) -> Iterator[World]:
    """Yield a project with one client per service, and no delay between retries."""
    root = tmp_path_factory.mktemp("weather")
    (root / "environments").mkdir()
    settings = yaml.safe_load((CHECKOUT / "environments/staging.yml").read_text())
    settings |= {"secrets": {"MAIL_TOKEN": "lets the shop send mail", "DATABASE_URL": "its orders"}}
    (root / "environments/staging.yml").write_text(yaml.safe_dump(settings))
    (root / ".sandbox").mkdir()
    (root / ".sandbox/target.env").write_text(f"{TARGET}DAYBOOK_SSH_KEY={key}\n")
    (root / "value").write_text(f"{VALUE}\n")
    (root / "values.env").write_text(f"MAIL_TOKEN={VALUE}\nDATABASE_URL=pg\n")
    known = {name: value for name, value in provenance.header(root).items() if name in SAME}
    with mock_aws(), pytest.MonkeyPatch.context() as patch:
        patch.setenv("DAYBOOK_ROOT", str(root))
        patch.setenv("TMPDIR", str(root))
        patch.chdir(root)
        patch.setattr(cli, "_close_stdin", lambda: None)
        patch.setattr(provenance, "header", lambda _: known | {"kernel": provenance.kernel()})
        it = World(root)
        stand_between(lambda: it.weather, patch)
        for bucket in BUCKETS:
            it.s3.create_bucket(Bucket=bucket)
        yield it


def problems(world: World, name: str, before: str, done: Outcome) -> list[str]:
    """Return the problems of a command's result after a failure."""
    wrong, said, after = [], done.said, world.value()
    wrong += [f"exit code {done.code}"] if done.code not in CODES else []
    wrong += [word for word in ("Traceback", "Unexpected error", "\x1b") if word in said]
    wrong += ["it shows the value"] if VALUE in said else []
    if done.code and "The settings cannot be read." not in said:
        wrong += [f"no {word}" for word in ("expected", "observed", "Next:") if word not in said]
        wrong += [] if any(word in said for word in CHANGED) else ["not what was changed"]
    elif not done.code and after != WANTED.get(name, before):
        wrong.append("it succeeded, and did not do it")
    if "Nothing was changed." in said and after != before:
        wrong.append("it says that nothing was changed")
    for folder in world.runs():
        closed = seal.load(folder)
        if closed and f"secrets-{name}" in folder.name:
            is_so = (closed["status"] == "succeeded") == (done.code == 0)
            wrong += [] if is_so else [f"its record says {closed['status']}"]
    return wrong


def storm(world: World, name: str, **bad: tuple[int, str]) -> list[str]:
    """Run a command with one failure, then without; return the problems."""
    world.prepare(name)
    before = world.value()
    done = world.run(COMMANDS[name], Weather(world.root, **bad))
    weather = world.last
    wrong = problems(world, name, before, done)
    again = world.run(COMMANDS[name])
    is_lock_left = again.code == LOCKED and "aws" in bad
    if (again.code or world.value() != WANTED.get(name, before)) and not is_lock_left:
        wrong.append(f"once more: {again.code}")
    [(kind, (at, how))] = bad.items()
    names = weather.calls if kind == "aws" else weather.files
    where = f"{name}, {names[at] if at < len(names) else 'not met'}, {how}"
    return [f"{where}: {', '.join(wrong)}\n{done.said}\n--- again\n{again.said}"] if wrong else []


def every(world: World, name: str, kind: str, each: int) -> list[str]:
    """Run a command with every `each`-th pair of an operation and a failure."""
    world.prepare(name)
    assert world.run(COMMANDS[name]).code == 0
    calls, files = world.last.calls, world.last.files
    count, ways = (len(calls), CALLS) if kind == "aws" else (len(files), FILES)
    pairs = list(itertools.product(range(count), ways))[::each]
    return [
        wrong
        for at, way in pairs
        if kind == "file" or (calls[at], way) not in FINE
        for wrong in storm(world, name, **{kind: (at, way)})
    ]


@pytest.mark.parametrize("name", ["set", "unset", "list", "history", "lock", "break"])
@pytest.mark.attack("F11", "AWS fails at any call: captive portal, cut off, expired, denied, slow")
def test_aws_fails_at_a_call(world, name):
    wrong = every(world, name, "aws", each=23)
    assert not wrong, "\n=======\n".join(wrong)


@pytest.mark.parametrize("name", [name for name in COMMANDS if name != "import"])
@pytest.mark.attack(
    "F11", "the disk fails at any operation: full, read-only, broken, no descriptor"
)
def test_the_disk_fails_at_an_operation(world, name):
    wrong = every(world, name, "file", each=41)
    assert not wrong, "\n=======\n".join(wrong)


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("kind", ["aws", "file"])
@pytest.mark.faults
def test_everything_fails_at_everything(world, name, kind):
    wrong = every(world, name, kind, each=1)
    assert not wrong, "\n=======\n".join(wrong)
