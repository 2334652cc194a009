"""GitHub as a part of the sandbox: one address that this computer and every machine reach.

It listens at the gateway of the workstation's network. That is an address of this computer, so
each caller's is looked at: somebody here, a machine of one of the networks, or nobody.
"""

from __future__ import annotations

import logging
import shutil
import socket
import threading
from contextlib import suppress

from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server

from daybook_sandbox.github.github import GitHub
from daybook_sandbox.github.messages import api_url
from daybook_sandbox.github.web import application
from daybook_sandbox.loop import is_from
from daybook_sandbox.networks import Network
from daybook_sandbox.state import Home, Ports, write_private
from daybook_sandbox.workstation import NETWORK

LOG = logging.getLogger(__name__)
LOOK_EVERY_S = 1.0
FOLDER, TOKEN_FILE = "github", "github-token"


class GitHubService:
    """Serves GitHub from the moment the workstation's network is there."""

    def __init__(self, ports: Ports, home: Home, variables: dict[str, str]) -> None:
        self._port = ports.github
        self._home = home
        self.github = GitHub(home.folder / FOLDER, url(ports), variables)
        self._networks: set[Network] = set()
        self._server: BaseWSGIServer | None = None
        self._ending = threading.Event()

    def start(self) -> None:
        """Put down what it needs on the disk; the address comes with the network."""
        shutil.rmtree(self._home.folder / FOLDER, ignore_errors=True)
        self.github.repositories.start()
        self.github.hosted.start()
        write_private(self._home.folder / TOKEN_FILE, f"{self.github.token}\n")

    def close(self) -> None:
        """End the jobs of its own runners, then stop serving."""
        self._ending.set()
        self.github.hosted.close()
        if self._server:
            self._server.shutdown()

    def gateway_added(self, network: Network) -> None:
        """Serve a network's machines; on the workstation's, begin to serve at all."""
        self._networks.add(network)
        if network == NETWORK:
            app = application(self.github, self._caller)
            self._server = make_server(
                NETWORK.gateway, self._port, app, threaded=True, request_handler=_Handler
            )
            self._server.daemon_threads = True
            threading.Thread(target=self._server.serve_forever, name="github", daemon=True).start()
            threading.Thread(target=self._look, name="github-jobs", daemon=True).start()

    def gateway_removed(self, network: Network) -> None:
        """Serve its machines no more."""
        self._networks.discard(network)

    def status(self) -> str:
        """Say in a few words what is there and what runs."""
        runners = self.github.runners.of()
        online = sum(each.is_online for each in runners)
        runs = self.github.queue.runs()
        last = f", last {runs[0].name} #{runs[0].number}: {_state(runs[0])}" if runs else ""
        there = f"{online} of {len(runners)} runners online, {len(runs)} runs"
        return f"{self.github.server}, {there}{last}"

    def _caller(self, address: str) -> str:
        if _is_ours(address):
            return "operator"
        return "machine" if any(is_from(net, address) for net in list(self._networks)) else ""

    def _look(self) -> None:
        while not self._ending.wait(LOOK_EVERY_S):
            with suppress(Exception):
                self.github.queue.look()


def _is_ours(address: str) -> bool:
    """Tell whether an address is this computer's own: Docker gives a caller here any of them."""
    with socket.socket() as tried, suppress(OSError):
        tried.bind((address, 0))
        return True
    return False


class _Handler(WSGIRequestHandler):
    """Keeps the daemon's log for what matters."""

    protocol_version = "HTTP/1.1"

    def log_request(self, code: object = "-", size: object = "-") -> None:
        LOG.debug("github: %s %s %s", self.command, self.path, code)


def url(ports: Ports) -> str:
    """Return GITHUB_SERVER_URL."""
    return f"http://{NETWORK.gateway}:{ports.github}"


def target(service: GitHubService) -> dict[str, str]:
    """Return the variables that lead any tool to this GitHub."""
    server = service.github.server
    return {
        "GITHUB_SERVER_URL": server,
        "GITHUB_API_URL": api_url(server),
        "DAYBOOK_RUNNER_SHA256": service.github.archive_sha256,
    }


def _state(run: object) -> str:
    return run.conclusion or run.status
