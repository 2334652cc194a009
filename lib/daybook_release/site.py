"""The application's site in Caddy: its text, and the slot that it routes to.

The site's text does not name the slot. Caddy checks at each request whether a file exists, so that
a release needs no reload. A reload would close connections, some of them just when a visitor sends
the next request.
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from daybook_release import caddyfile, caddyjson
from daybook_release.caddyfile import NAMES, UPSTREAM, CaddyfileProblem, Statement
from daybook_release.errors import Failed, Refused
from daybook_release.printable import printable
from daybook_release.store import remove, write
from daybook_release.system import CommandResult, System

CADDYFILE = Path("/etc/caddy/Caddyfile")
SITES = Path("/etc/caddy/sites")
SLOTS = Path("/etc/caddy/slots")
RUN = Path("/run")
# A change to the next three texts makes Caddy reload at the next release of every host.
HEAD = "# Written by release; a change here is lost with the next one.\n"
BUILT_IN = f"""{NAMES} {{
\tencode gzip
\tlog
\treverse_proxy {UPSTREAM} {{
\t\t# An idle connection to the old slot would look like an open request.
\t\ttransport http {{
\t\t\tkeepalive 1s
\t\t}}
\t}}
}}
"""
SLOT_ROUTES = """\t# The second slot serves while this file is there.
\t@daybook_second file {{
\t\troot {folder}
\t\ttry_files /{flag}
\t}}
\tvars daybook_slot 127.0.0.1:{first}
\tvars @daybook_second daybook_slot 127.0.0.1:{second}
"""
SEE_LOGS = "journalctl -u caddy -n 20; systemctl status caddy"
CLOSED = f'{NAMES} {{\n\theader Retry-After 60\n\trespond "%s" 503\n}}\n'


CONFINEMENT = {
    "DynamicUser": "yes",
    "Environment": "HOME=/nonexistent",
    "MountAPIVFS": "no",
    # Debian's Caddy needs shared libraries; these folders contain only files from packages.
    "BindReadOnlyPaths": "/usr/bin/caddy /usr/lib /usr/lib:/lib -/usr/lib64:/lib64",
    "PrivateNetwork": "yes",
    "PrivateDevices": "yes",
    "PrivateIPC": "yes",
    "PrivateUsers": "yes",
    "ProtectClock": "yes",
    "ProtectControlGroups": "yes",
    "ProtectHome": "yes",
    "ProtectHostname": "yes",
    "ProtectKernelLogs": "yes",
    "ProtectKernelModules": "yes",
    "ProtectKernelTunables": "yes",
    "ProtectProc": "invisible",
    "ProtectSystem": "strict",
    "CapabilityBoundingSet": "",
    "LockPersonality": "yes",
    "NoNewPrivileges": "yes",
    "RestrictAddressFamilies": "AF_UNIX",
    "RestrictNamespaces": "yes",
    "RestrictRealtime": "yes",
    "RestrictSUIDSGID": "yes",
    "SystemCallArchitectures": "native",
    "SystemCallFilter": "@system-service",
    "UMask": "0077",
    "LimitCORE": "0",
    "LimitCPU": "10",
    "LimitDATA": "512M",
    "LimitFSIZE": "0",
    "LimitNOFILE": "64",
    "MemoryMax": "512M",
    "TasksMax": "64",
    "RuntimeMaxSec": "20",
}
"""Systemd properties of a process without privileges, network or access to the host.

https://www.freedesktop.org/software/systemd/man/257/systemd.exec.html
"""
ADAPT_S = 60
REFUSED = "The image's Caddyfile cannot be released:"
MAX_PROBLEMS = 10
CORRECT = "correct the application's Caddyfile and build the image again"


@dataclass(frozen=True)
class Site:
    """The site that Caddy should serve. flag: the file in SLOTS that selects the second slot."""

    text: str
    flag: str = ""
    is_second: bool = False


@dataclass(frozen=True)
class RenderedSite:
    """A site rendered from an image's Caddyfile. lines: for each line, the line in that file."""

    text: str
    lines: tuple[int, ...]
    statements: tuple[Statement, ...]
    names: tuple[str, ...]
    slot_routes: tuple[Mapping[str, Any], ...]

    def line_near(self, texts: Sequence[str]) -> int:
        """Return the line of the image's file that matches these texts best."""
        pieces = {piece for text in texts for piece in re.findall(r"[\w-]{2,}", text)}

        def score(statement: Statement) -> int:
            words = " ".join(word.text for word in statement.words if word.text != UPSTREAM)
            return sum(len(piece) for piece in pieces if piece in words)

        statements = [inner for statement in self.statements for inner in statement.all()]
        return max(statements, key=score).line


def flag(app: str, port: int) -> str:
    """Return the name of an application's flag. port: the first slot's; the second has the next."""
    return f"{app}.{port + 1}"


def render(template: str, names: tuple[str, ...], app: str, port: int) -> RenderedSite:
    """Render the site that routes to the slots, at `port` and the next port.

    Raises Refused if the template contains a directive that is not allowed.
    """
    if problems := caddyfile.check(template, {name.rpartition("://")[2] for name in names}):
        raise _refused(problems)
    statements = caddyfile.read(template)
    site = next(statement for statement in statements if statement.name == NAMES)
    slot_routes = SLOT_ROUTES.format(
        folder=SLOTS, flag=flag(app, port), first=port, second=port + 1
    )
    head = HEAD + ", ".join(names) + " {\n" + slot_routes
    pieces = [(site.line, head), *caddyfile.write(site.block), (site.line, "}\n")]
    return RenderedSite(
        "".join(text for _, text in pieces),
        tuple(line for line, text in pieces for _ in range(text.count("\n"))),
        statements,
        names,
        _slot_routes(app, port),
    )


def _slot_routes(app: str, port: int) -> tuple[dict[str, Any], ...]:
    """Return SLOT_ROUTES in the form that Caddy adapts them to."""
    slots = [{"handler": "vars", "daybook_slot": f"127.0.0.1:{n}"} for n in (port, port + 1)]
    file = {"root": str(SLOTS), "try_files": [f"/{flag(app, port)}"]}
    return {"handle": slots[:1]}, {"handle": slots[1:], "match": [{"file": file}]}


def confined_adapt(folder: Path) -> list[str]:
    """Return the command that adapts and validates FOLDER/Caddyfile.

    FOLDER is the root directory of the process. It sees only Caddy and its libraries of the host.
    """
    properties = CONFINEMENT | {"RootDirectory": str(folder)}
    flags = [f"--property={name}={value}" for name, value in properties.items()]
    start = ["systemd-run", "--quiet", "--pipe", "--wait", "--collect", *flags]
    start.append("--description=Check of an image's Caddyfile")
    adapt = ["/usr/bin/caddy", "adapt", "--adapter", "caddyfile", "--config", "/Caddyfile"]
    return [*start, "--", *adapt, "--validate"]


def closed(names: tuple[str, ...], message: str) -> str:
    """Return a site that answers every request with 503 and a message."""
    return HEAD + CLOSED.replace(NAMES, ", ".join(names)) % message


class Caddy:
    """The running Caddy, the file of this application's site, and its flag."""

    def __init__(self, system: System, app: str) -> None:
        self.system = system
        self.path = SITES / f"{app}.caddy"

    def check(self, site: RenderedSite) -> None:
        """Raise Refused if Caddy rejects a site, or if its JSON is not allowed.

        Caddy reads the site here for the first time, in a process without privileges.
        """
        folder = Path(tempfile.mkdtemp(prefix="daybook-caddy-", dir=RUN))
        try:
            folder.chmod(0o755)
            write(folder / "Caddyfile", site.text)
            result = self.system.run(confined_adapt(folder), timeout_s=ADAPT_S, whole_output=True)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        problems = _violations(result, site)
        if not result.is_success:
            problems = problems or [_caddy_error(result, site)]
        if problems:
            raise _refused(problems)

    def is_running(self) -> bool:
        return self.system.run(["systemctl", "is-active", "--quiet", "caddy"]).is_success

    def serves(self, site: Site) -> bool:
        """Tell whether the files on disk are those of this site."""
        return self._text() == site.text and self._is_second(site) == site.is_second

    def switch(self, site: Site) -> None:
        """Route new requests to a site; reload Caddy only if the text differs."""
        if not self.is_running():
            raise Failed("Caddy is not running.", next=SEE_LOGS)
        before, was_second = self._text(), self._is_second(site)
        self._set_slot(site, site.is_second)
        if before == site.text:
            return
        write(self.path, site.text)
        result = self._reload()
        if result.is_success:
            return
        self._set_slot(site, was_second)
        if before is None:
            self.path.unlink()
        else:
            write(self.path, before)
        raise Failed(
            f"Caddy rejected the site: {_last_error(result.err)}",
            next=SEE_LOGS,
        )

    def restore(self, site: Site) -> bool:
        """Ensure that Caddy runs with this site; return whether its files had to change."""
        changed = not self.serves(site)
        if changed:
            self._set_slot(site, site.is_second)
            write(self.path, site.text)
        if not self.is_running():
            result = self.system.run(["systemctl", "start", "caddy"], timeout_s=60)
        else:
            result = self._reload()
        if not result.is_success:
            raise Failed(
                f"Cannot restore the site in Caddy: {_last_error(result.err)}",
                next="journalctl -u caddy -n 20, then sudo release repair",
            )
        return changed

    def _text(self) -> str | None:
        return self.path.read_text(encoding="utf-8") if self.path.is_file() else None

    def _is_second(self, site: Site) -> bool:
        return bool(site.flag) and (SLOTS / site.flag).exists()

    def _set_slot(self, site: Site, is_second: bool) -> None:
        if not site.flag or is_second == self._is_second(site):
            return
        SLOTS.mkdir(exist_ok=True)
        SLOTS.chmod(0o755)  # Caddy must read this folder, whatever the umask of the caller.
        if is_second:
            write(SLOTS / site.flag, "")
        else:
            remove(SLOTS / site.flag)

    def _reload(self):
        command = ["caddy", "reload", "--adapter", "caddyfile", "--config", str(CADDYFILE)]
        return self.system.run(command, timeout_s=60)


def _refused(problems: Sequence[CaddyfileProblem]) -> Refused:
    lines = [str(problem) for problem in problems[:MAX_PROBLEMS]]
    lines += [f"and {len(problems) - MAX_PROBLEMS} more"] if len(problems) > MAX_PROBLEMS else []
    return Refused("\n  ".join([REFUSED, *lines]), next=CORRECT)


def _violations(result: CommandResult, site: RenderedSite) -> list[CaddyfileProblem]:
    """Return the violations in the JSON that Caddy printed, if it printed any."""
    try:
        config = json.loads(result.out)
    except (ValueError, RecursionError):
        if result.is_success:
            raise _cannot_check(result) from None
        return []
    fix = "remove it; docs/releases.md lists what is allowed"
    violations = caddyjson.violations(config, site.names, site.slot_routes)
    return [
        CaddyfileProblem(site.line_near(violation.near), violation.message, fix)
        for violation in violations
    ]


def _caddy_error(result: CommandResult, site: RenderedSite) -> CaddyfileProblem:
    """Return Caddy's error with the line in the image's file, without quoting the file."""
    message = result.err.rpartition("Error: ")[2] if "Error: " in result.err else ""
    if not message:
        raise _cannot_check(result)
    location = re.search(r"Caddyfile:(\d+)", message)
    if location and 0 < int(location[1]) <= len(site.lines):
        line = site.lines[int(location[1]) - 1]
    else:
        line = site.line_near([message])
    message = re.split(r"Error during parsing: |Caddyfile:\d+:? ?|provision \S+: ", message)[-1]
    message = re.sub(r"'[^']*'|`[^`]*`|\"[^\"]*\"", "…", message.strip())
    fix = "run caddy validate locally, with NAMES and UPSTREAM set"
    return CaddyfileProblem(line, f"Caddy rejected it: {message}", fix)


def _cannot_check(result: CommandResult) -> Refused:
    return Refused(
        f"Cannot check the image's Caddyfile: {printable(result.output_tail) or 'no output'}",
        next="see journalctl -n 20; the check needs systemd-run and /usr/bin/caddy",
    )


def _last_error(output: str) -> str:
    """Return the last line of Caddy's output that is not a log entry."""
    lines = [line for line in output.splitlines() if line.strip() and '"level"' not in line]
    return printable((lines or output.splitlines() or ["no output"])[-1].strip())
