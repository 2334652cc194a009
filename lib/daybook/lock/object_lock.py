"""A lock that is an object in a bucket: S3 lets one writer win, and S3's clock ends its term.

    lock = Lock(s3, "hello-state-123456789012", "staging")
    lock.acquire(holder, wait_s=600)      # or Locked, with who holds it
    with lock.held(on_lost=stop):      # renewed as long as this lasts
        lock.verify_held()                 # before each change: Locked when it is not ours any more
    lock.release()

Why it is built so: docs/adr/0003-lock.md.
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
"""How long a dead holder's lock lasts."""
MAX_TERM_S = 3600.0
"""The longest term that a lock's content can claim."""
RENEW_S = 30.0
"""How soon a holder hears, even in the middle of a change, that its lock was broken."""
POLL_S = 2.0
STATE_LOCKS = 20
"""How many of Terraform's locks a holder carries: the newest."""
TRUSTED = 0.8
"""The part of its term for which a holder that cannot reach the bucket trusts its lock."""
_FAILURES = (BotoCoreError, ClientError)
_REFUSED = (404, 409, 412)
_TEXTS = ("run", "step", "operator", "host", "target", "since", "reason")
_UNITS = {"s": 1, "m": 60, "h": 3600}
MAX_WAIT_S = 86_400
# A suspended computer must not believe that no time has passed.
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


@dataclass(frozen=True)
class StateLockRequest:
    """A lock that the Terraform of a run asked for. life: what proves that this run is over."""

    id: str
    run: str
    life: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def decode(cls, found: object) -> StateLockRequest | None:
        """Read what the content of a lock says; None for anything else."""
        found = found if isinstance(found, dict) else {}
        id, run, life = (found.get(name) for name in ("id", "run", "life"))
        is_one = isinstance(id, str) and isinstance(run, str) and isinstance(life, dict)
        return cls(id, run, life) if is_one else None


@dataclass(frozen=True)
class Holder:
    """Who has a lock, as the object says it. renewals: makes each writing of it another one.

    life: what proves on the holder's machine that it is over. state_locks: the locks that its
    Terraform asked for, and those of the holders before it that were killed.
    """

    run: str = ""
    step: str = ""
    operator: str = "somebody"
    host: str = "a computer"
    target: str = ""
    since: str = ""
    term_s: float = TERM_S
    renewals: int = 0
    reason: str = ""
    life: Mapping[str, str] = field(default_factory=dict)
    state_locks: tuple[StateLockRequest, ...] = ()

    @classmethod
    def decode(cls, content: bytes) -> Holder:
        """Read an object's content, also one that another version of Daybook wrote.

        A part that is not of its kind is left out: also such a lock has to run out, and to break.
        """
        try:
            found = dict(json.loads(content))
        except (TypeError, ValueError, RecursionError):
            return cls(reason="the lock's content cannot be read")
        texts = {name: found.get(name) for name in _TEXTS}
        known: dict[str, object] = {k: v for k, v in texts.items() if isinstance(v, str)}
        term_s, renewals = found.get("term_s"), found.get("renewals")
        if isinstance(term_s, int | float) and 0 <= term_s <= MAX_TERM_S:
            known["term_s"] = float(term_s)
        if isinstance(renewals, int):
            known["renewals"] = renewals
        life, requests = found.get("life"), found.get("state_locks")
        known["life"] = life if isinstance(life, dict) else {}
        requests = requests if isinstance(requests, list) else []
        known["state_locks"] = tuple(filter(None, map(StateLockRequest.decode, requests)))
        return cls(**known)

    def encode(self) -> bytes:
        """Return the object's content."""
        return json.dumps(asdict(self), indent=1, ensure_ascii=False).encode()


@dataclass(frozen=True)
class LockState:
    """A lock as it was read. until and now are both by the bucket's own clock.

    is_abandoned: its holder was killed on this machine, and nothing of it is left.
    """

    holder: Holder
    etag: str
    until: datetime
    now: datetime
    is_abandoned: bool = False

    @property
    def written_s(self) -> float:
        """Return how long ago it was written: taken, renewed or broken."""
        return (self.now - self.until).total_seconds() + self.holder.term_s

    @property
    def is_over(self) -> bool:
        """True when anybody may take it."""
        return self.is_abandoned or self.now >= self.until

    def lines(self) -> list[str]:
        """Return the facts, one a line."""
        said = {
            "holder": f"{self.holder.operator} on {self.holder.host}",
            "run": self.holder.run,
            "step": f"{self.holder.step} · {self.holder.target}",
            "since": self.holder.since,
            "until": f"{self.until:%Y-%m-%dT%H:%M:%SZ}{self._why_over()}",
            "reason": self.holder.reason,
        }
        return [f"{name}: {one_line(value)}" for name, value in said.items() if value]

    def _why_over(self) -> str:
        if self.is_abandoned:
            return " (free: its run was killed)"
        return " (over)" if self.is_over else ""


class Lock:
    """One lock of a bucket, seen from one run. All calls may come from any thread."""

    def __init__(self, s3: BaseClient, bucket: str, name: str) -> None:
        self.name = name
        self.key = f"locks/{name}.json"
        self.lost: Locked | None = None
        self.before: LockState | None = None
        """The lock that this one replaced, whose holder was over."""
        self._s3, self._place = s3, {"Bucket": bucket, "Key": self.key}
        self._mine: tuple[Holder, str] | None = None
        self._trusted_until = 0.0
        self._guard = threading.RLock()

    @property
    def is_held(self) -> bool:
        """True from a successful take to the release, or to the loss."""
        return self._mine is not None and self.lost is None

    def read(self) -> LockState | None:
        """Return what the bucket says, or None when nobody has the lock."""
        try:
            answer = self._s3.get_object(**self._place)
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
        """Take a lock that is free or whose term is over; Locked when `wait_s` was not enough.

        on_wait: gets who holds it, each time that it was looked for in vain.
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
        """Begin the term anew; Locked when the lock is not ours any more.

        It is ours if nobody else has had it since, even when its term was over. A bucket that
        cannot be reached is forgiven for a part of the term.
        """
        with self._guard:
            if self.lost:
                raise self.lost
            if self._mine:
                self._renew(*self._mine)

    @contextmanager
    def held(self, on_lost: Callable[[], None]) -> Iterator[None]:
        """Renew the lock as long as this lasts; `on_lost` is called, in a thread, if it is lost."""
        done = threading.Event()
        every_s = min(RENEW_S, self._mine[0].term_s / 4) if self._mine else RENEW_S

        def keep() -> None:
            while not done.wait(every_s):
                try:
                    self.verify_held()
                except Locked:
                    if not done.is_set():
                        on_lost()
                    return

        threading.Thread(target=keep, name=f"lock {self.name}", daemon=True).start()
        try:
            yield
        finally:
            done.set()

    def release(self) -> bool:
        """Give the lock back if it is still ours; one that cannot be reached runs out.

        Returns False where the bucket did not confirm it.
        """
        with self._guard:
            is_free = not self._mine or bool(self.lost)
            if not is_free:
                with suppress(*_FAILURES):
                    self._s3.delete_object(**self._place, IfMatch=self._mine[1])
                    is_free = True
            self._mine = None
            return is_free

    def remove(self, seen: LockState) -> None:
        """Give a lock back for a holder that is over, unless somebody else has taken it."""
        try:
            self._s3.delete_object(**self._place, IfMatch=seen.etag)
        except ClientError as err:
            if err.response["ResponseMetadata"]["HTTPStatusCode"] not in _REFUSED:
                raise

    def note_state_lock(self, id: str) -> None:
        """Say in the lock which lock Terraform asks for: the next holder may find it left."""
        with self._guard:
            if self._mine and not self.lost:
                holder, etag = self._mine
                own = StateLockRequest(id, holder.run, holder.life)
                requests = (*holder.state_locks, own)[-STATE_LOCKS:]
                self._renew(replace(holder, state_locks=requests), etag)

    def break_(self, by: Holder) -> LockState | None:
        """Take the lock from its holder, who stops before its next change; return what it was.

        by: who breaks it, with the reason; this is what the holder and the next one read.
        """
        seen = self.read()
        while seen and not seen.is_over:
            free = replace(by, term_s=0.0, state_locks=seen.holder.state_locks)
            if self._put(free, IfMatch=seen.etag):
                return seen
            # Its holder renewed it between our two requests; anybody else is not who was meant.
            run, seen = seen.holder.run, self.read()
            if seen and seen.holder.run != run:
                raise self._held(seen)
        return None

    def _acquire_once(self, holder: Holder) -> None:
        seen = self.read()
        if seen and not seen.is_over and seen.holder.run != holder.run:
            raise self._held(seen)
        if seen:
            holder = replace(holder, state_locks=seen.holder.state_locks)
        sent = time.clock_gettime(_CLOCK)
        etag = self._put(holder, **({"IfMatch": seen.etag} if seen else {"IfNoneMatch": "*"}))
        if not etag:
            raise self._held(self.read())
        self._own(holder, etag, sent)
        self.before = seen

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
            raise self._lose("was broken or taken over", *(now.lines() if now else ()))
        self._own(renewed, etag, sent)

    def _own(self, holder: Holder, etag: str, sent: float) -> None:
        self._mine, self.lost = (holder, etag), None
        self._trusted_until = sent + TRUSTED * holder.term_s

    def _put(self, holder: Holder, **condition: str) -> str:
        """Write the object on a condition; return its ETag, "" when the condition does not hold."""
        content = {"Body": holder.encode(), "ContentType": "application/json"}
        try:
            return self._s3.put_object(**self._place, **content, **condition)["ETag"]
        except ClientError as err:
            if err.response["ResponseMetadata"]["HTTPStatusCode"] not in _REFUSED:
                raise
        # A writing whose answer was lost is repeated by boto3, and its repetition refused.
        seen = self.read()
        return seen.etag if seen and seen.holder.run == holder.run else ""

    def _held(self, seen: LockState | None) -> Locked:
        return Locked(
            f"{self.name} is locked by another run.",
            details=seen.lines() if seen else ["it was quicker, and has ended by now"],
            next=f"wait for it with --wait 10m; if it is dead, until its lock runs out, or: "
            f"daybook lock break {self.name} --reason WHY",
        )

    def _lose(self, how: str, *details: str) -> Locked:
        self.lost = Locked(
            f"The lock of {self.name} {how}.",
            details=details,
            changed="What this run had changed by then is in its record.",
            next="see what the other run does, then run this step again",
        )
        return self.lost


def parse_wait(text: str) -> float:
    """Read a duration, "90s", "10m" or "1h"; empty is 0; SettingsError for anything else."""
    found = re.fullmatch(r"([0-9]{1,5})([smh])", text)
    if found and (wait_s := float(found[1]) * _UNITS[found[2]]) <= MAX_WAIT_S:
        return wait_s
    if text in ("", "0"):
        return 0.0
    raise SettingsError(
        f"{shown(text)} is no duration.",
        expected="such as 90s, 10m or 1h, at most 24h",
        next="give --wait such a time",
    )
