"""The application's containers and images in Docker."""

from __future__ import annotations

import json
import re
import urllib.parse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from daybook_release import document, limits
from daybook_release.errors import Failed, Refused
from daybook_release.printable import printable
from daybook_release.system import ENGINE, WHOLE_BYTES, CommandResult, System

ENGINE_S = 60.0
PROJECT, SERVICE = "com.docker.compose.project", "com.docker.compose.service"
ONE_OFF = "com.docker.compose.oneoff"
RELEASE = "daybook.release"
STOP_GRACE_S = 60
REMOVE_S = 60.0
CLIENT = {
    "DOCKER_HOST": f"unix://{ENGINE}",
    "DOCKER_CONFIG": "/nonexistent",
    "HOME": "/nonexistent",
}
"""The environment of Docker's client and Compose: no account, context or settings of root."""


@dataclass(frozen=True)
class Container:
    """One container of the application. health: "", starting, healthy or unhealthy.

    health_output: the output of the last health check.
    """

    id: str
    service: str
    release: str
    image: str
    state: str
    health: str = ""
    restarts: int = 0
    exit_code: int = 0
    health_output: str = ""

    @property
    def is_running(self) -> bool:
        return self.state == "running"


@dataclass(frozen=True)
class LocalImage:
    """An image on this host. size: in bytes."""

    labels: Mapping[str, str]
    size: int


class Docker:
    """The commands of docker and docker compose, for one application's project."""

    def __init__(self, system: System, app: str) -> None:
        self.system = system
        self.app = app

    def image(self, reference: str) -> LocalImage | None:
        """Return an image on this host; None if it was not pulled."""
        try:
            image = self.system.engine("GET", f"/images/{urllib.parse.quote(reference)}/json")
        except LookupError:
            return None
        return LocalImage(image["Config"].get("Labels") or {}, image["Size"])

    def pull(self, reference: str) -> None:
        """Pull an image with the registry's credentials."""
        result = self.system.run(
            ["docker", "pull", "--quiet", "--", reference],
            env={"DOCKER_HOST": CLIENT["DOCKER_HOST"]},
            with_aws_env=True,
            timeout_s=limits.PULL_S,
        )
        if not result.is_success:
            is_full = "no space left" in result.err
            raise Refused(
                f"Cannot pull the image: {result.output_tail}",
                next="sudo release prune" if is_full else "push the image, then use its digest",
            )

    def remove_image(self, reference: str) -> bool:
        """Remove an image; return False if it is in use."""
        try:
            self.system.engine("DELETE", f"/images/{urllib.parse.quote(reference)}")
        except LookupError:
            return False
        return True

    def images_of(self, repository: str) -> list[str]:
        """Return the images of a repository on this host: ["REPOSITORY@sha256:…"]."""
        filters = urllib.parse.quote(json.dumps({"reference": [repository]}))
        images = self.system.engine("GET", f"/images/json?filters={filters}&digests=1")
        digests = [digest for image in images for digest in image.get("RepoDigests") or ()]
        return sorted(name for name in digests if name.startswith(f"{repository}@"))

    def containers(self, *, one_off: bool = False) -> list[Container]:
        """Return the project's containers, including stopped ones.

        one_off: return the containers of `docker compose run` instead.
        """
        filters = urllib.parse.quote(json.dumps({"label": [f"{PROJECT}={self.app}"]}))
        containers = self.system.engine("GET", f"/containers/json?all=1&filters={filters}")
        return [
            Container(
                container["Id"],
                container["Labels"].get(SERVICE, ""),
                container["Labels"].get(RELEASE, ""),
                container["Image"],
                container["State"],
            )
            for container in containers
            if (container["Labels"].get(ONE_OFF) == "True") == one_off
        ]

    def find(self, service: str) -> Container | None:
        """Return a service's container with its health; None if there is none."""
        container = next(
            (container for container in self.containers() if container.service == service), None
        )
        return self.inspect(container) if container else None

    def inspect(self, container: Container) -> Container | None:
        """Return a container's current state; None if it was removed."""
        try:
            details = self.system.engine("GET", f"/containers/{container.id}/json")
        except LookupError:
            return None
        state = details["State"]
        health = state.get("Health") or {}
        return Container(
            container.id,
            container.service,
            container.release,
            container.image,
            state["Status"],
            health.get("Status", ""),
            details["RestartCount"],
            state["ExitCode"],
            ([""] + [_printable_line(check["Output"]) for check in health.get("Log") or ()])[-1],
        )

    def memory_usage(self, container: Container) -> int:
        """Return the bytes of memory that a container uses, without its page cache."""
        path = f"/containers/{container.id}/stats?stream=false&one-shot=true"
        usage = self.system.engine("GET", path)["memory_stats"]
        stats = usage.get("stats", {})
        cached = stats.get("inactive_file", stats.get("total_inactive_file", 0))
        return max(usage.get("usage", 0) - cached, 0)

    def last_lines(self, container: Container, lines: int = 5) -> list[str]:
        """Return the last lines of a container's output."""
        command = ["docker", "logs", "--tail", str(lines), container.id]
        result = self.system.run(command, env=CLIENT, timeout_s=30, keep_bytes=WHOLE_BYTES)
        return [
            _printable_line(line)
            for line in f"{result.out}\n{result.err}".splitlines()
            if line.strip()
        ]

    def stop(self, container: Container) -> None:
        """Stop a container within the grace period of its compose file."""
        self._run_or_fail(["docker", "stop", container.id])

    def start(self, container: Container) -> None:
        """Start an existing container."""
        self._run_or_fail(["docker", "start", container.id])

    def remove(self, container: Container) -> None:
        """Remove a container, running or not; keep its volumes."""
        deadline = self.system.monotonic() + REMOVE_S
        while self.inspect(container):
            command = ["docker", "rm", "--force", container.id]
            result = self.system.run(command, env=CLIENT, timeout_s=120)
            if not result.is_success and self.system.monotonic() > deadline:
                raise Failed(f"Cannot remove {container.service}: {result.output_tail}")
            # Another process may be removing it: Compose does, after `docker compose run --rm`.
            self.system.sleep(0 if result.is_success else 0.5)

    def config(self, model: Mapping[str, Any]) -> dict[str, Any]:
        """Return a rendered model as Compose interprets it."""
        result = self.compose(model, "config", "--format", "json", timeout_s=30, whole_output=True)
        if not result.is_success:
            raise Refused(
                f"Compose rejected compose.yaml: {result.output_tail}",
                next="correct compose.yaml; docker compose config shows the same error",
            )
        return json.loads(result.out)

    def up(self, model: Mapping[str, Any], services: Sequence[str], *options: str) -> CommandResult:
        """Create and start services of a rendered model; their images must be on this host."""
        flags = ("--detach", "--no-build", "--no-deps", "--pull", "never", *options)
        return self.compose(model, "up", *flags, "--", *services)

    def compose(
        self,
        model: Mapping[str, Any],
        *arguments: str,
        timeout_s: float = 600,
        whole_output: bool = False,
    ) -> CommandResult:
        """Run a command of Compose on a rendered model.

        Compose reads the model as JSON from its standard input. It gets no text of the image, no
        file with values and no variables.
        """
        command = ["docker", "compose", "--project-name", self.app, "--project-directory", "/"]
        command += ["--env-file", "/dev/null", "--file", "-"]
        env = {**CLIENT, "COMPOSE_IGNORE_ORPHANS": "1"}  # The other slot is not an orphan.
        text = document.as_json(model)
        return self.system.run(
            [*command, *arguments],
            env=env,
            text=text,
            timeout_s=timeout_s,
            whole_output=whole_output,
        )

    def wait(self) -> None:
        """Wait until the engine answers."""
        deadline = self.system.monotonic() + ENGINE_S
        while True:
            try:
                self.system.engine("GET", "/_ping", timeout_s=5)
                return
            except (OSError, LookupError) as err:
                if self.system.monotonic() > deadline:
                    raise Failed(
                        f"Docker's engine does not answer: {err}",
                        next="sudo systemctl restart docker && sudo release repair",
                    ) from err
            self.system.sleep(0.2)

    def _run_or_fail(self, command: list[str]) -> None:
        result = self.system.run(command, env=CLIENT, timeout_s=limits.STOP_S + STOP_GRACE_S)
        if not result.is_success:
            raise Failed(f"{' '.join(command[:2])} failed: {result.output_tail}")


def _printable_line(line: str) -> str:
    """Return a line without colors and with all other control characters escaped."""
    return printable(re.sub(r"\x1b\[[0-?]*[ -/]*[@-~]", "", line.rstrip("\r\n")), 1000)
