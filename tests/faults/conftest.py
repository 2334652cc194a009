"""An environment for killed runs: kill a step, finish it, and inspect the remaining resources."""

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
"""The maximum time for tools to finish their work after their run was killed."""
KILLS = {
    "daybook run, SIGTERM": ("run", signal.SIGTERM),
    "daybook run, SIGINT": ("run", signal.SIGINT),
    "daybook run, SIGKILL": ("run", signal.SIGKILL),
    "kernel, SIGKILL": ("kernel", signal.SIGKILL),
    "kernel, SIGTERM": ("kernel", signal.SIGTERM),
}


@dataclass(frozen=True)
class FaultyEnvironment:
    """An environment in the sandbox, and its resources in AWS."""

    sandbox: Any

    def kill_step(self, step: str, kill: str, *, when: float | str) -> str:
        """Start a step, kill it after seconds or at a matching line, and return its output.

        All processes it started must exit.
        """
        before = set(psutil.pids())
        process = self.begin(step)
        lines: list[str] = []
        moment = threading.Event()
        reader = threading.Thread(target=_read, args=(process, lines, when, moment))
        reader.start()
        moment.wait(when if isinstance(when, float) else ENDED_S)
        _kill(process, *KILLS[kill])
        process.wait(ENDED_S)
        self.await_quiet(before)
        reader.join()
        process.stdout.close()
        return "".join(lines)

    def begin(self, step: str) -> subprocess.Popen[str]:
        """Start a step in a new session, like a terminal."""
        return self.sandbox.start("daybook", *self._command(step), start_new_session=True)

    def finish(self, step: str) -> str:
        """Run a step, which must succeed."""
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
        """Return the environment with its current settings."""
        return Environment.load(self.sandbox.root, ENV)

    @property
    def bucket(self) -> str:
        """Return the name of the bucket with Terraform's state."""
        return self.environment.state_bucket

    def objects(self, ending: str) -> list[str]:
        """Return the keys in the state bucket with this ending."""
        objects = self.client("s3").list_objects_v2(Bucket=self.bucket).get("Contents", ())
        return [item["Key"] for item in objects if item["Key"].endswith(ending)]

    def await_quiet(self, before: set[int]) -> None:
        """Wait until all new processes in the project have exited."""
        deadline = time.monotonic() + ENDED_S
        while alive := [
            process
            for process in psutil.process_iter()
            if process.pid not in before and self._works_here(process)
        ]:
            assert time.monotonic() < deadline, f"still running: {alive}"
            psutil.wait_procs(alive, timeout=1)

    def orphans(self) -> list[Resource]:
        """Return the environment's resources that are not in Terraform's state."""
        state = self.state()
        return [resource for resource in self.resources() if f'"{resource.id}"' not in state]

    def resources(self) -> list[Resource]:
        """Return the environment's resources in AWS."""
        return owned_resources(self.environment)

    def hosts(self) -> tuple[Instance, ...]:
        return instances_of(self.environment)

    def state(self) -> str:
        """Return Terraform's state as text, "" if there is none."""
        s3, bucket = self._state_bucket()
        try:
            answer = s3.get_object(Bucket=bucket, Key=STATE)
        except ClientError:
            return ""
        return answer["Body"].read().decode()

    @contextmanager
    def unwritable_state(self) -> Iterator[None]:
        """Make S3 refuse only writes of Terraform's state in this context."""
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
    process: subprocess.Popen, lines: list[str], when: float | str, moment: threading.Event
) -> None:
    for line in process.stdout:
        lines.append(line)
        if isinstance(when, str) and re.search(when, line):
            moment.set()
    moment.set()


def _kill(process: subprocess.Popen, target: str, signum: int) -> None:
    """Kill the run or its kernel; a run that has already ended counts as killed at its end."""
    try:
        pid = process.pid if target == "run" else _kernel(process).pid
        os.kill(pid, signum)
    except (ProcessLookupError, psutil.NoSuchProcess, StopIteration):
        return


def _kernel(process: subprocess.Popen) -> psutil.Process:
    children = psutil.Process(process.pid).children(recursive=True)
    return next(child for child in children if any("ipykernel" in arg for arg in child.cmdline()))


@pytest.fixture(scope="module")
def faulty(sandbox) -> Iterator[FaultyEnvironment]:
    """Yield the environment; it is torn down afterwards."""
    names = {"dns_zone": f"{APP}.test", "domains": [f"{APP}.test"]}
    sandbox.set(ENV, app=APP, vpc_cidr="10.77.0.0/16", **names)
    sandbox.step("bootstrap", ENV)
    environment = FaultyEnvironment(sandbox)
    yield environment
    if environment.resources():
        environment.finish("teardown")


@pytest.fixture
def survive(faulty: FaultyEnvironment) -> Callable[..., None]:
    """Return a function that kills a step, finishes it, and asserts that no orphans remain."""

    def survive(step: str, *kills: tuple[str, float | str]) -> None:
        if step == "teardown" and not faulty.hosts():
            faulty.finish("provision")
        for kill, when in kills:
            faulty.kill_step(step, kill, when=when)
        faulty.finish(step)
        if step == "teardown":
            assert faulty.resources() == []
            return
        assert faulty.orphans() == []
        assert [host.state for host in faulty.hosts()] == ["running"]

    return survive


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Print failures immediately, because a run of random kills takes hours."""
    if report.failed:
        print(f"\n{report.nodeid}\n{report.longreprtext[-4000:]}", flush=True)
