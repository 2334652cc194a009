"""The application's site in Caddy: what it says, and which slot it leads to.

The slot is not in the site's text. It is the presence of a file that Caddy looks for at each
request, so that a release needs no reload: that would close connections, some of them just as a
visitor sends the next request on one.
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
HEAD = "# Written by release; a change here is lost with the next one.\n"
BUILT_IN = f"""{NAMES} {{
\tencode gzip
\tlog
\treverse_proxy {UPSTREAM} {{
\t\t# An idle connection to the old slot looks like a request that is still answered.
\t\ttransport http {{
\t\t\tkeepalive 1s
\t\t}}
\t}}
}}
"""
LEADS = """\t# The second slot serves while this file is there.
\t@daybook_second file {{
\t\troot {folder}
\t\ttry_files /{flag}
\t}}
\tvars daybook_slot 127.0.0.1:{first}
\tvars @daybook_second daybook_slot 127.0.0.1:{second}
"""
LOOK = "look: journalctl -u caddy -n 20; systemctl status caddy"
CLOSED = f'{NAMES} {{\n\theader Retry-After 60\n\trespond "%s" 503\n}}\n'


CONFINED = {
    "DynamicUser": "yes",
    "Environment": "HOME=/nonexistent",
    "MountAPIVFS": "no",
    # Debian's Caddy needs shared libraries; these folders hold files of packages only.
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
"""Properties of a process without privileges, network or access to the host, and with limits.

https://www.freedesktop.org/software/systemd/man/257/systemd.exec.html
"""
ADAPT_S = 60
REFUSED = "The image's Caddyfile cannot be released:"
MOST = 10
CORRECT = "correct the application's Caddyfile and build the image again"


@dataclass(frozen=True)
class Site:
    """What Caddy is to do. flag: the file in SLOTS that leads to the second slot, if any."""

    text: str
    flag: str = ""
    is_second: bool = False


@dataclass(frozen=True)
class RenderedSite:
    """A site made from an image's Caddyfile. lines: the line of that file, for each of the text."""

    text: str
    lines: tuple[int, ...]
    statements: tuple[Statement, ...]
    names: tuple[str, ...]
    leads: tuple[Mapping[str, Any], ...]

    def line_near(self, texts: Sequence[str]) -> int:
        """Return the line of the image's file that contains most of these texts."""
        pieces = {piece for text in texts for piece in re.findall(r"[\w-]{2,}", text)}

        def score(statement: Statement) -> int:
            words = " ".join(word.text for word in statement.words if word.text != UPSTREAM)
            return sum(len(piece) for piece in pieces if piece in words)

        every = [each for statement in self.statements for each in statement.all()]
        return max(every, key=score).line


def flag(app: str, port: int) -> str:
    """Return the name of the flag of an application whose slots are at `port` and the next."""
    return f"{app}.{port + 1}"


def render(template: str, names: tuple[str, ...], app: str, port: int) -> RenderedSite:
    """Return the site that leads to the slots, at `port` and the next.

    Raises Refused when the template contains something that is not allowed.
    """
    if found := caddyfile.check(template, {name.rpartition("://")[2] for name in names}):
        raise _refused(found)
    statements = caddyfile.read(template)
    site = next(each for each in statements if each.name == NAMES)
    leads = LEADS.format(folder=SLOTS, flag=flag(app, port), first=port, second=port + 1)
    head = HEAD + ", ".join(names) + " {\n" + leads
    pieces = [(site.line, head), *caddyfile.write(site.block), (site.line, "}\n")]
    return RenderedSite(
        "".join(text for _, text in pieces),
        tuple(line for line, text in pieces for _ in range(text.count("\n"))),
        statements,
        names,
        _leads(app, port),
    )


def _leads(app: str, port: int) -> tuple[dict[str, Any], ...]:
    """Return LEADS as Caddy adapts them to JSON."""
    slots = [{"handler": "vars", "daybook_slot": f"127.0.0.1:{n}"} for n in (port, port + 1)]
    file = {"root": str(SLOTS), "try_files": [f"/{flag(app, port)}"]}
    return {"handle": slots[:1]}, {"handle": slots[1:], "match": [{"file": file}]}


def confined(folder: Path) -> list[str]:
    """Return the command that adapts and validates FOLDER/Caddyfile.

    FOLDER is the root directory of the process; of the host it sees Caddy and its libraries only.
    """
    properties = CONFINED | {"RootDirectory": str(folder)}
    flags = [f"--property={name}={value}" for name, value in properties.items()]
    start = ["systemd-run", "--quiet", "--pipe", "--wait", "--collect", *flags]
    start.append("--description=Check of an image's Caddyfile")
    adapt = ["/usr/bin/caddy", "adapt", "--adapter", "caddyfile", "--config", "/Caddyfile"]
    return [*start, "--", *adapt, "--validate"]


def closed(names: tuple[str, ...], message: str) -> str:
    """Return the site that sends visitors away for now."""
    return HEAD + CLOSED.replace(NAMES, ", ".join(names)) % message


class Caddy:
    """The running Caddy, the file of this application's site, and its flag."""

    def __init__(self, host: System, app: str) -> None:
        self.host = host
        self.path = SITES / f"{app}.caddy"

    def check(self, site: RenderedSite) -> None:
        """Refuse a site that Caddy does not accept, or whose JSON is not allowed.

        This is the first time that Caddy reads it, in a process without privileges.
        """
        folder = Path(tempfile.mkdtemp(prefix="daybook-caddy-", dir=RUN))
        try:
            folder.chmod(0o755)
            write(folder / "Caddyfile", site.text)
            done = self.host.run(confined(folder), timeout_s=ADAPT_S, whole_output=True)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        found = _violations(done, site)
        if not done.is_success:
            found = found or [_of_caddy(done, site)]
        if found:
            raise _refused(found)

    def is_running(self) -> bool:
        return self.host.run(["systemctl", "is-active", "--quiet", "caddy"]).is_success

    def serves(self, site: Site) -> bool:
        """Tell whether this is what is on disk."""
        return self._text() == site.text and self._is_second(site) == site.is_second

    def switch(self, site: Site) -> None:
        """Lead new requests there; Caddy is reloaded for another text alone."""
        if not self.is_running():
            raise Failed("Caddy does not run.", next=LOOK)
        before, was_second = self._text(), self._is_second(site)
        self._lead(site, site.is_second)
        if before == site.text:
            return
        write(self.path, site.text)
        done = self._reload()
        if done.is_success:
            return
        self._lead(site, was_second)
        if before is None:
            self.path.unlink()
        else:
            write(self.path, before)
        raise Failed(
            f"Caddy does not take the site: {_complaint(done.err)}",
            next=LOOK,
        )

    def restore(self, site: Site) -> bool:
        """See that Caddy runs with this site; True when it did not."""
        changed = not self.serves(site)
        if changed:
            self._lead(site, site.is_second)
            write(self.path, site.text)
        if not self.is_running():
            done = self.host.run(["systemctl", "start", "caddy"], timeout_s=60)
        else:
            done = self._reload()
        if not done.is_success:
            raise Failed(
                f"Caddy cannot be brought back: {_complaint(done.err)}",
                next="journalctl -u caddy -n 20, then sudo release repair",
            )
        return changed

    def _text(self) -> str | None:
        return self.path.read_text(encoding="utf-8") if self.path.is_file() else None

    def _is_second(self, site: Site) -> bool:
        return bool(site.flag) and (SLOTS / site.flag).exists()

    def _lead(self, site: Site, is_second: bool) -> None:
        if not site.flag or is_second == self._is_second(site):
            return
        SLOTS.mkdir(exist_ok=True)
        SLOTS.chmod(0o755)  # Whatever the umask of who calls: Caddy has to see into it.
        if is_second:
            write(SLOTS / site.flag, "")
        else:
            remove(SLOTS / site.flag)

    def _reload(self):
        command = ["caddy", "reload", "--adapter", "caddyfile", "--config", str(CADDYFILE)]
        return self.host.run(command, timeout_s=60)


def _refused(found: Sequence[CaddyfileProblem]) -> Refused:
    lines = [str(problem) for problem in found[:MOST]]
    lines += [f"and {len(found) - MOST} more"] if len(found) > MOST else []
    return Refused("\n  ".join([REFUSED, *lines]), next=CORRECT)


def _violations(done: CommandResult, site: RenderedSite) -> list[CaddyfileProblem]:
    """Return what is not allowed in the JSON that Caddy printed, if it printed any."""
    try:
        config = json.loads(done.out)
    except (ValueError, RecursionError):
        if done.is_success:
            raise _unchecked(done) from None
        return []
    fix = "remove it; docs/releases.md lists what is allowed"
    found = caddyjson.violations(config, site.names, site.leads)
    return [CaddyfileProblem(site.line_near(each.near), each.message, fix) for each in found]


def _of_caddy(done: CommandResult, site: RenderedSite) -> CaddyfileProblem:
    """Return Caddy's error with the line of the image's file, without quoting it."""
    message = done.err.rpartition("Error: ")[2] if "Error: " in done.err else ""
    if not message:
        raise _unchecked(done)
    where = re.search(r"Caddyfile:(\d+)", message)
    if where and 0 < int(where[1]) <= len(site.lines):
        line = site.lines[int(where[1]) - 1]
    else:
        line = site.line_near([message])
    message = re.split(r"Error during parsing: |Caddyfile:\d+:? ?|provision \S+: ", message)[-1]
    message = re.sub(r"'[^']*'|`[^`]*`|\"[^\"]*\"", "…", message.strip())
    fix = "try caddy validate at home, with NAMES and UPSTREAM set"
    return CaddyfileProblem(line, f"Caddy does not accept it: {message}", fix)


def _unchecked(done: CommandResult) -> Refused:
    return Refused(
        f"The image's Caddyfile cannot be checked: {printable(done.output_tail) or 'no answer'}",
        next="see journalctl -n 20; the check needs systemd-run and /usr/bin/caddy",
    )


def _complaint(said: str) -> str:
    """Return Caddy's last line without its log's dressing."""
    lines = [line for line in said.splitlines() if line.strip() and '"level"' not in line]
    return printable((lines or said.splitlines() or ["it said nothing"])[-1].strip())
