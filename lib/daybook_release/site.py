"""The application's site in Caddy: what it says, and putting one in another's place."""

from __future__ import annotations

from pathlib import Path

from daybook_release.errors import Failed, Refused
from daybook_release.host import Host
from daybook_release.store import write

CADDYFILE = Path("/etc/caddy/Caddyfile")
SITES = Path("/etc/caddy/sites")
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
CLOSED = f'{NAMES} {{\n\theader Retry-After 60\n\trespond "%s" 503\n}}\n'


def render(template: str, names: tuple[str, ...], port: int) -> str:
    """Return the site that leads to a slot's port."""
    for word in (NAMES, UPSTREAM):
        if word not in template:
            raise Refused(
                f"The image's Caddyfile has no {word}, so it cannot be led to a slot.",
                next=f"write {word} where the application's names and its address belong",
            )
    return HEAD + template.replace(NAMES, ", ".join(names)).replace(UPSTREAM, f"127.0.0.1:{port}")


def closed(names: tuple[str, ...], says: str) -> str:
    """Return the site that sends visitors away for now."""
    return HEAD + CLOSED.replace(NAMES, ", ".join(names)) % says


class Caddy:
    """The running Caddy and the file of this application's site."""

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

    def serves(self, text: str) -> bool:
        """Tell whether the site's file says this."""
        return self.path.is_file() and self.path.read_text(encoding="utf-8") == text

    def switch(self, text: str) -> None:
        """Put a site in place and let Caddy take it without dropping a request; or put it back."""
        before = self.path.read_text(encoding="utf-8") if self.path.is_file() else None
        write(self.path, text)
        done = self._reload()
        if done.is_good:
            return
        if before is None:
            self.path.unlink()
        else:
            write(self.path, before)
        raise Failed(
            f"Caddy does not take the site: {_complaint(done.err)}",
            next="look: journalctl -u caddy -n 20; systemctl status caddy",
        )

    def restore(self, text: str) -> bool:
        """See that Caddy runs with this site; True when it did not."""
        changed = not self.serves(text)
        if changed:
            write(self.path, text)
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

    def _reload(self):
        command = ["caddy", "reload", "--adapter", "caddyfile", "--config", str(CADDYFILE)]
        return self.host.run(command, timeout_s=60)


def _complaint(said: str) -> str:
    """Return Caddy's last line without its log's dressing."""
    lines = [line for line in said.splitlines() if line.strip() and '"level"' not in line]
    return (lines or said.splitlines() or ["it said nothing"])[-1].strip()
