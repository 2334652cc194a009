"""What opens what: the operator's token, an hour for a runner's registration, a job's own."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

REGISTRATION = timedelta(hours=1)


@dataclass(frozen=True)
class RegistrationToken:
    """A token that registers or removes runners of one repository, for a while."""

    token: str
    repository: str
    expires: datetime

    def document(self) -> dict[str, str]:
        return {"token": self.token, "expires_at": self.expires.isoformat(timespec="seconds")}


@dataclass
class RegistrationTokens:
    """Registration and removal tokens; `kind` is one of the two words."""

    _given: dict[tuple[str, str], RegistrationToken] = field(default_factory=dict)

    def give(self, kind: str, repository: str) -> RegistrationToken:
        """Make a token that is good for an hour."""
        made = RegistrationToken(
            secrets.token_hex(15).upper(), repository, datetime.now(UTC) + REGISTRATION
        )
        self._given[kind, made.token] = made
        return made

    def opens(self, kind: str, token: str, repository: str) -> bool:
        """Tell whether a token is good for this now."""
        found = self._given.get((kind, token))
        return bool(found and found.repository == repository and datetime.now(UTC) < found.expires)


@dataclass
class Runner:
    """A machine that offered itself. seen: when it last asked for work, by time.monotonic."""

    id: int
    repository: str
    name: str
    labels: tuple[str, ...]
    token: str
    seen: float = 0.0
    is_busy: bool = False
    is_dropped: bool = False

    ONLINE_S = 40

    @property
    def is_online(self) -> bool:
        return self.is_busy or time.monotonic() - self.seen < self.ONLINE_S

    def heard(self) -> None:
        """Note that it has just been heard of."""
        self.seen = time.monotonic()

    def can(self, labels: tuple[str, ...]) -> bool:
        """Tell whether it has all of these labels."""
        own = {label.lower() for label in self.labels}
        return {label.lower() for label in labels} <= own

    def document(self) -> dict:
        """Return GitHub's words for it."""
        given = ("self-hosted", "linux", "x64", "arm64")
        labels = [
            {"name": label, "type": "read-only" if label.lower() in given else "custom"}
            for label in self.labels
        ]
        return {
            "id": self.id,
            "name": self.name,
            "os": "Linux",
            "status": "online" if self.is_online else "offline",
            "busy": self.is_busy,
            "labels": labels,
        }


class Runners:
    """Who is registered."""

    def __init__(self) -> None:
        self._runners: dict[int, Runner] = {}
        self._next = 1

    def of(self, repository: str | None = None) -> list[Runner]:
        """Return a repository's runners, or all."""
        return [r for r in list(self._runners.values()) if repository in (None, r.repository)]

    def add(
        self, repository: str, name: str, labels: tuple[str, ...], *, replace: bool
    ) -> Runner | None:
        """Register one; None where its name is taken and nothing was said of replacing."""
        taken = next((r for r in self.of(repository) if r.name == name), None)
        if taken and not replace:
            return None
        if taken:
            self.drop(taken.id)
        made = Runner(self._next, repository, name, labels, secrets.token_urlsafe(32))
        self._next += 1
        self._runners[made.id] = made
        return made

    def drop(self, id: int) -> Runner | None:
        """Forget one; its own credentials open nothing from now on."""
        runner = self._runners.pop(id, None)
        if runner:
            runner.is_dropped = True
        return runner

    def by_token(self, token: str) -> Runner | None:
        """Return whose credentials these are."""
        return next((r for r in self.of() if secrets.compare_digest(r.token, token)), None)
