"""AWS or the disk fails at any call of a step: one clear error, a true record, and a next run.

The steps are whole, phase by phase as their notebooks call them; Terraform alone is a stand-in.
"""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import botocore.waiter
import pytest
from moto import mock_aws

from daybook import aws, probe, process, steps
from daybook.errors import NOTHING_CHANGED, DaybookError, status_of
from daybook.record import provenance, recorder, seal
from daybook.run import Run
from daybook.steps.base import Step

from .terraform_stand_in import ADDRESS, ENV, STATE_BUCKET, StandIn, client, make_account
from .weather import CALLS, FILES, LATE, Weather, stand_between

CHECKOUT = Path(__file__).parents[3]
CODES = {2, 3, 4, 5, 6, 7, 8, 130}
LOCKED = 8
SAME = ("operator", "host", "ci", "git", "versions")
"""Facts about this computer in a record's header; cached, because each takes a second."""
PHASES = ("preflight", "plan", "approve", "apply", "verify", "record")
GONE = {"pid": 2**22 + 1, "started": 0.0}
"""A kernel that has ended, so that the next run can close the record of each run."""
STEPS = {"bootstrap": steps.Bootstrap, "provision": steps.Provision, "teardown": steps.Teardown}
EXTRA = {"teardown": {"approve": {"confirm": ENV}}}
CONSOLE = """\
-----BEGIN SSH HOST KEY KEYS-----
{key}
-----END SSH HOST KEY KEYS-----
"""


@dataclass
class Outcome:
    """A step's result: the error that ended it, if any, and the failures that it met."""

    weather: Weather
    step: Step | None = None
    error: BaseException | None = None
    phase: str = ""

    @property
    def run(self) -> Run | None:
        """Return the step's run, if it has begun one."""
        return vars(self.step).get("run") if self.step else None

    @property
    def said(self) -> str:
        lines = getattr(self.error, "lines", lambda: [repr(self.error)])()
        return f"{self.phase}: {type(self.error).__name__}\n" + "\n".join(lines)


@dataclass
class World:
    """A project in moto's account, in which steps run with failures."""

    root: Path
    host_key: str
    weather: Weather = field(init=False)

    def __post_init__(self) -> None:
        self.weather = Weather(self.root)

    def prepare(self, name: str) -> None:
        """Prepare a new account without records, with the requirements of the step."""
        self.weather = Weather(self.root)
        for path in [each for each in (self.root / "runs").rglob("*") if each.is_dir()]:
            path.chmod(0o755)
        for folder in ("runs", ".cache", "ansible/inventories"):
            shutil.rmtree(self.root / folder, ignore_errors=True)
        (self.root / "ansible/inventories").mkdir(parents=True)
        self.mock.stop()
        self.mock.start(reset=True)
        if name != "bootstrap":
            make_account()
        if name == "teardown":
            assert self.drive("provision").error is None

    def drive(self, name: str, weather: Weather | None = None) -> Outcome:
        """Run a step's phases until one fails; then close its record, as a kernel does."""
        self.weather = weather or Weather(self.root)
        done = Outcome(self.weather)
        with self.weather.watched():
            try:
                done.phase = "begin"
                done.step = STEPS[name](ENV, approve="auto")
                for done.phase in PHASES:
                    self._do(done, EXTRA.get(name, {}).get(done.phase, {}))
            except Exception as err:
                done.error = err
                if done.run:
                    status = status_of(type(err).__name__) or "failed"
                    done.run.recorder.close(status, reason="its cell failed")
        self.weather = Weather(self.root)
        return done

    def _do(self, done: Outcome, extra: dict[str, str]) -> None:
        given = ("auto",) if done.phase == "approve" else ()
        getattr(done.step, done.phase)(*given, **extra)

    def sight(self) -> object:
        """Return the resources that a step changes, without locks."""
        with self.weather.calm():
            s3 = client("s3")
            buckets = sorted(each["Name"] for each in s3.list_buckets()["Buckets"])
            found = client("ec2").describe_instances()["Reservations"]
            instances = [one for each in found for one in each["Instances"]]
            states = {each["InstanceId"]: each["State"]["Name"] for each in instances}
            copies = client("ec2").describe_snapshots(OwnerIds=["self"])["Snapshots"]
            keys = (
                [
                    each["Key"]
                    for each in (
                        STATE_BUCKET in buckets and s3.list_objects_v2(Bucket=STATE_BUCKET)
                    ).get("Contents", ())
                    if each["Key"].endswith("state")
                ]
                if STATE_BUCKET in buckets
                else []
            )
        return buckets, states, len(copies), keys

    def console(self, _target: object, _id: str) -> str:
        """Return the console output of a first boot, which moto's hosts lack."""
        return CONSOLE.format(key=self.host_key)

    def addresses(self, name: str, _environ: object) -> list[str]:
        """Resolve a name while its host exists."""
        with self.weather.calm():
            states = self.terraform.hosts().values()
        if set(states) <= {"terminated"}:
            raise probe.NotYet(f"{name}: NXDOMAIN")
        return [ADDRESS]

    def runs(self) -> list[Path]:
        return sorted((self.root / "runs").glob(f"{ENV}/[0-9]*"))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, key: Path) -> Iterator[World]:
    """Yield a project with one client per service, and no delay between retries."""
    root = tmp_path_factory.mktemp("steps")
    for folder in ("environments", "terraform", "notebooks"):
        skip = shutil.ignore_patterns(".terraform", "tests")
        shutil.copytree(CHECKOUT / folder, root / folder, ignore=skip)
    (root / "ansible/inventories").mkdir(parents=True)
    (root / ".sandbox").mkdir()
    (root / ".sandbox/target.env").write_text(
        "AWS_REGION=us-east-1\nAWS_DEFAULT_REGION=us-east-1\n"
        f"AWS_ACCESS_KEY_ID=test\nAWS_SECRET_ACCESS_KEY=test\nDAYBOOK_SSH_KEY={key}\n"
    )
    known = {name: value for name, value in provenance.header(root).items() if name in SAME}
    it = World(root, key.with_name("key.pub").read_text().strip())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DAYBOOK_ROOT", str(root))
        patch.setenv("TMPDIR", str(root))
        patch.setattr(recorder, "_active", None)
        patch.setattr(botocore.waiter, "time", SimpleNamespace(sleep=lambda _s: None))
        patch.setattr(provenance, "header", lambda _: known | {"kernel": GONE})
        it.terraform = StandIn(process.run, lambda: it.weather.calm())
        patch.setattr(process, "run", it.terraform)
        patch.setattr(probe, "ssh_banner", lambda *_args, **_options: "SSH-2.0-OpenSSH_10.0")
        patch.setattr(probe, "addresses", it.addresses)
        stand_between(lambda: it.weather, patch)
        patch.setattr(aws, "console_output", it.console)
        it.mock = mock_aws()
        it.mock.start()
        yield it
        it.mock.stop()


def problems(world: World, before: object, done: Outcome) -> list[str]:
    """Return the problems of a step's result after a failure."""
    wrong, error = [], done.error
    if error is None:
        return []
    if not isinstance(error, DaybookError):
        return [f"a bare {type(error).__name__}"]
    wrong += [f"exit code {error.exit_code}"] if error.exit_code not in CODES else []
    is_told = (error.expected and error.observed) or error.details
    wrong += [] if is_told else ["not what was expected and observed"]
    wrong += [] if error.changed else ["not what was changed"]
    wrong += [] if error.next else ["not what comes next"]
    wrong += ["an escape sequence"] if "\x1b" in done.said else []
    if error.changed == NOTHING_CHANGED and world.sight() != before:
        wrong.append("it says that nothing was changed")
    return wrong


def record_problems(world: World, done: Outcome, again: Outcome) -> list[str]:
    """Return the problems in the records of a run with a failure and of the next run."""
    seal.close_abandoned(world.root, environment=ENV)
    closed = {folder: seal.load(folder) for folder in world.runs()}
    wrong = [f"{folder.name} is not closed" for folder, found in closed.items() if not found]
    for outcome in (done, again):
        if found := outcome.run and closed.get(outcome.run.folder):
            # If not even the end could be written, the record only shows that it is missing.
            good = {"succeeded", "interrupted"}
            is_so = (
                (found["status"] in good)
                if outcome.error is None
                else (found["status"] != "succeeded")
            )
            wrong += [] if is_so else [f"a record says {found['status']}"]
    return wrong


def storm(world: World, name: str, **bad: tuple[int, str]) -> list[str]:
    """Run a step with one failure, then without; return the problems."""
    world.prepare(name)
    before = world.sight()
    done = world.drive(name, Weather(world.root, **bad))
    wrong = problems(world, before, done)
    again = world.drive(name)
    if again.error:
        wrong.append("the next run does not end it")
    else:
        wrong += record_problems(world, done, again)
    [(kind, (at, how))] = bad.items()
    names = done.weather.calls if kind == "aws" else done.weather.files
    where = f"{name}, {at}: {names[at] if at < len(names) else 'not met'}, {how}"
    return [f"{where}: {', '.join(wrong)}\n{done.said}\n--- again\n{again.said}"] if wrong else []


def every(world: World, name: str, kind: str, each: int) -> list[str]:
    """Let every `each`-th pair of an operation and a way to fail happen to a step.

    each: 0 for each operation once, with the ways to fail taken in turn.
    """
    world.prepare(name)
    calm = world.drive(name)
    assert calm.error is None, calm.said
    count = len(calm.weather.calls if kind == "aws" else calm.weather.files)
    ways = CALLS if kind == "aws" else FILES
    pairs = itertools.product(range(count), ways)
    return [
        wrong
        for at, way in itertools.islice(pairs, 0, None, each or len(ways) + 1)
        for wrong in storm(world, name, **{kind: (at, way)})
    ]


@pytest.mark.parametrize("name", STEPS)
@pytest.mark.attack("F11", "AWS fails at any call of a step: cut off, expired, denied, a page")
def test_aws_fails_at_a_call(world, name):
    wrong = every(world, name, "aws", each=173)
    assert not wrong, "\n=======\n".join(wrong)


@pytest.mark.parametrize("name", STEPS)
@pytest.mark.attack("F11", "the disk fails at any operation of a step: full, read-only, broken")
def test_the_disk_fails_at_an_operation(world, name):
    wrong = every(world, name, "file", each=97)
    assert not wrong, "\n=======\n".join(wrong)


@pytest.mark.parametrize("name", STEPS)
@pytest.mark.parametrize("kind", ["aws", "file"])
@pytest.mark.timeout(7200)
@pytest.mark.faults
def test_each_operation_fails_in_turn(world, name, kind):
    # DAYBOOK_EACH=1 runs every operation with every failure, which takes hours.
    wrong = every(world, name, kind, each=int(os.environ.get("DAYBOOK_EACH") or 0))
    assert not wrong, "\n=======\n".join(wrong)


@pytest.mark.parametrize(
    ("call", "which", "how"),
    [("s3.PutObject", 0, f"{LATE}html"), ("s3.DeleteObject", -1, "throttled")],
    ids=["taken all the same", "not given back"],
)
@pytest.mark.attack("F10", "a lock that AWS did not let a run release blocks the next one")
def test_a_lock_is_free_as_soon_as_its_run_has_ended(world, call, which, how):
    world.prepare("provision")
    calls = world.drive("provision").weather.calls
    at = [number for number, name in enumerate(calls) if name == call][which]
    assert storm(world, "provision", aws=(at, how)) == []
