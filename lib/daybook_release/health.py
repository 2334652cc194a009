"""Waiting until a service is what its health check calls well, or is seen to have failed."""

from __future__ import annotations

from daybook_release import rules
from daybook_release.docker import Container
from daybook_release.errors import Failed
from daybook_release.ground import Ground

POLL_S = 0.1
SOME_MORE_S = 30.0


def wait(ground: Ground, service: str, said: rules.Model, *, may_end: bool = True) -> None:
    """Wait for a service; one without a health check is well when it runs.

    said: what the compose file says about it. may_end: to end with code 0 is well, too.
    """
    deadline = ground.host.ticks() + rules.patience_s(said) + SOME_MORE_S
    while True:
        seen = ground.docker.find(service)
        if seen is None or seen.restarts or seen.state in ("restarting", "dead"):
            raise Failed(f"{service} does not stay up: {last_words(ground, seen)}")
        if seen.state == "exited" and seen.exit_code == 0 and may_end:
            return
        if seen.state == "exited":
            words = last_words(ground, seen)
            raise Failed(f"{service} ended with code {seen.exit_code}: {words}")
        if seen.is_running and seen.health in ("", "healthy"):
            return
        if seen.health == "unhealthy" or ground.host.ticks() > deadline:
            raise Failed(f"{service} does not become healthy: {last_words(ground, seen)}")
        ground.host.sleep(POLL_S)


def last_words(ground: Ground, container: Container | None) -> str:
    """Return what a container and its health check said last, in a line."""
    lines = ground.docker.last_lines(container, 3) if container else []
    said = " · ".join(lines) or "it said nothing"
    complaint = container.complaint.strip()[-200:] if container else ""
    return f"{said} · its health check: {complaint}" if complaint else said
