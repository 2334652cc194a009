"""Everything by which the program touches the host: processes, Docker's engine, HTTP, the clock."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from daybook_release.printable import printable

ENGINE = "/var/run/docker.sock"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
ASK_S = 5.0
LISTENING = "127.0.0.1"
ESTABLISHED = "01"


@dataclass(frozen=True)
class Ran:
    """How a command ended, and what it said."""

    code: int
    out: str
    err: str

    @property
    def is_good(self) -> bool:
        return self.code == 0

    @property
    def last_words(self) -> str:
        """Return the end of what it said, for a person."""
        lines = (self.err.strip() or self.out.strip()).splitlines()
        return " · ".join(printable(line) for line in lines[-3:])


@dataclass(frozen=True)
class Answer:
    """What an HTTP server said; status 0 when there was none, and why."""

    status: int
    body: str = ""

    def __str__(self) -> str:
        return f"HTTP {self.status}" if self.status else self.body


@dataclass
class Host:
    """The one seam. held: descriptors that commands keep open, so that a lock outlives a kill."""

    held: list[int] = field(default_factory=list)
    now: Callable[[], float] = time.time
    ticks: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep

    def run(
        self,
        command: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        text: str | None = None,
        asks_aws: bool = False,
        timeout_s: float = 300,
    ) -> Ran:
        """Run a command to its end; code 124 when it took too long.

        text: its standard input. asks_aws: it gets the AWS_ variables of this process. What
        keeps the lock has an end even when this process is killed.
        """
        if self.held:
            command = ["timeout", "--kill-after=10", f"{timeout_s + 10:.0f}", *command]
        process = subprocess.Popen(
            command,
            env=_environment(asks_aws) | dict(env or {}),
            stdin=subprocess.DEVNULL if text is None else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,
            pass_fds=self.held,
        )
        try:
            out, err = process.communicate(text, timeout=timeout_s)
        except subprocess.TimeoutExpired:
            out, err = _end(process)
            return Ran(124, out, f"{err}\nno end within {timeout_s:.0f} s")
        except BaseException:
            _end(process)
            raise
        return Ran(process.returncode, out, err)

    def engine(self, method: str, path: str, *, timeout_s: float = 30) -> Any:
        """Ask Docker's engine; OSError when it does not answer, LookupError when it refuses.

        https://docs.docker.com/reference/api/engine/
        """
        connection = http.client.HTTPConnection("docker", timeout=timeout_s)
        connection.sock = socket.socket(socket.AF_UNIX)
        try:
            connection.sock.settimeout(timeout_s)
            connection.sock.connect(ENGINE)
            connection.request(method, path)
            response = connection.getresponse()
            body = response.read()
        except http.client.HTTPException as err:
            raise ConnectionError(f"Docker's engine: {err!r}") from err
        finally:
            connection.close()
        said = json.loads(body) if body[:1] in (b"{", b"[") else None
        if response.status >= 400:
            raise LookupError((said or {}).get("message", f"HTTP {response.status}"))
        return said

    def ask(self, port: int, path: str, name: str, *, forwarded: str = "") -> Answer:
        """Ask a server on this host by a visitor's name; on 443 over TLS.

        forwarded: the scheme to claim that a visitor used, as Caddy does.
        """
        try:
            return _ask(port, path, name, forwarded)
        except (OSError, http.client.HTTPException) as err:
            return Answer(0, printable(err) or type(err).__name__)

    def connections_to(self, port: int) -> int:
        """Count the connections that are open to a port of 127.0.0.1."""
        with open("/proc/net/tcp", encoding="ascii") as lines:
            rows = [line.split() for line in lines]
        return sum(row[2:4] == [f"0100007F:{port:04X}", ESTABLISHED] for row in rows)


def _environment(asks_aws: bool) -> dict[str, str]:
    """Return what every command gets: nothing of who started this, nothing of the application."""
    kept = {k: v for k, v in os.environ.items() if asks_aws and k.startswith("AWS_")}
    return kept | {"PATH": PATH, "HOME": "/root", "LANG": "C.UTF-8"}


def _ask(port: int, path: str, name: str, forwarded: str) -> Answer:
    connection = http.client.HTTPConnection(LISTENING, port, timeout=ASK_S)
    if port == 443:
        # Whether the certificate is good is a visitor's question, not the release's.
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        raw = socket.create_connection((LISTENING, port), ASK_S)
        connection.sock = context.wrap_socket(raw, server_hostname=name)
    headers = {"Host": name, "Connection": "close"}
    headers |= {"X-Forwarded-Proto": forwarded} if forwarded else {}
    try:
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        return Answer(response.status, response.read(65536).decode(errors="replace"))
    finally:
        connection.close()


def _end(process: subprocess.Popen[str]) -> tuple[str, str]:
    """End a command and what it started: kindly, then not."""
    for number, patience_s in ((signal.SIGTERM, 5.0), (signal.SIGKILL, None)):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        try:
            return process.communicate(timeout=patience_s)
        except subprocess.TimeoutExpired:
            continue
    return "", ""
