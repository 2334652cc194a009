"""The application's containers and images, as Docker has them."""

from __future__ import annotations

import json
import re
import urllib.parse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from daybook_release import document, limits
from daybook_release.errors import Failed, Refused
from daybook_release.host import ENGINE, WHOLE_BYTES, Host, Ran
from daybook_release.printable import printable

ENGINE_S = 60.0
PROJECT, SERVICE = "com.docker.compose.project", "com.docker.compose.service"
ONE_OFF = "com.docker.compose.oneoff"
RELEASE = "daybook.release"
STOP_MORE_S = 60
REMOVE_S = 60.0
CLIENT = {
    "DOCKER_HOST": f"unix://{ENGINE}",
    "DOCKER_CONFIG": "/nonexistent",
    "HOME": "/nonexistent",
}
"""All that Docker's client and Compose get: no account, no context, no settings of root's."""


@dataclass(frozen=True)
class Container:
    """One container of the application. health: "", starting, healthy or unhealthy.

    complaint: what the last health check said.
    """

    id: str
    service: str
    release: str
    image: str
    state: str
    health: str = ""
    restarts: int = 0
    exit_code: int = 0
    complaint: str = ""

    @property
    def is_running(self) -> bool:
        return self.state == "running"


@dataclass(frozen=True)
class Image:
    """An image that is here, and what its labels say."""

    labels: Mapping[str, str]
    size: int


class Docker:
    """Commands of docker and docker compose on one application's project."""

    def __init__(self, host: Host, app: str) -> None:
        self.host = host
        self.app = app

    def image(self, reference: str) -> Image | None:
        """Return an image that is here; None when it is not."""
        try:
            found = self.host.engine("GET", f"/images/{urllib.parse.quote(reference)}/json")
        except LookupError:
            return None
        return Image(found["Config"].get("Labels") or {}, found["Size"])

    def pull(self, reference: str) -> None:
        """Fetch an image, with the registry's credentials."""
        done = self.host.run(
            ["docker", "pull", "--quiet", "--", reference],
            env={"DOCKER_HOST": CLIENT["DOCKER_HOST"]},
            asks_aws=True,
            timeout_s=limits.PULL_S,
        )
        if not done.is_good:
            full = "no space left" in done.err
            raise Refused(
                f"The image cannot be pulled: {done.last_words}",
                next="sudo release prune" if full else "push it first, then give its digest",
            )

    def remove_image(self, reference: str) -> bool:
        """Remove an image; False when something uses it."""
        try:
            self.host.engine("DELETE", f"/images/{urllib.parse.quote(reference)}")
        except LookupError:
            return False
        return True

    def images_of(self, repository: str) -> list[str]:
        """Return the digests that are here, by name: ["REPOSITORY@sha256:…"]."""
        wanted = urllib.parse.quote(json.dumps({"reference": [repository]}))
        found = self.host.engine("GET", f"/images/json?filters={wanted}&digests=1")
        digests = [digest for image in found for digest in image.get("RepoDigests") or ()]
        return sorted(each for each in digests if each.startswith(f"{repository}@"))

    def containers(self, *, one_off: bool = False) -> list[Container]:
        """Return the project's containers, stopped ones too; or those of commands run once."""
        wanted = urllib.parse.quote(json.dumps({"label": [f"{PROJECT}={self.app}"]}))
        found = self.host.engine("GET", f"/containers/json?all=1&filters={wanted}")
        return [
            Container(
                each["Id"],
                each["Labels"].get(SERVICE, ""),
                each["Labels"].get(RELEASE, ""),
                each["Image"],
                each["State"],
            )
            for each in found
            if (each["Labels"].get(ONE_OFF) == "True") == one_off
        ]

    def find(self, service: str) -> Container | None:
        """Return a service's container with all that is known of it."""
        found = next((each for each in self.containers() if each.service == service), None)
        return self.look(found) if found else None

    def look(self, container: Container) -> Container | None:
        """Return a container as it is now; None when it is gone."""
        try:
            said = self.host.engine("GET", f"/containers/{container.id}/json")
        except LookupError:
            return None
        state = said["State"]
        health = state.get("Health") or {}
        return Container(
            container.id,
            container.service,
            container.release,
            container.image,
            state["Status"],
            health.get("Status", ""),
            said["RestartCount"],
            state["ExitCode"],
            ([""] + [_plain(each["Output"]) for each in health.get("Log") or ()])[-1],
        )

    def memory(self, container: Container) -> int:
        """Return the bytes of memory that a container uses, without the files it has read."""
        path = f"/containers/{container.id}/stats?stream=false&one-shot=true"
        found = self.host.engine("GET", path)["memory_stats"]
        stats = found.get("stats", {})
        files = stats.get("inactive_file", stats.get("total_inactive_file", 0))
        return max(found.get("usage", 0) - files, 0)

    def last_lines(self, container: Container, lines: int = 5) -> list[str]:
        """Return what a container said last."""
        command = ["docker", "logs", "--tail", str(lines), container.id]
        done = self.host.run(command, env=CLIENT, timeout_s=30, keep_bytes=WHOLE_BYTES)
        return [_plain(line) for line in f"{done.out}\n{done.err}".splitlines() if line.strip()]

    def stop(self, container: Container) -> None:
        """Stop a container within the grace that its compose file gives it."""
        self._must(["docker", "stop", container.id], "stopped")

    def start(self, container: Container) -> None:
        """Start a container that is there."""
        self._must(["docker", "start", container.id], "started")

    def remove(self, container: Container) -> None:
        """Remove a container, running or not; its volumes stay."""
        deadline = self.host.ticks() + REMOVE_S
        while self.look(container):
            command = ["docker", "rm", "--force", container.id]
            done = self.host.run(command, env=CLIENT, timeout_s=120)
            if not done.is_good and self.host.ticks() > deadline:
                raise Failed(f"{container.service} cannot be removed: {done.last_words}")
            # Something else may be removing it: Compose does, after a command run once.
            self.host.sleep(0 if done.is_good else 0.5)

    def config(self, made: Mapping[str, Any]) -> dict[str, Any]:
        """Return a file that is filled in as Compose understands it."""
        done = self.compose(made, "config", "--format", "json", timeout_s=30, is_whole=True)
        if not done.is_good:
            raise Refused(
                f"Compose does not accept compose.yaml: {done.last_words}",
                next="correct compose.yaml; docker compose config shows the same on a laptop",
            )
        return json.loads(done.out)

    def up(self, made: Mapping[str, Any], services: Sequence[str], *how: str) -> Ran:
        """Create and start services of a file that is filled in; their images are here."""
        flags = ("--detach", "--no-build", "--no-deps", "--pull", "never", *how)
        return self.compose(made, "up", *flags, "--", *services)

    def compose(
        self,
        made: Mapping[str, Any],
        *words: str,
        timeout_s: float = 600,
        is_whole: bool = False,
    ) -> Ran:
        """Run a command of Compose on a file that is filled in.

        It gets the file on its standard input, as JSON of ours: no text of the image's, no file
        with values, no variable.
        """
        command = ["docker", "compose", "--project-name", self.app, "--project-directory", "/"]
        command += ["--env-file", "/dev/null", "--file", "-"]
        env = {**CLIENT, "COMPOSE_IGNORE_ORPHANS": "1"}  # the other slot is none
        text = document.as_json(made)
        return self.host.run(
            [*command, *words], env=env, text=text, timeout_s=timeout_s, is_whole=is_whole
        )

    def wait(self) -> None:
        """Wait until the engine answers."""
        deadline = self.host.ticks() + ENGINE_S
        while True:
            try:
                self.host.engine("GET", "/_ping", timeout_s=5)
                return
            except (OSError, LookupError) as err:
                if self.host.ticks() > deadline:
                    raise Failed(
                        f"Docker's engine does not answer: {err}",
                        next="sudo systemctl restart docker && sudo release repair",
                    ) from err
            self.host.sleep(0.2)

    def _must(self, command: list[str], what: str) -> None:
        done = self.host.run(command, env=CLIENT, timeout_s=limits.STOP_S + STOP_MORE_S)
        if not done.is_good:
            raise Failed(f"A container cannot be {what}: {done.last_words}")


def _plain(line: str) -> str:
    """Return a line without colours, and with whatever else moves a terminal's cursor escaped."""
    return printable(re.sub(r"\x1b\[[0-?]*[ -/]*[@-~]", "", line.rstrip("\r\n")), 1000)
