"""The registry behind ECR: docker-registry in a container without a network."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from docker import DockerClient
from docker.models.containers import Container
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

from daybook_sandbox import image
from daybook_sandbox.runfolder import run_folder
from daybook_sandbox.state import PREFIX, Home

CONFIG = """\
version: 0.1
storage:
  filesystem: {rootdirectory: /registry}
http:
  net: unix
  addr: /run/daybook/registry.sock
  relativeurls: true
"""
READY_S = 20


class Storage:
    """A docker-registry with its data in the sandbox's folder."""

    def __init__(self, engine: DockerClient, home: Home) -> None:
        self._engine = engine
        self._home = home
        self._container: Container | None = None

    @property
    def socket(self) -> str:
        return str(run_folder(self._home) / "registry.sock")

    def start(self) -> None:
        """Start the registry and wait until it accepts connections.

        It runs as the sandbox's user, who can then use its socket and remove its files.
        """
        content = self._home.folder / "registry"
        content.mkdir(exist_ok=True)
        config = run_folder(self._home) / "registry.yml"
        config.write_text(CONFIG)
        Path(self.socket).unlink(missing_ok=True)
        self._container = self._engine.containers.run(
            image.tools(),
            ["docker-registry", "serve", "/run/daybook/registry.yml"],
            name=f"{PREFIX}-registry",
            labels=self._home.labels,
            detach=True,
            network_mode="none",
            cap_drop=["ALL"],
            user=f"{os.getuid()}:{os.getgid()}",
            volumes=[f"{run_folder(self._home)}:/run/daybook", f"{content}:/registry"],
        )
        for attempt in Retrying(
            retry=retry_if_exception_type(OSError),
            stop=stop_after_delay(READY_S),
            wait=wait_fixed(0.05),
            reraise=True,
        ):
            with attempt:
                self._connect()

    def close(self) -> None:
        """Remove the container; images remain until the sandbox's folder is removed."""
        if self._container:
            self._container.remove(force=True)
            self._container = None

    def _connect(self) -> None:
        with socket.socket(socket.AF_UNIX) as probe:
            probe.connect(self.socket)
