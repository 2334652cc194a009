"""A client of the `release` program on a host, over SSH."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from daybook import probe, process
from daybook.errors import (
    NOTHING_CHANGED,
    ApplyFailed,
    CommandFailed,
    DaybookError,
    Interrupted,
    Locked,
    PreflightFailed,
    SettingsError,
    VerifyFailed,
)
from daybook.hosts import inventory
from daybook_release.printable import LABEL_CHARS, printable, printable_lines

ERRORS = {
    error.exit_code: error
    for error in (SettingsError, PreflightFailed, ApplyFailed, VerifyFailed, Locked, Interrupted)
}
"""The error for each exit code of the host's program; both sides use the same codes."""
TEXTS = ("compose", "difference", "settings_text", "site", "log")
"""Fields of a release with several lines of raw text; callers must make them printable."""
TEXT_CHARS = 1000
SSH_FAILED = 255
QUERY_S = 60
FINISH_S = 2760
"""Longer than daybook_release.limits.RELEASE_S, after which the host itself undoes a release."""


@dataclass(frozen=True)
class Release:
    """One release on a host, successful or not.

    result: serving, replaced, failed or rolled back. at: start time, ISO 8601.
    secrets: the version of each secret's value. settings: the hash of the host's settings.
    """

    id: str
    image: str
    version: str
    result: str
    at: str = ""
    seconds: float = 0.0
    by: str = ""
    run: str = ""
    commit: str = ""
    error: str = ""
    secrets: Mapping[str, int] = field(default_factory=dict)
    settings: str = ""
    current: bool = False
    image_here: bool = True

    @property
    def digest(self) -> str:
        """Return the image's digest: `sha256:0f1f…`."""
        return self.image.rpartition("@")[2]

    def is_like(self, release: Release) -> bool:
        """Tell whether another host's release is the same; its settings name the host."""
        return (self.digest, dict(self.secrets)) == (release.digest, dict(release.secrets))


@dataclass(frozen=True)
class HostStatus:
    """The state of a host. current: the id of the serving release, None before the first.

    interrupted: the action in progress when the host's program was killed, if it was.
    """

    current: str | None = None
    slot: str = ""
    healthy: bool = False
    serving_version: str = ""
    interrupted: Mapping[str, str] | None = None
    maintenance: bool = False
    deploying: Mapping[str, Any] | None = None
    settings: str = ""


@dataclass(frozen=True)
class RolloutStep:
    """One step of the host's program. state: begun, done or failed."""

    step: str
    state: str
    text: str = ""
    seconds: float = 0.0


OnProgress = Callable[[RolloutStep], None]


@dataclass(frozen=True)
class Host:
    """One host of an environment, reached over SSH.

    known_hosts: the only file with trusted host keys. start: starts ssh.
    """

    name: str
    address: str
    key: Path
    known_hosts: Path
    env: Mapping[str, str] = field(repr=False)
    start: process.Start = process.run

    def releases(self) -> tuple[Release, ...]:
        """Return every release on the host, newest first."""
        return tuple(_parse(Release, release) for release in self._query("list"))

    def status(self) -> HostStatus:
        """Return the state of the host."""
        return _parse(HostStatus, self._query("status"))

    def show(self, id: str) -> dict[str, Any]:
        """Return all stored data of a release, including its compose file."""
        release = self._query("show", id)
        return {k: v if k in TEXTS else _clean(v) for k, v in release.items()}

    def deploy(
        self,
        image: str,
        *,
        by: str,
        run: str,
        secrets: Mapping[str, int],
        on_progress: OnProgress | None = None,
    ) -> Release:
        """Release an image, REPOSITORY@sha256:…, with these versions of the secrets."""
        pinned = [f"{name}={version}" for name, version in sorted(secrets.items())]
        words = ["deploy", image, "--by", by, "--run", run]
        return self._change([*words, *(["--secrets", *pinned] if pinned else [])], on_progress)

    def roll_back(
        self, id: str, *, by: str, run: str, on_progress: OnProgress | None = None
    ) -> Release:
        """Roll back to a release, including its settings and the versions of its secrets."""
        return self._change(["rollback", id, "--by", by, "--run", run], on_progress)

    def run(self, line: str, **options: Any) -> process.Result:
        """Run a shell line on the host; options: those of process.run."""
        return self.start(self.ssh(line), env=self.env, shown=self.typed(line), **options)

    def ssh(self, line: str) -> list[str]:
        """Return the command that runs a shell line on the host."""
        options = ("BatchMode=yes", "ConnectTimeout=10", "ServerAliveInterval=15")
        return [
            *("ssh", "-i", str(self.key), *inventory.ssh_options(self.known_hosts)),
            *(word for option in options for word in ("-o", option)),
            f"{inventory.LOGIN}@{self.address}",
            line,
        ]

    def typed(self, line: str) -> str:
        """Return the command as an operator types it, without the options for use by programs."""
        known_hosts = f"UserKnownHostsFile={self.known_hosts}"
        login = f"{inventory.LOGIN}@{self.address}"
        return shlex.join(["ssh", "-i", str(self.key), "-o", known_hosts, login, line])

    def _release(self, words: Sequence[str], **options: Any) -> process.Result:
        line = shlex.join(["sudo", "release", *words, "--json"])
        return self.run(line, check=False, **options)

    def _query(self, *words: str) -> Any:
        lines: list[str] = []
        result = self._release(words, on_line=lines.append, timeout_s=QUERY_S)
        if result.returncode:
            raise _failure(self.name, result, _Output().add_all(lines))
        return json.loads("\n".join(lines))

    def _change(self, words: Sequence[str], on_progress: OnProgress | None) -> Release:
        output = _Output(on_progress)
        try:
            result = self._release(words, on_line=output.add)
        except KeyboardInterrupt as err:
            raise Interrupted(
                f"The release on {self.name} was interrupted.",
                changed=self._wait_for_finish(),
                next="run this step again if you still want to release it",
            ) from err
        if result.returncode or not output.result:
            raise _failure(self.name, result, output)
        return _parse(Release, output.result)

    def _wait_for_finish(self) -> str:
        """Wait until the host has finished its action, and return a sentence with its state.

        The host's program outlives the connection, so a lost connection leaves nothing half done.
        """

        def read_status() -> HostStatus:
            status = self.status()
            if status.deploying:
                raise probe.NotYet(f"{self.name} is in step {status.deploying.get('phase')}")
            return status

        status = probe.wait_until(
            read_status, condition=f"the end of the release on {self.name}", timeout_s=FINISH_S
        )
        serving = status.current or "nothing"
        return f"{self.name} finished the action in progress; it serves {serving}."


class _Output:
    """The output of the host's program: steps, the result or the error, and plain lines."""

    def __init__(self, on_progress: OnProgress | None = None) -> None:
        self._on_progress = on_progress
        self.steps: list[RolloutStep] = []
        self.lines: list[str] = []
        self.result: dict[str, Any] | None = None
        self.error: dict[str, str] = {}

    def add_all(self, lines: Sequence[str]) -> _Output:
        """Parse several lines."""
        for line in lines:
            self.add(line)
        return self

    def add(self, line: str) -> None:
        """Parse one line."""
        try:
            event = json.loads(line)
        except ValueError:
            event = line
        if not isinstance(event, dict):
            self.lines.append(printable(line, TEXT_CHARS))
        elif "step" in event:
            self.steps.append(_parse(RolloutStep, event))
            if self._on_progress:
                self._on_progress(self.steps[-1])
        elif "result" in event:
            self.result, error = event["result"], event.get("error") or {}
            self.error = {key: printable_lines(text) for key, text in error.items()}


def _parse(kind: type, data: Mapping[str, Any]) -> Any:
    """Return a dataclass from a host's JSON; unknown keys, from a newer host, are ignored."""
    known = {field.name for field in fields(kind)}
    return kind(**{k: _clean(v, k) for k, v in data.items() if k in known and v is not None})


def _clean(value: Any, name: str = "") -> Any:
    """Return a host's value with each text on one short line: it comes from images and users."""
    if isinstance(value, str):
        return printable(value, LABEL_CHARS if "version" in name else TEXT_CHARS)
    if isinstance(value, dict):
        return {_clean(key): _clean(item) for key, item in value.items()}
    return [_clean(item) for item in value] if isinstance(value, list) else value


def _failure(host: str, result: process.Result, output: _Output) -> DaybookError:
    cls = ERRORS.get(result.returncode, CommandFailed)
    hint = output.error.get("next")
    if result.returncode == SSH_FAILED:
        hint = "check that the host is running and that port 22 is open to your address"
    elif cls is CommandFailed and not hint:
        hint = "configure the host again: `release` may not be installed yet"
    undone = [step.text for step in output.steps if (step.step, step.state) == ("undo", "done")]
    has_begun = cls not in (SettingsError, PreflightFailed, Locked)
    message = output.error.get("message") or f"release exited with code {result.returncode}."
    error = cls(
        f"{host}: {message}",
        details=[] if output.error else output.lines or result.tail,
        changed=" ".join(f"{host}: {text}." for text in undone) if has_begun else NOTHING_CHANGED,
        next=f"on {host}: {hint}" if hint and "release " in hint else hint,
    )
    error.host = host
    return error
