"""The GitHub server, on one address reachable from this computer and all machines.

It listens on the gateway of the workstation's network, an address of this computer. The caller's
address is checked: it must be on this computer or belong to one of the sandbox's networks.
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
POLL_S = 1.0
FOLDER, TOKEN_FILE = "github", "github-token"


class GitHubService:
    """Serve GitHub while the workstation's network exists."""

    def __init__(self, ports: Ports, home: Home, variables: dict[str, str]) -> None:
        self._port = ports.github
        self._home = home
        self.github = GitHub(home.folder / FOLDER, url(ports), variables)
        self._networks: set[Network] = set()
        self._server: BaseWSGIServer | None = None
        self._ending = threading.Event()

    def start(self) -> None:
        """Write the files it needs; serving starts with the workstation's network."""
        shutil.rmtree(self._home.folder / FOLDER, ignore_errors=True)
        self.github.repositories.start()
        self.github.hosted.start()
        write_private(self._home.folder / TOKEN_FILE, f"{self.github.token}\n")

    def close(self) -> None:
        """Stop the hosted runners, then the server."""
        self._ending.set()
        self.github.hosted.close()
        if self._server:
            self._server.shutdown()

    def gateway_added(self, network: Network) -> None:
        """Accept a network's machines; the workstation's network starts the server."""
        self._networks.add(network)
        if network == NETWORK:
            app = application(self.github, self._caller)
            self._server = make_server(
                NETWORK.gateway, self._port, app, threaded=True, request_handler=_Handler
            )
            self._server.daemon_threads = True
            threading.Thread(target=self._server.serve_forever, name="github", daemon=True).start()
            threading.Thread(target=self._fail_lost_jobs, name="github-jobs", daemon=True).start()

    def gateway_removed(self, network: Network) -> None:
        """Stop accepting a network's machines."""
        self._networks.discard(network)

    def status(self) -> str:
        """Describe the server, its runners and its runs in a few words."""
        runners = self.github.runners.of()
        online = sum(runner.is_online for runner in runners)
        runs = self.github.queue.runs()
        last = f", last {runs[0].name} #{runs[0].number}: {_state(runs[0])}" if runs else ""
        counts = f"{online} of {len(runners)} runners online, {len(runs)} runs"
        return f"{self.github.server}, {counts}{last}"

    def _caller(self, address: str) -> str:
        if _is_local(address):
            return "operator"
        return "machine" if any(is_from(net, address) for net in list(self._networks)) else ""

    def _fail_lost_jobs(self) -> None:
        while not self._ending.wait(POLL_S):
            with suppress(Exception):
                self.github.queue.fail_lost_jobs()


def _is_local(address: str) -> bool:
    """Return True for any address of this computer: local callers may use any of them."""
    with socket.socket() as probe, suppress(OSError):
        probe.bind((address, 0))
        return True
    return False


class _Handler(WSGIRequestHandler):
    """Log requests at debug level only."""

    protocol_version = "HTTP/1.1"

    def log_request(self, code: object = "-", size: object = "-") -> None:
        LOG.debug("github: %s %s %s", self.command, self.path, code)


def url(ports: Ports) -> str:
    """Return GITHUB_SERVER_URL."""
    return f"http://{NETWORK.gateway}:{ports.github}"


def target(service: GitHubService) -> dict[str, str]:
    """Return the variables that point any tool at this GitHub."""
    server = service.github.server
    return {
        "GITHUB_SERVER_URL": server,
        "GITHUB_API_URL": api_url(server),
        "DAYBOOK_RUNNER_SHA256": service.github.archive_sha256,
    }


def _state(run: object) -> str:
    return run.conclusion or run.status
