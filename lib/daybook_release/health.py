"""Wait until a service is healthy, or has failed."""

from __future__ import annotations

from daybook_release import rules
from daybook_release.context import HostContext
from daybook_release.docker import Container
from daybook_release.errors import Failed

POLL_S = 0.1
GRACE_S = 30.0


def wait(context: HostContext, name: str, service: rules.Model, *, may_exit: bool = True) -> None:
    """Wait until a service is healthy; one without a health check is healthy once it runs.

    service: its entry in the compose file. may_exit: exit code 0 is a success, too.
    """
    deadline = context.system.monotonic() + rules.health_timeout_s(service) + GRACE_S
    while True:
        container = context.docker.find(name)
        is_failing = container is None or container.state in ("restarting", "dead")
        if is_failing or container.restarts:
            raise Failed(f"{name} does not stay up: {last_output(context, container)}")
        if container.state == "exited" and container.exit_code == 0 and may_exit:
            return
        if container.state == "exited":
            output = last_output(context, container)
            raise Failed(f"{name} exited with code {container.exit_code}: {output}")
        if container.is_running and container.health in ("", "healthy"):
            return
        if container.health == "unhealthy" or context.system.monotonic() > deadline:
            raise Failed(f"{name} did not become healthy: {last_output(context, container)}")
        context.system.sleep(POLL_S)


def last_output(context: HostContext, container: Container | None) -> str:
    """Return the last output of a container and of its health check, on one line."""
    lines = context.docker.last_lines(container, 3) if container else []
    output = " · ".join(lines) or "no output"
    health_output = container.health_output.strip()[-200:] if container else ""
    return f"{output} · health check: {health_output}" if health_output else output
