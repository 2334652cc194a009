"""The application's site in Caddy: what it says, and which slot it leads to.

The slot is not in the site's text. It is the presence of a file that Caddy looks for at each
request, so that a release needs no reload: that would close connections, some of them just as a
visitor sends the next request on one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from daybook_release.errors import Failed, Refused
from daybook_release.host import Host
from daybook_release.store import remove, write

CADDYFILE = Path("/etc/caddy/Caddyfile")
SITES = Path("/etc/caddy/sites")
SLOTS = Path("/etc/caddy/slots")
NAMES, UPSTREAM = "{$NAMES}", "{$UPSTREAM}"
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
OPENING = re.compile(r"^(?!\s*#)(.*\s)?\{[ \t]*\n", re.MULTILINE)
"""The line that opens a block of a Caddyfile."""
LOOK = "look: journalctl -u caddy -n 20; systemctl status caddy"
CLOSED = f'{NAMES} {{\n\theader Retry-After 60\n\trespond "%s" 503\n}}\n'


@dataclass(frozen=True)
class Site:
    """What Caddy is to do. flag: the file in SLOTS that leads to the second slot, if any."""

    text: str
    flag: str = ""
    is_second: bool = False


def flag(app: str, port: int) -> str:
    """Return the name of the flag of an application whose slots are at `port` and the next."""
    return f"{app}.{port + 1}"


def render(template: str, names: tuple[str, ...], app: str, port: int) -> str:
    """Return the site that leads to the slots, at `port` and the next."""
    for word in (NAMES, UPSTREAM):
        if word not in template:
            raise Refused(
                f"The image's Caddyfile has no {word}, so it cannot be led to a slot.",
                next=f"write {word} where the application's names and its address belong",
            )
    leads = LEADS.format(folder=SLOTS, flag=flag(app, port), first=port, second=port + 1)
    text = "".join(
        OPENING.sub(lambda opening: opening[0] + leads, block, count=1)
        if UPSTREAM in block
        else block
        for block in _blocks(template)
    )
    return HEAD + text.replace(NAMES, ", ".join(names)).replace(UPSTREAM, "{vars.daybook_slot}")


def closed(names: tuple[str, ...], says: str) -> str:
    """Return the site that sends visitors away for now."""
    return HEAD + CLOSED.replace(NAMES, ", ".join(names)) % says


class Caddy:
    """The running Caddy, the file of this application's site, and its flag."""

    def __init__(self, host: Host, app: str) -> None:
        self.host = host
        self.path = SITES / f"{app}.caddy"

    def validate(self, file: Path) -> None:
        """Refuse a site that Caddy does not take, before anything is switched."""
        command = ["caddy", "validate", "--adapter", "caddyfile", "--config", str(file)]
        done = self.host.run(command, timeout_s=30)
        if not done.is_good:
            raise Refused(
                f"Caddy does not take the site: {_complaint(done.err)}",
                next="mend app/Caddyfile; caddy validate shows the same at home",
            )

    def is_running(self) -> bool:
        return self.host.run(["systemctl", "is-active", "--quiet", "caddy"]).is_good

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
        if done.is_good:
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
        if not done.is_good:
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


def _complaint(said: str) -> str:
    """Return Caddy's last line without its log's dressing."""
    lines = [line for line in said.splitlines() if line.strip() and '"level"' not in line]
    return (lines or said.splitlines() or ["it said nothing"])[-1].strip()


def _blocks(caddyfile: str) -> Iterator[str]:
    """Give a Caddyfile's top-level blocks, each with what stands before it."""
    depth, block = 0, ""
    for line in caddyfile.splitlines(keepends=True):
        block += line
        closes = line.strip() == "}"
        depth += bool(OPENING.match(line)) - closes
        if closes and depth == 0:
            yield block
            block = ""
    yield block
