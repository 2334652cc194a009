"""The lock with moto's S3 over HTTP: one winner, and every lock expires or can be broken."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any

import boto3
import pytest
from botocore.exceptions import EndpointConnectionError
from moto.server import ThreadedMotoServer

from daybook import liveness
from daybook.errors import AwsFailed, Locked, SettingsError
from daybook.lock import object_lock
from daybook.lock.object_lock import Holder, Lock
from daybook_sandbox import atomic_writes

BUCKET = "hello-state-123456789012"
ANN = Holder(
    run="20261123T184500Z-provision-aaaaaa",
    step="provision",
    operator="ann <ann@example.test>",
    host="anns-laptop",
    target="REHEARSAL",
    since="2026-11-23T18:45:00.000Z",
)
BEN = replace(ANN, run="20261123T184501Z-configure-bbbbbb", step="configure", operator="ben")
LEFT = object_lock.StateLockRequest("lock-1", "before", {"boot": "x"})
CHILD = """
import sys, threading, boto3
from daybook.lock.object_lock import Holder, Lock
s3 = boto3.client("s3", endpoint_url=sys.argv[1])
held = Lock(s3, sys.argv[2], "staging")
held.acquire(Holder(run="dead", term_s=3.0))
with held.held(on_lost=lambda: None):
    print("taken", flush=True)
    threading.Event().wait()
"""


@dataclass
class Bucket:
    """An empty bucket; every lock gets a separate client, as every run does."""

    endpoint: str

    def client(self) -> Any:
        return boto3.client("s3", endpoint_url=self.endpoint)

    def lock(self) -> Lock:
        return Lock(self.client(), BUCKET, "staging")


class Unsteady:
    """A client that fails to write, or writes and loses the answer."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self.is_down = self.repeats = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self.client, name)

    def put_object(self, **given: Any) -> Any:
        if self.is_down:
            raise EndpointConnectionError(endpoint_url="https://s3.example.test")
        if self.repeats:
            self.client.put_object(**given)
        return self.client.put_object(**given)


@pytest.fixture(scope="module")
def server():
    with pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "testing")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        atomic_writes.patch()
        server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
        server.start()
        yield Bucket(f"http://127.0.0.1:{server.get_host_and_port()[1]}")
        server.stop()


@pytest.fixture
def bucket(server: Bucket) -> Bucket:
    server.client().create_bucket(Bucket=BUCKET)
    server.client().delete_object(Bucket=BUCKET, Key="locks/staging.json")
    return server


def test_a_lock_names_its_holder_and_its_expiry(bucket):
    bucket.lock().acquire(ANN)
    seen = bucket.lock().read()
    assert seen.holder == ANN
    assert not seen.is_free
    assert (seen.until - seen.now).total_seconds() == pytest.approx(object_lock.TERM_S, abs=2)
    said = "\n".join(seen.lines())
    for fact in ("ann@example.test", "anns-laptop", ANN.run, "provision", "REHEARSAL", ANN.since):
        assert fact in said


def test_a_second_run_gets_the_holders_details(bucket):
    bucket.lock().acquire(ANN)
    with pytest.raises(Locked) as caught:
        bucket.lock().acquire(BEN)
    assert caught.value.exit_code == 8
    for fact in (ANN.run, ANN.operator, "--wait", "daybook lock break staging", "Nothing was"):
        assert fact in str(caught.value)


def test_exactly_one_of_twenty_runs_proceeds(bucket):
    start = threading.Barrier(20)

    def attempt(number: int) -> str:
        mine, who = bucket.lock(), replace(ANN, run=f"run-{number}")
        start.wait()
        try:
            mine.acquire(who)
        except Locked:
            return ""
        return who.run

    for _ in range(5):
        with ThreadPoolExecutor(20) as pool:
            winners = [run for run in pool.map(attempt, range(20)) if run]
        assert len(winners) == 1
        assert bucket.lock().read().holder.run == winners[0]
        bucket.client().delete_object(Bucket=BUCKET, Key="locks/staging.json")


def test_a_released_lock_is_free(bucket):
    first = bucket.lock()
    first.acquire(ANN)
    first.release()
    assert bucket.lock().read() is None
    bucket.lock().acquire(BEN)


def test_a_run_waits_for_the_holder(bucket):
    first, waited_for = bucket.lock(), []
    first.acquire(ANN)

    def on_wait(held: Locked) -> None:
        waited_for.append(str(held))
        first.release()

    bucket.lock().acquire(BEN, wait_s=30, on_wait=on_wait)
    assert bucket.lock().read().holder == BEN
    assert ANN.run in waited_for[0]


def test_a_run_waits_no_longer_than_requested(bucket, monkeypatch):
    monkeypatch.setattr(object_lock, "POLL_S", 0.1)
    bucket.lock().acquire(ANN)
    began = time.monotonic()
    with pytest.raises(Locked, match=ANN.run):
        bucket.lock().acquire(BEN, wait_s=1)
    assert 1 <= time.monotonic() - began < 3


def test_the_lock_of_a_killed_process_expires(bucket, monkeypatch):
    monkeypatch.setattr(object_lock, "POLL_S", 0.1)
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, bucket.endpoint, BUCKET],
        stdout=subprocess.PIPE,
        env=dict(os.environ),
        text=True,
    )
    assert child.stdout.readline() == "taken\n"
    with pytest.raises(Locked):  # The holder is alive for longer than the term.
        bucket.lock().acquire(BEN, wait_s=5)
    child.kill()
    child.wait()
    killed = time.monotonic()
    with pytest.raises(Locked, match="run: dead"):
        bucket.lock().acquire(BEN)
    bucket.lock().acquire(BEN, wait_s=30)
    assert time.monotonic() - killed < 3 + 1.5
    child.stdout.close()


def test_a_broken_lock_is_free_and_its_holder_gets_the_reason(bucket):
    old = bucket.lock()
    old.acquire(ANN)
    was = bucket.lock().break_(replace(BEN, reason="ann went home"))
    assert was.holder == ANN
    assert bucket.lock().read().is_free
    with pytest.raises(Locked, match="ann went home") as caught:
        old.verify_held()
    assert caught.value.exit_code == 8
    assert not old.is_held
    with pytest.raises(Locked):  # The lock stays lost after its release.
        old.verify_held()
    bucket.lock().acquire(replace(ANN, run="next"))
    old.release()
    assert bucket.lock().read().holder.run == "next"


def test_only_a_held_lock_can_be_broken(bucket):
    assert bucket.lock().break_(BEN) is None
    first = bucket.lock()
    first.acquire(ANN)
    first.release()
    assert bucket.lock().break_(BEN) is None
    assert bucket.lock().read() is None


def test_a_working_holder_notices_a_broken_lock(bucket, monkeypatch):
    monkeypatch.setattr(object_lock, "RENEW_S", 0.2)
    old, told = bucket.lock(), threading.Event()
    old.acquire(ANN)
    with old.held(on_lost=told.set):
        assert not told.wait(1)
        bucket.lock().break_(BEN)
        assert told.wait(3)
    assert BEN.operator in str(old.lost)


def test_on_lost_is_not_called_after_the_work_has_ended(bucket, monkeypatch):
    monkeypatch.setattr(object_lock, "RENEW_S", 0.2)
    old, told = bucket.lock(), threading.Event()
    old.acquire(ANN)
    with old.held(on_lost=told.set):
        pass
    bucket.lock().break_(BEN)
    assert not told.wait(1)


def test_an_expired_lock_can_be_renewed_if_it_was_not_acquired(bucket):
    mine = bucket.lock()
    mine.acquire(replace(ANN, term_s=0.0))
    assert bucket.lock().read().is_free
    mine.verify_held()
    assert mine.is_held


def test_an_expired_lock_is_lost_after_another_run_acquired_it(bucket):
    mine, other = bucket.lock(), bucket.lock()
    mine.acquire(replace(ANN, term_s=0.0))
    other.acquire(BEN)
    other.release()
    with pytest.raises(Locked, match="acquired by another run"):
        mine.verify_held()


def test_an_outage_is_tolerated_for_a_part_of_the_term(bucket):
    client = Unsteady(bucket.client())
    mine = Lock(client, BUCKET, "staging")
    mine.acquire(replace(ANN, term_s=1.0))
    client.is_down = True
    mine.verify_held()
    assert mine.is_held
    time.sleep(object_lock.TRUSTED)
    with pytest.raises(Locked, match="could not be renewed in time"):
        mine.verify_held()


def test_a_write_with_a_lost_answer_counts(bucket):
    client = Unsteady(bucket.client())
    client.repeats = True
    mine = Lock(client, BUCKET, "staging")
    mine.acquire(ANN)
    mine.verify_held()
    assert bucket.lock().read().holder == replace(ANN, renewals=1)
    mine.release()
    assert bucket.lock().read() is None


@pytest.fixture
def dead(tmp_path) -> Holder:
    """Return a killed holder of this machine with a long remaining term."""
    life = liveness.hold(tmp_path / ".alive/dead")
    holder = replace(ANN, run="dead", life=life.proof, state_locks=(LEFT,))
    os.close(life.fd)
    return holder


@pytest.mark.attack("F5", "a killed run keeps its own machine waiting for its lock's term")
def test_the_lock_of_a_run_killed_on_this_machine_is_free_immediately(bucket, dead):
    bucket.lock().acquire(dead)
    assert bucket.lock().read().is_free
    assert "killed" in "\n".join(bucket.lock().read().lines())
    mine = bucket.lock()
    mine.acquire(BEN)
    assert mine.previous.holder == dead
    assert bucket.lock().read().holder == replace(BEN, state_locks=dead.state_locks)


def test_the_lock_of_a_running_run_on_this_machine_is_respected(bucket, tmp_path):
    life = liveness.hold(tmp_path / ".alive/r1")
    bucket.lock().acquire(replace(ANN, life=life.proof))
    with pytest.raises(Locked):
        bucket.lock().acquire(BEN)
    life.end()
    with pytest.raises(Locked):  # Without its file, its end is not proven.
        bucket.lock().acquire(BEN)


def test_a_killed_run_on_another_machine_keeps_its_term(bucket, dead):
    bucket.lock().acquire(replace(dead, life={**dead.life, "boot": "another"}))
    with pytest.raises(Locked):
        bucket.lock().acquire(BEN)


def test_the_next_holder_gets_terraforms_lock_requests(bucket):
    mine = bucket.lock()
    mine.acquire(ANN)
    for number in range(object_lock.STATE_LOCKS + 3):
        mine.note_state_lock(f"lock-{number}")
    requests = bucket.lock().read().holder.state_locks
    ids = [request.id for request in requests]
    assert ids == [f"lock-{number}" for number in range(3, object_lock.STATE_LOCKS + 3)]
    assert {request.run for request in requests} == {ANN.run}
    bucket.lock().break_(BEN)
    other = bucket.lock()
    other.acquire(BEN)
    assert other.previous.holder.state_locks == requests
    assert other.previous.age_s == pytest.approx(0, abs=2)
    mine.release()
    assert bucket.lock().read().holder.run == BEN.run


def test_remove_releases_only_the_dead_holders_lock(bucket, dead):
    bucket.lock().acquire(dead)
    seen = bucket.lock().read()
    bucket.lock().acquire(BEN)
    bucket.lock().remove(seen)
    assert bucket.lock().read().holder.run == BEN.run
    bucket.lock().remove(bucket.lock().read())
    assert bucket.lock().read() is None


@pytest.mark.parametrize(
    ("content", "operator"),
    [
        (b'{"operator": "ann", "mood": "good"}', "ann"),
        (b'{"operator": "ann", "life": ["x"], "state_locks": {"y": 7}}', "ann"),
        (
            b'{"operator": "ann", "life": {"boot": 7, "file": {}}, "state_locks": [[], null, {}]}',
            "ann",
        ),
        (b'{"operator": "ann", "state_locks": [{"id": 1, "run": 2, "life": 3}]}', "ann"),
        (b"not JSON", "an unknown operator"),
        (b"7", "an unknown operator"),
    ],
)
def test_unknown_content_still_locks(bucket, content, operator):
    bucket.client().put_object(Bucket=BUCKET, Key="locks/staging.json", Body=content)
    with pytest.raises(Locked, match=f"holder: {operator}"):
        bucket.lock().acquire(BEN)


@pytest.mark.parametrize(
    ("text", "expected"), [("", 0), ("0", 0), ("90s", 90), ("10m", 600), ("2h", 7200)]
)
def test_durations(text, expected):
    assert object_lock.parse_wait(text) == expected


@pytest.mark.parametrize("text", ["10", "ten", "-1m", "1.5h", "10 m", "1d"])
def test_invalid_durations(text):
    with pytest.raises(SettingsError, match="such as 90s"):
        object_lock.parse_wait(text)


HOSTILE = {
    **{
        f"{name}: {value!r:.20}": {**asdict(ANN), name: value}
        for name in Holder.__annotations__
        for value in (None, [], {}, "x", -1, 1e308, 10**400, True, [{}], {"life": 1}, "a\n\x1b[2J")
    },
    "a term of 1e400": b'{"term_s": 1e400}',
    "no number": b'{"term_s": NaN}',
    "nested deep": b"[" * 100_000,
    "a list": b"[]",
    "text": b'"x"',
    "not UTF-8": b"\xff",
    "nothing": b"",
}


class Answering:
    """A bucket with one object of this content and time."""

    def __init__(self, content: bytes, modified: datetime, date: str) -> None:
        self.answer = {"Body": io.BytesIO(content), "LastModified": modified, "ETag": "e"}
        self.answer["ResponseMetadata"] = {"HTTPHeaders": {"date": date}}

    def get_object(self, **_: str) -> dict[str, Any]:
        return self.answer


@pytest.mark.attack(
    "F5", "forged content of a lock's object, which then neither expires nor breaks"
)
@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE)
def test_any_content_is_a_lock_that_expires_and_can_be_broken(bucket, content):
    raw = content if isinstance(content, bytes) else json.dumps(content).encode()
    bucket.client().put_object(Bucket=BUCKET, Key="locks/staging.json", Body=raw)
    seen = bucket.lock().read()
    assert 0 <= (seen.until - seen.now).total_seconds() <= object_lock.MAX_TERM_S or seen.is_free
    assert all(line.isprintable() for line in seen.lines())
    json.dumps(asdict(seen.holder))
    bucket.lock().break_(BEN)
    mine = bucket.lock()
    mine.acquire(BEN)
    assert mine.is_held


@pytest.mark.attack("F5", "a clock beyond the supported years")
@pytest.mark.parametrize(
    "modified",
    [
        *(datetime(9999, 12, 31, 23, tzinfo=zone) for zone in (UTC, None)),
        *(datetime(1, 1, 1, tzinfo=zone) for zone in (UTC, None)),
    ],
)
@pytest.mark.parametrize(
    "date",
    [
        "Fri, 27 Nov 2026 19:00:00 -0000",
        "Fri, 31 Dec 9999 23:59:59 -2359",
        "Mon, 01 Jan 0001 00:00:00 +2359",
        "Fri, 99 Nov 2026 19:00:00 GMT",
        "",
    ],
)
def test_any_time_of_the_bucket_is_a_lock_or_one_error(modified, date):
    with suppress(AwsFailed):
        seen = Lock(Answering(ANN.encode(), modified, date), BUCKET, "staging").read()
        assert isinstance(seen.is_free, bool)
        assert seen.lines()
