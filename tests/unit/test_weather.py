"""AWS or the disk fails at any call of a command: one clear error, and a world as it says."""

from __future__ import annotations

import io
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml
from botocore.retries.standard import ExponentialBackoff
from moto import mock_aws

from daybook import aws, cli
from daybook.record import provenance, record

from .weather import AWS, FILES, Weather

CHECKOUT = Path(__file__).parents[2]
REGION = "us-east-1"
CODES = {0, 2, 3, 4, 5, 6, 7, 8, 130}
CHANGED = ("Nothing was changed.", "Changed by then", "Set before", "is not known", "record")
TARGET = f"""\
AWS_REGION={REGION}
AWS_DEFAULT_REGION={REGION}
AWS_ACCESS_KEY_ID=test
AWS_SECRET_ACCESS_KEY=test
"""
SAME = ("operator", "host", "ci", "git", "versions")
"""What a record's header says of this computer: asked once, as it takes a second each time."""
BUCKETS = ("hello-state-123456789012", "hello-records-123456789012")


@dataclass(frozen=True)
class Outcome:
    """How a command ended, and all that it printed."""

    code: int
    said: str


class World:
    """A project in a sandbox of moto's, and what runs a command there in a given weather."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.weather = Weather(root)
        self.ssm = boto3.client("ssm", region_name=REGION)

    def run(self, args: tuple[str, ...], weather: Weather | None = None) -> Outcome:
        self.weather = weather or Weather(self.root)
        out = io.StringIO()
        with (
            pytest.MonkeyPatch.context() as patch,
            redirect_stdout(out),
            redirect_stderr(out),
            self.weather.watched(),
        ):
            patch.setattr(sys, "argv", ["daybook", *args])
            try:
                cli.main()
                code = 0
            except SystemExit as ended:
                code = ended.code
        return Outcome(code, out.getvalue())

    def value(self, name: str = "MAIL_TOKEN") -> str:
        """Return a secret's value, "" for none."""
        try:
            return self.ssm.get_parameter(Name=f"/hello/staging/{name}", WithDecryption=True)[
                "Parameter"
            ]["Value"]
        except self.ssm.exceptions.ParameterNotFound:
            return ""

    def runs(self) -> list[Path]:
        return sorted((self.root / "runs").glob("staging/[0-9]*"))

    def calm(self) -> None:
        """Forget the runs, the secrets and the lock of the command before."""
        for name in ("MAIL_TOKEN", "DATABASE_URL"):
            if self.value(name):
                self.ssm.delete_parameter(Name=f"/hello/staging/{name}")
        s3 = boto3.client("s3", region_name=REGION)
        for bucket in BUCKETS:
            for each in s3.list_objects_v2(Bucket=bucket).get("Contents", ()):
                s3.delete_object(Bucket=bucket, Key=each["Key"])
        for folder in (self.root / "runs").rglob("*"):
            if folder.is_dir():
                folder.chmod(0o755)
        shutil.rmtree(self.root / "runs", ignore_errors=True)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, key: Path) -> Iterator[World]:
    root = tmp_path_factory.mktemp("weather")
    (root / "environments").mkdir()
    settings = yaml.safe_load((CHECKOUT / "environments/staging.yml").read_text())
    settings |= {"secrets": {"MAIL_TOKEN": "lets the shop send mail", "DATABASE_URL": "its orders"}}
    (root / "environments/staging.yml").write_text(yaml.safe_dump(settings))
    (root / ".sandbox").mkdir()
    (root / ".sandbox/target.env").write_text(f"{TARGET}DAYBOOK_SSH_KEY={key}\n")
    known = {name: value for name, value in provenance.header(root).items() if name in SAME}
    make_session = aws._make_session
    with mock_aws(), pytest.MonkeyPatch.context() as patch:
        patch.setenv("DAYBOOK_ROOT", str(root))
        patch.chdir(root)
        patch.setenv("TMPDIR", str(root))
        patch.setattr(cli, "_close_stdin", lambda: None)
        patch.setattr(ExponentialBackoff, "delay_amount", lambda *_: 0)
        patch.setattr(
            provenance, "header", lambda _root: known | {"kernel": provenance.kernel()}
        )
        it = World(root)
        clients: dict[str, Any] = {}
        make = aws._make_client

        def watched(target: Any) -> boto3.Session:
            session = make_session(target)
            session.events.register_first(
                "before-send", lambda request, **options: it.weather.before_send(request, **options)
            )
            return session

        def kept(target: Any, service: str) -> Any:
            clients[service] = clients.get(service) or make(target, service)
            return clients[service]

        patch.setattr(aws, "_make_session", watched)
        patch.setattr(aws, "_make_client", kept)
        s3 = boto3.client("s3", region_name=REGION)
        for bucket in BUCKETS:
            s3.create_bucket(Bucket=bucket)
        (root / "value").write_text("sw0rdfish-of-a-test\n")
        (root / "values.env").write_text("MAIL_TOKEN=sw0rdfish-of-a-test\nDATABASE_URL=pg\n")
        yield it


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
WANTED = {"set": "sw0rdfish-of-a-test", "import": "sw0rdfish-of-a-test", "unset": ""}


def problems(world: World, name: str, before: str, done: Outcome) -> list[str]:
    """Return what is wrong with how a command ended in bad weather."""
    wrong, said, after = [], done.said, world.value()
    wrong += [f"exit code {done.code}"] if done.code not in CODES else []
    wrong += [word for word in ("Traceback", "Unexpected error", "\x1b[31m") if word in said]
    if done.code:
        wrong += [f"no {word}" for word in ("expected:", "observed:", "Next:") if word not in said]
        wrong += [] if any(word in said for word in CHANGED) else ["not what was changed"]
    elif after != WANTED.get(name, before):
        wrong.append("succeeded, and did not do it")
    if "Nothing was changed." in said and after != before:
        wrong.append("said that nothing was changed")
    for folder in world.runs():
        closed = record.load(folder)
        if closed and name in folder.name and (closed["status"] == "succeeded") != (done.code == 0):
            wrong.append(f"exit code {done.code} with a record that says {closed['status']}")
    return wrong


def storm(world: World, name: str, **bad: tuple[int, str]) -> list[str]:
    """Run a command in one weather, and once more when it is over; return what went wrong."""
    world.calm()
    if name == "unset":
        world.run(SET)
    before = world.value()
    weather = Weather(world.root, **bad)
    done = world.run(COMMANDS[name], weather)
    wrong = problems(world, name, before, done)
    again = world.run(COMMANDS[name])
    if again.code or world.value() != WANTED.get(name, before):
        wrong.append(f"run again: {again.code}")
    what = [(weather.calls, bad.get("aws")), (weather.files, bad.get("file"))]
    hit = [f"{names[which[0]]} {which[1]}" for names, which in what if which and which[0] < len(names)]
    return [f"{name}, {hit}: {', '.join(wrong)}\n{done.said}\n--- again\n{again.said}"] if wrong else []


def count(world: World, name: str) -> Weather:
    world.calm()
    if name == "unset":
        world.run(SET)
    assert world.run(COMMANDS[name]).code == 0
    return world.weather


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.faults
def test_all_aws(world, name):
    calls = len(count(world, name).calls)
    wrong = [w for at in range(calls) for how in AWS for w in storm(world, name, aws=(at, how))]
    print(len(wrong), "of", calls * len(AWS))
    assert not wrong, "\n=======\n".join(wrong)


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.faults
def test_all_files(world, name):
    files = len(count(world, name).files)
    wrong = [w for at in range(files) for how in FILES for w in storm(world, name, file=(at, how))]
    print(len(wrong), "of", files * len(FILES))
    assert not wrong, "\n=======\n".join(wrong)
