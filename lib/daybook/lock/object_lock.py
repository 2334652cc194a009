"""A lock that is an object in a bucket: S3 lets one writer win, and S3's clock ends its term.

    lock = Lock(s3, "hello-state-123456789012", "staging")
    lock.acquire(holder, wait_s=600)  # Locked with the holder's details after 600 s
    with lock.held(on_lost=stop):     # renews the lock in a thread
        lock.verify_held()            # before each change: Locked after the lock was lost
    lock.release()

The reasons for this design: docs/adr/0003-lock.md.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta

from botocore.client import BaseClient
from botocore.exceptions import BotoCoreError, ClientError
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

from daybook import liveness
from daybook.aws import errors
from daybook.errors import Locked, SettingsError, one_line
from daybook.settings.types import shown

TERM_S = 180.0
"""How long the lock of a dead holder lasts."""
MAX_TERM_S = 3600.0
"""The longest term that a lock's content can set."""
RENEW_S = 30.0
"""How soon a holder notices, even in the middle of a change, that its lock was broken."""
POLL_S = 2.0
STATE_LOCKS = 20
"""How many of Terraform's lock requests a holder keeps: the newest."""
TRUSTED = 0.8
"""The part of its term for which a holder that cannot reach the bucket trusts its lock."""
_FAILURES = (BotoCoreError, ClientError)
_REFUSED = (404, 409, 412)
_TEXTS = ("run", "step", "operator", "host", "target", "since", "reason")
_UNITS = {"s": 1, "m": 60, "h": 3600}
MAX_WAIT_S = 86_400
# This clock also counts the time while the computer is suspended.
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


@dataclass(frozen=True)
class StateLockRequest:
    """A lock that the Terraform of a run requested. life: proves whether this run has ended."""

    id: str
    run: str
    life: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def decode(cls, content: object) -> StateLockRequest | None:
        """Read a request from the content of a lock; None when it is invalid."""
        content = content if isinstance(content, dict) else {}
        id, run, life = (content.get(name) for name in ("id", "run", "life"))
        is_valid = isinstance(id, str) and isinstance(run, str) and isinstance(life, dict)
        return cls(id, run, life) if is_valid else None


@dataclass(frozen=True)
class Holder:
    """The holder of a lock, as stored in the object. renewals: makes each write unique.

    life: proves on the holder's machine whether its run has ended. state_locks: the locks that
    its Terraform requested, and those of earlier holders that were killed.
    """

    run: str = ""
    step: str = ""
    operator: str = "an unknown operator"
    host: str = "an unknown host"
    target: str = ""
    since: str = ""
    term_s: float = TERM_S
    renewals: int = 0
    reason: str = ""
    life: Mapping[str, str] = field(default_factory=dict)
    state_locks: tuple[StateLockRequest, ...] = ()

    @classmethod
    def decode(cls, content: bytes) -> Holder:
        """Read an object's content, including one from another version of Daybook.

        Invalid fields are ignored, so that every lock can expire and be broken.
        """
        try:
            stored = dict(json.loads(content))
        except (TypeError, ValueError, RecursionError):
            return cls(reason="the lock's content cannot be read")
        texts = {name: stored.get(name) for name in _TEXTS}
        valid: dict[str, object] = {k: v for k, v in texts.items() if isinstance(v, str)}
        term_s, renewals = stored.get("term_s"), stored.get("renewals")
        if isinstance(term_s, int | float) and 0 <= term_s <= MAX_TERM_S:
            valid["term_s"] = float(term_s)
        if isinstance(renewals, int):
            valid["renewals"] = renewals
        life, requests = stored.get("life"), stored.get("state_locks")
        valid["life"] = life if isinstance(life, dict) else {}
        requests = requests if isinstance(requests, list) else []
        valid["state_locks"] = tuple(filter(None, map(StateLockRequest.decode, requests)))
        return cls(**valid)

    def encode(self) -> bytes:
        """Return the object's content."""
        return json.dumps(asdict(self), indent=1, ensure_ascii=False).encode()


@dataclass(frozen=True)
class LockState:
    """A lock as it was read. until and now are both times of the bucket's clock.

    is_abandoned: its holder was killed on this machine, and none of its processes remain.
    """

    holder: Holder
    etag: str
    until: datetime
    now: datetime
    is_abandoned: bool = False

    @property
    def age_s(self) -> float:
        """Return the time since it was last written: acquired, renewed or broken."""
        return (self.now - self.until).total_seconds() + self.holder.term_s

    @property
    def is_free(self) -> bool:
        """True when any run may acquire it."""
        return self.is_abandoned or self.now >= self.until

    def lines(self) -> list[str]:
        """Return the facts, one per line."""
        facts = {
            "holder": f"{self.holder.operator} on {self.holder.host}",
            "run": self.holder.run,
            "step": f"{self.holder.step} · {self.holder.target}",
            "since": self.holder.since,
            "until": f"{self.until:%Y-%m-%dT%H:%M:%SZ}{self._why_free()}",
            "reason": self.holder.reason,
        }
        return [f"{name}: {one_line(value)}" for name, value in facts.items() if value]

    def _why_free(self) -> str:
        if self.is_abandoned:
            return " (free: its run was killed)"
        return " (expired)" if self.is_free else ""


class Lock:
    """A lock in a bucket, for one run. All methods may be called from any thread."""

    def __init__(self, s3: BaseClient, bucket: str, name: str) -> None:
        self.name = name
        self.key = f"locks/{name}.json"
        self.lost: Locked | None = None
        self.previous: LockState | None = None
        """The free lock that this one replaced."""
        self._s3, self._object = s3, {"Bucket": bucket, "Key": self.key}
        self._own: tuple[Holder, str] | None = None
        """This run as the holder, and the ETag of its last write; None while it holds nothing."""
        self._trusted_until = 0.0
        self._guard = threading.RLock()

    @property
    def is_held(self) -> bool:
        """True from a successful acquire until the lock is released or lost."""
        return self._own is not None and self.lost is None

    def read(self) -> LockState | None:
        """Return the lock's state in the bucket, or None when it is not held."""
        try:
            answer = self._s3.get_object(**self._object)
        except ClientError as err:
            if err.response["Error"]["Code"] == "NoSuchKey":
                return None
            raise
        holder = Holder.decode(answer["Body"].read())
        now = errors.time_of(answer, "s3:GetObject")
        until = errors.utc(answer["LastModified"]) + timedelta(seconds=holder.term_s)
        is_abandoned = liveness.is_over(holder.life)
        return LockState(holder, answer["ETag"], until, now, is_abandoned)

    def acquire(
        self,
        holder: Holder,
        *,
        wait_s: float = 0.0,
        on_wait: Callable[[Locked], None] = lambda _held: None,
    ) -> None:
        """Acquire the lock; Locked when it does not become free within `wait_s`.

        on_wait: called with the holder's details after each failed attempt.
        """
        retrying = Retrying(
            retry=retry_if_exception_type(Locked),
            stop=stop_after_delay(wait_s),
            wait=wait_fixed(POLL_S),
            before_sleep=lambda state: on_wait(state.outcome.exception()),
            reraise=True,
        )
        retrying(self._acquire_once, holder)

    def verify_held(self) -> None:
        """Renew the lock's term; Locked when the lock was lost.

        An expired lock is still held if no other run has acquired it since. A bucket that cannot
        be reached is tolerated for a part of the term.
        """
        with self._guard:
            if self.lost:
                raise self.lost
            if self._own:
                self._renew(*self._own)

    @contextmanager
    def held(self, on_lost: Callable[[], None]) -> Iterator[None]:
        """Renew the lock in a thread, which calls `on_lost` if the lock is lost."""
        done = threading.Event()
        every_s = min(RENEW_S, self._own[0].term_s / 4) if self._own else RENEW_S

        def renew() -> None:
            while not done.wait(every_s):
                try:
                    self.verify_held()
                except Locked:
                    if not done.is_set():
                        on_lost()
                    return

        threading.Thread(target=renew, name=f"lock {self.name}", daemon=True).start()
        try:
            yield
        finally:
            done.set()

    def release(self) -> bool:
        """Release the lock if it is still held; after a failure it expires.

        Returns False when the bucket did not confirm the release.
        """
        with self._guard:
            is_free = not self._own or bool(self.lost)
            if not is_free:
                with suppress(*_FAILURES):
                    self._s3.delete_object(**self._object, IfMatch=self._own[1])
                    is_free = True
            self._own = None
            return is_free

    def remove(self, state: LockState) -> None:
        """Release a lock for an ended holder, unless another run has acquired it."""
        try:
            self._s3.delete_object(**self._object, IfMatch=state.etag)
        except ClientError as err:
            if err.response["ResponseMetadata"]["HTTPStatusCode"] not in _REFUSED:
                raise

    def note_state_lock(self, id: str) -> None:
        """Record in the lock that Terraform requests a lock, which the next holder may find."""
        with self._guard:
            if self._own and not self.lost:
                holder, etag = self._own
                request = StateLockRequest(id, holder.run, holder.life)
                requests = (*holder.state_locks, request)[-STATE_LOCKS:]
                self._renew(replace(holder, state_locks=requests), etag)

    def break_(self, by: Holder) -> LockState | None:
        """Break the lock: its holder stops before its next change. Return the broken lock.

        by: the run that breaks it, with the reason; shown to the old and to the next holder.
        """
        state = self.read()
        while state and not state.is_free:
            broken = replace(by, term_s=0.0, state_locks=state.holder.state_locks)
            if self._put(broken, IfMatch=state.etag):
                return state
            # The holder renewed it between the two requests; the lock of another run stays.
            run, state = state.holder.run, self.read()
            if state and state.holder.run != run:
                raise self._held(state)
        return None

    def _acquire_once(self, holder: Holder) -> None:
        state = self.read()
        if state and not state.is_free and state.holder.run != holder.run:
            raise self._held(state)
        if state:
            holder = replace(holder, state_locks=state.holder.state_locks)
        sent = time.clock_gettime(_CLOCK)
        etag = self._put(holder, **({"IfMatch": state.etag} if state else {"IfNoneMatch": "*"}))
        if not etag:
            raise self._held(self.read())
        self._set_own(holder, etag, sent)
        self.previous = state

    def _renew(self, holder: Holder, etag: str) -> None:
        sent = time.clock_gettime(_CLOCK)
        renewed = replace(holder, renewals=holder.renewals + 1)
        try:
            etag = self._put(renewed, IfMatch=etag)
            now = None if etag else self.read()
        except _FAILURES as err:
            if sent < self._trusted_until:
                return
            raise self._lose("could not be renewed in time", str(err)) from err
        if not etag:
            raise self._lose("was broken or acquired by another run", *(now.lines() if now else ()))
        self._set_own(renewed, etag, sent)

    def _set_own(self, holder: Holder, etag: str, sent: float) -> None:
        self._own, self.lost = (holder, etag), None
        self._trusted_until = sent + TRUSTED * holder.term_s

    def _put(self, holder: Holder, **condition: str) -> str:
        """Write the object on a condition; return its ETag, "" when the condition is not met."""
        content = {"Body": holder.encode(), "ContentType": "application/json"}
        try:
            return self._s3.put_object(**self._object, **content, **condition)["ETag"]
        except ClientError as err:
            if err.response["ResponseMetadata"]["HTTPStatusCode"] not in _REFUSED:
                raise
        # After a lost answer boto3 repeats a write that succeeded, and S3 refuses the repetition.
        state = self.read()
        return state.etag if state and state.holder.run == holder.run else ""

    def _held(self, state: LockState | None) -> Locked:
        return Locked(
            f"{self.name} is locked by another run.",
            details=state.lines() if state else ["that run has released the lock in the meantime"],
            next="wait for the other run: --wait 10m; if it is dead, wait until its lock expires, "
            f"or: daybook lock break {self.name} --reason WHY",
        )

    def _lose(self, how: str, *details: str) -> Locked:
        self.lost = Locked(
            f"The lock of {self.name} {how}.",
            details=details,
            changed="Changes made before that are in this run's record.",
            next="look at the other run, then run this step again",
        )
        return self.lost


def parse_wait(text: str) -> float:
    """Return the seconds of a duration, "90s", "10m" or "1h"; 0 for an empty text.

    Raises SettingsError for any other text.
    """
    match = re.fullmatch(r"([0-9]{1,5})([smh])", text)
    if match and (wait_s := float(match[1]) * _UNITS[match[2]]) <= MAX_WAIT_S:
        return wait_s
    if text in ("", "0"):
        return 0.0
    raise SettingsError(
        f"{shown(text)} is not a duration.",
        expected="a duration such as 90s, 10m or 1h, at most 24h",
        next="correct --wait",
    )
