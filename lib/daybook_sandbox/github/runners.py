"""Self-hosted runners and their registration tokens."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

REGISTRATION = timedelta(hours=1)


@dataclass(frozen=True)
class RegistrationToken:
    """A temporary token to register or remove runners of one repository."""

    token: str
    repository: str
    expires: datetime

    def document(self) -> dict[str, str]:
        return {"token": self.token, "expires_at": self.expires.isoformat(timespec="seconds")}


@dataclass
class RegistrationTokens:
    """The valid tokens. kind: registration-token or remove-token."""

    _issued: dict[tuple[str, str], RegistrationToken] = field(default_factory=dict)

    def issue(self, kind: str, repository: str) -> RegistrationToken:
        """Create a token that is valid for an hour."""
        token = RegistrationToken(
            secrets.token_hex(15).upper(), repository, datetime.now(UTC) + REGISTRATION
        )
        self._issued[kind, token.token] = token
        return token

    def is_valid(self, kind: str, token: str, repository: str) -> bool:
        """Return True if a token of this kind is valid for a repository."""
        issued = self._issued.get((kind, token))
        return bool(
            issued and issued.repository == repository and datetime.now(UTC) < issued.expires
        )


@dataclass
class Runner:
    """A registered runner. last_seen: its last request, in time.monotonic seconds."""

    id: int
    repository: str
    name: str
    labels: tuple[str, ...]
    token: str
    last_seen: float = 0.0
    is_busy: bool = False
    is_dropped: bool = False

    ONLINE_S = 40

    @property
    def is_online(self) -> bool:
        return self.is_busy or time.monotonic() - self.last_seen < self.ONLINE_S

    def touch(self) -> None:
        """Record a request of the runner."""
        self.last_seen = time.monotonic()

    def has_labels(self, labels: tuple[str, ...]) -> bool:
        """Return True if the runner has all these labels."""
        own = {label.lower() for label in self.labels}
        return {label.lower() for label in labels} <= own

    def document(self) -> dict:
        """Return the runner as JSON of GitHub's API."""
        default = ("self-hosted", "linux", "x64", "arm64")
        labels = [
            {"name": label, "type": "read-only" if label.lower() in default else "custom"}
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
    """The registered runners."""

    def __init__(self) -> None:
        self._runners: dict[int, Runner] = {}
        self._next = 1

    def of(self, repository: str | None = None) -> list[Runner]:
        """Return the runners of one repository or of all."""
        return [r for r in list(self._runners.values()) if repository in (None, r.repository)]

    def add(
        self, repository: str, name: str, labels: tuple[str, ...], *, replace: bool
    ) -> Runner | None:
        """Register a runner; return None if its name is taken and `replace` is False."""
        taken = next((r for r in self.of(repository) if r.name == name), None)
        if taken and not replace:
            return None
        if taken:
            self.drop(taken.id)
        runner = Runner(self._next, repository, name, labels, secrets.token_urlsafe(32))
        self._next += 1
        self._runners[runner.id] = runner
        return runner

    def drop(self, id: int) -> Runner | None:
        """Remove a runner; its credentials become invalid."""
        runner = self._runners.pop(id, None)
        if runner:
            runner.is_dropped = True
        return runner

    def by_token(self, token: str) -> Runner | None:
        """Return the runner with this token."""
        return next((r for r in self.of() if secrets.compare_digest(r.token, token)), None)
