"""The releases of a host, seen and changed through the host's own `release`, over SSH."""

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
"""What an exit code of the host's program means: both sides use the same numbers."""
TEXTS = ("compose", "difference", "settings_text", "site", "said")
"""What a host tells of a release in several lines; whoever shows it makes it printable."""
ANSWER_CHARS = 1000
SSH_FAILED = 255
LOOK_S = 60
END_S = 900
"""How long a host may need to end a release whose caller went away."""


@dataclass(frozen=True)
class Release:
    """One release of a host, whatever became of it.

    result: serving, replaced, failed or rolled back. at: when it began, ISO 8601.
    secrets: the versions of the secrets' values. settings: the hash of the host's settings.
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

    def is_like(self, other: Release) -> bool:
        """Tell whether another host's release is the same; settings name their host."""
        return (self.digest, dict(self.secrets)) == (other.digest, dict(other.secrets))


@dataclass(frozen=True)
class Status:
    """What a host serves now. current: the id of the release, None before the first.

    interrupted: what was being done when the host's program was killed, if it was.
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
class Progress:
    """One step of the host's program. state: begun, done or failed."""

    step: str
    state: str
    text: str = ""
    seconds: float = 0.0


OnProgress = Callable[[Progress], None]


@dataclass(frozen=True)
class Host:
    """One host of an environment, and the way to it.

    known_hosts: the only file whose keys are believed. start: starts ssh.
    """

    name: str
    address: str
    key: Path
    known_hosts: Path
    env: Mapping[str, str] = field(repr=False)
    start: process.Start = process.run

    def releases(self) -> tuple[Release, ...]:
        """Return every release that the host knows, the newest first."""
        return tuple(_read(Release, found) for found in self._ask("list"))

    def status(self) -> Status:
        """Return what the host serves now."""
        return _read(Status, self._ask("status"))

    def show(self, id: str) -> dict[str, Any]:
        """Return all that the host keeps of a release, its compose file included."""
        shown = self._ask("show", id)
        return {k: v if k in TEXTS else _clean(v) for k, v in shown.items()}

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
        """Go back to a release, its settings and the versions of its secrets included."""
        return self._change(["rollback", id, "--by", by, "--run", run], on_progress)

    def command(self, words: Sequence[str]) -> list[str]:
        """Return the command that runs the host's `release` from here."""
        return self.ssh(shlex.join(["sudo", "release", *words, "--json"]))

    def ssh(self, line: str) -> list[str]:
        """Return the command that runs a line of the host's shell from here."""
        options = ("BatchMode=yes", "ConnectTimeout=10", "ServerAliveInterval=15")
        return [
            *("ssh", "-i", str(self.key), *inventory.ssh_options(self.known_hosts)),
            *(word for option in options for word in ("-o", option)),
            f"{inventory.LOGIN}@{self.address}",
            line,
        ]

    def _ask(self, *words: str) -> Any:
        said: list[str] = []
        result = self.start(
            self.command(words), env=self.env, on_line=said.append, timeout_s=LOOK_S, check=False
        )
        if result.returncode:
            raise _failure(self.name, result, _Heard().all(said))
        return json.loads("\n".join(said))

    def _change(self, words: Sequence[str], on_progress: OnProgress | None) -> Release:
        heard = _Heard(on_progress)
        try:
            result = self.start(self.command(words), env=self.env, on_line=heard.line, check=False)
        except KeyboardInterrupt as err:
            raise Interrupted(
                f"The release on {self.name} was interrupted.",
                changed=self._ended(),
                next="run this step again when it is to be released after all",
            ) from err
        if result.returncode or not heard.result:
            raise _failure(self.name, result, heard)
        return _read(Release, heard.result)

    def _ended(self) -> str:
        """Wait until the host has ended what it began, and say what it serves then.

        Its program does not end with the connection, so that a lost one leaves nothing half done.
        """

        def look() -> Status:
            status = self.status()
            if status.deploying:
                raise probe.NotYet(f"{self.name} is in step {status.deploying.get('phase')}")
            return status

        what = f"the end of the release on {self.name}"
        status = probe.wait_until(look, what=what, timeout_s=END_S)
        return f"{self.name} ended what it had begun, and serves {status.current or 'nothing'}."


class _Heard:
    """What the host's program says: steps, the result or the error, lines for a person."""

    def __init__(self, on_progress: OnProgress | None = None) -> None:
        self._on_progress = on_progress
        self.steps: list[Progress] = []
        self.lines: list[str] = []
        self.result: dict[str, Any] | None = None
        self.error: dict[str, str] = {}

    def all(self, lines: Sequence[str]) -> _Heard:
        """Take lines that were kept."""
        for line in lines:
            self.line(line)
        return self

    def line(self, line: str) -> None:
        """Take one line."""
        try:
            said = json.loads(line)
        except ValueError:
            said = line
        if not isinstance(said, dict):
            self.lines.append(printable(line, ANSWER_CHARS))
        elif "step" in said:
            self.steps.append(_read(Progress, said))
            if self._on_progress:
                self._on_progress(self.steps[-1])
        elif "result" in said:
            self.result, error = said["result"], said.get("error") or {}
            self.error = {key: printable_lines(each) for key, each in error.items()}


def _read(kind: type, found: Mapping[str, Any]) -> Any:
    """Return a dataclass of what a host said; a newer host may say more."""
    known = {each.name for each in fields(kind)}
    return kind(**{k: _clean(v, k) for k, v in found.items() if k in known and v is not None})


def _clean(value: Any, name: str = "") -> Any:
    """Return a value of a host's with each text on one short line: images and users wrote it."""
    if isinstance(value, str):
        return printable(value, LABEL_CHARS if "version" in name else ANSWER_CHARS)
    if isinstance(value, dict):
        return {_clean(key): _clean(each) for key, each in value.items()}
    return [_clean(each) for each in value] if isinstance(value, list) else value


def _failure(host: str, result: process.Result, heard: _Heard) -> DaybookError:
    cls = ERRORS.get(result.returncode, CommandFailed)
    hint = heard.error.get("next")
    if result.returncode == SSH_FAILED:
        hint = "see that the host runs and that your address may reach its port 22"
    elif cls is CommandFailed and not hint:
        hint = "configure the host again: it may have no `release` yet"
    undone = [step.text for step in heard.steps if (step.step, step.state) == ("undo", "done")]
    has_begun = cls not in (SettingsError, PreflightFailed, Locked)
    error = cls(
        f"{host}: {heard.error.get('message') or f'release ended with code {result.returncode}.'}",
        details=[] if heard.error else heard.lines or result.tail,
        changed=" ".join(f"{host}: {said}." for said in undone) if has_begun else NOTHING_CHANGED,
        next=f"on {host}: {hint}" if hint and "release " in hint else hint,
    )
    error.host = host
    return error
