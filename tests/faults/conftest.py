"""An environment whose runs are killed: how to strike one, finish it, and see what is left."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import boto3
import psutil
import pytest
from botocore.exceptions import ClientError

from daybook.environment import Environment
from daybook.resources.instances import Instance, instances_of
from daybook.resources.owned import Resource, owned_resources

ENV = "faults"
APP = "faulty"
STATE = f"env:/{ENV}/environment/terraform.tfstate"
ENDED_S = 240
"""How long tools may take to end what they had begun when their run was killed."""
KILLS = {
    "daybook run, SIGTERM": ("run", signal.SIGTERM),
    "daybook run, SIGINT": ("run", signal.SIGINT),
    "daybook run, SIGKILL": ("run", signal.SIGKILL),
    "kernel, SIGKILL": ("kernel", signal.SIGKILL),
    "kernel, SIGTERM": ("kernel", signal.SIGTERM),
}


@dataclass(frozen=True)
class Ground:
    """One environment in the sandbox, and what AWS has of it."""

    sandbox: Any

    def strike(self, step: str, kill: str, *, when: float | str) -> str:
        """Start a step, kill it after seconds or at a line like this, and return what it said.

        Nothing that it started may live on.
        """
        before = set(psutil.pids())
        process = self.begin(step)
        said: list[str] = []
        moment = threading.Event()
        reader = threading.Thread(target=_read, args=(process, said, when, moment))
        reader.start()
        moment.wait(when if isinstance(when, float) else ENDED_S)
        _kill(process, *KILLS[kill])
        process.wait(ENDED_S)
        self.await_quiet(before)
        reader.join()
        process.stdout.close()
        return "".join(said)

    def begin(self, step: str) -> subprocess.Popen[str]:
        """Start a step in a session of its own, as a terminal does."""
        return self.sandbox.start("daybook", *self._command(step), start_new_session=True)

    def finish(self, step: str) -> str:
        """Run the step to its good end."""
        return self.sandbox.step(step, ENV)

    def client(self, service: str) -> Any:
        """Return a client of the sandbox's AWS with the operator's credentials."""
        target = self.environment.target
        return boto3.client(
            service,
            endpoint_url=target.environ["AWS_ENDPOINT_URL"],
            aws_access_key_id=target.environ["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=target.environ["AWS_SECRET_ACCESS_KEY"],
            region_name=target.region,
        )

    @property
    def environment(self) -> Environment:
        """Return the environment as its settings are now."""
        return Environment.load(self.sandbox.root, ENV)

    @property
    def bucket(self) -> str:
        """Return the name of the bucket that keeps Terraform's state."""
        return self.environment.state_bucket

    def objects(self, ending: str) -> list[str]:
        """Return the keys in the state bucket that end like this."""
        found = self.client("s3").list_objects_v2(Bucket=self.bucket).get("Contents", ())
        return [each["Key"] for each in found if each["Key"].endswith(ending)]

    def await_quiet(self, before: set[int]) -> None:
        """Wait until no process that was not there before works in the project any more."""
        deadline = time.monotonic() + ENDED_S
        while alive := [
            each
            for each in psutil.process_iter()
            if each.pid not in before and self._works_here(each)
        ]:
            assert time.monotonic() < deadline, f"still there: {alive}"
            psutil.wait_procs(alive, timeout=1)

    def orphans(self) -> list[Resource]:
        """Return what AWS has in the environment's name and Terraform's state does not know."""
        state = self.state()
        return [each for each in self.left() if f'"{each.id}"' not in state]

    def left(self) -> list[Resource]:
        """Return what AWS has in the environment's name."""
        return owned_resources(self.environment)

    def hosts(self) -> tuple[Instance, ...]:
        return instances_of(self.environment)

    def state(self) -> str:
        """Return Terraform's state as text, "" before there is any."""
        s3, bucket = self._state_bucket()
        try:
            answer = s3.get_object(Bucket=bucket, Key=STATE)
        except ClientError:
            return ""
        return answer["Body"].read().decode()

    @contextmanager
    def unwritable_state(self) -> Iterator[None]:
        """Have S3 refuse to write Terraform's state, and nothing else, as long as this lasts."""
        s3, bucket = self._state_bucket()
        policy = s3.get_bucket_policy(Bucket=bucket)["Policy"]
        document = json.loads(policy)
        document["Statement"].append(
            {
                "Effect": "Deny",
                "Principal": "*",
                "Action": "s3:PutObject",
                "Resource": f"arn:aws:s3:::{bucket}/{STATE}",
            }
        )
        s3.put_bucket_policy(Bucket=bucket, Policy=json.dumps(document))
        try:
            yield
        finally:
            s3.put_bucket_policy(Bucket=bucket, Policy=policy)

    def _state_bucket(self) -> tuple[Any, str]:
        return self.client("s3"), self.bucket

    def _command(self, step: str) -> tuple[str, ...]:
        typed = ("-p", "confirm", ENV) if step == "teardown" else ()
        return ("run", step, "-p", "env", ENV, "-p", "approve", "auto", *typed)

    def _works_here(self, process: psutil.Process) -> bool:
        try:
            return process.cwd().startswith(str(self.sandbox.root))
        except psutil.Error:
            return False


def _read(
    process: subprocess.Popen, said: list[str], when: float | str, moment: threading.Event
) -> None:
    for line in process.stdout:
        said.append(line)
        if isinstance(when, str) and re.search(when, line):
            moment.set()
    moment.set()


def _kill(process: subprocess.Popen, whom: str, signum: int) -> None:
    """Kill the run or its kernel; one that has ended by then is as good as killed at its end."""
    try:
        pid = process.pid if whom == "run" else _kernel(process).pid
        os.kill(pid, signum)
    except (ProcessLookupError, psutil.NoSuchProcess, StopIteration):
        return


def _kernel(process: subprocess.Popen) -> psutil.Process:
    children = psutil.Process(process.pid).children(recursive=True)
    return next(each for each in children if any("ipykernel" in arg for arg in each.cmdline()))


@pytest.fixture(scope="module")
def ground(sandbox) -> Iterator[Ground]:
    """Yield the environment; nothing of it is left afterwards."""
    names = {"dns_zone": f"{APP}.test", "domains": [f"{APP}.test"]}
    sandbox.set(ENV, app=APP, vpc_cidr="10.77.0.0/16", **names)
    sandbox.step("bootstrap", ENV)
    it = Ground(sandbox)
    yield it
    if it.left():
        it.finish("teardown")


@pytest.fixture
def survive(ground: Ground) -> Callable[..., None]:
    """Return what kills a step, finishes it with the next run, and looks for orphans."""

    def survive(step: str, *strikes: tuple[str, float | str]) -> None:
        if step == "teardown" and not ground.hosts():
            ground.finish("provision")
        for kill, when in strikes:
            ground.strike(step, kill, when=when)
        ground.finish(step)
        if step == "teardown":
            assert ground.left() == []
            return
        assert ground.orphans() == []
        assert [host.state for host in ground.hosts()] == ["running"]

    return survive


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Say at once why a test failed: a night of random kills is long."""
    if report.failed:
        print(f"\n{report.nodeid}\n{report.longreprtext[-4000:]}", flush=True)
