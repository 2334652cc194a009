"""All access to the host: processes, Docker's engine, HTTP and the clock."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import selectors
import signal
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import IO, Any

from daybook_release.printable import printable

ENGINE = "/var/run/docker.sock"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
HTTP_S = 5.0
LAST_BYTES = 64 * 1024
"""How much of a command's output is kept; messages show its last lines."""
WHOLE_BYTES = 8 * 1024**2
"""The limit for output that must be complete, and how much of a long log is kept."""
CHUNK_BYTES = 64 * 1024
KILL_GRACE_S = 5.0
LOOPBACK = "127.0.0.1"
ESTABLISHED = "01"


@dataclass(frozen=True)
class CommandResult:
    """The exit code and output of a command."""

    code: int
    out: str
    err: str

    @property
    def is_success(self) -> bool:
        return self.code == 0

    @property
    def output_tail(self) -> str:
        """Return the last three lines, printable and joined."""
        lines = (self.err.strip() or self.out.strip()).splitlines()
        return " · ".join(printable(line) for line in lines[-3:])


@dataclass(frozen=True)
class HttpResponse:
    """The response of an HTTP server. status: 0 when there was none; body is then the reason."""

    status: int
    body: str = ""

    def __str__(self) -> str:
        return f"HTTP {self.status}" if self.status else self.body


@dataclass
class System:
    """The only access to the host; tests replace it.

    inherited_fds: descriptors that commands inherit, so that the lock outlives a killed release.
    """

    inherited_fds: list[int] = field(default_factory=list)
    now: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep

    def run(
        self,
        command: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        text: str | None = None,
        with_aws_env: bool = False,
        timeout_s: float = 300,
        keep_bytes: int = LAST_BYTES,
        whole_output: bool = False,
    ) -> CommandResult:
        """Run a command; the exit code is 124 when it timed out or printed too much.

        text: its standard input. with_aws_env: pass the AWS_ variables of this process.
        keep_bytes: how much of the output's end is kept. whole_output: keep all of it, up to
        WHOLE_BYTES. A command that inherits the lock has a timeout of its own, which also works
        after this process is killed.
        """
        keep_bytes = WHOLE_BYTES if whole_output else keep_bytes
        if self.inherited_fds:
            command = ["timeout", "--kill-after=10", f"{timeout_s + 10:.0f}", *command]
        process = subprocess.Popen(
            command,
            env=_environment(with_aws_env) | dict(env or {}),
            stdin=subprocess.DEVNULL if text is None else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,
            pass_fds=self.inherited_fds,
        )
        with process, _Pipes(process, text or "", keep_bytes) as pipes:
            deadline, reason = time.monotonic() + timeout_s, ""
            try:
                if not pipes.pump(deadline, until_truncated=whole_output):
                    reason = f"timed out after {timeout_s:.0f} s"
                if whole_output and pipes.is_truncated:
                    reason = f"printed more than {keep_bytes // 1024} KiB"
            except BaseException:
                _terminate(process, pipes)
                raise
            if reason:
                _terminate(process, pipes)
                return CommandResult(124, pipes.out, f"{pipes.err}\n{reason}")
        return CommandResult(process.returncode, pipes.out, pipes.err)

    def engine(self, method: str, path: str, *, timeout_s: float = 30) -> Any:
        """Call Docker's engine; raise OSError if it does not answer, LookupError if it refuses.

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
        data = json.loads(body) if body[:1] in (b"{", b"[") else None
        if response.status >= 400:
            raise LookupError((data or {}).get("message", f"HTTP {response.status}"))
        return data

    def http_get(self, port: int, path: str, name: str, *, forwarded: str = "") -> HttpResponse:
        """Request a path from a server on this host, over TLS on port 443.

        name: the Host header. forwarded: the visitor's scheme in X-Forwarded-Proto, as Caddy sends
        it.
        """
        try:
            return _http_get(port, path, name, forwarded)
        except (OSError, http.client.HTTPException) as err:
            return HttpResponse(0, printable(err) or type(err).__name__)

    def open_connections(self, port: int) -> int:
        """Count the established connections to a port of 127.0.0.1."""
        with open("/proc/net/tcp", encoding="ascii") as lines:
            rows = [line.split() for line in lines]
        return sum(row[2:4] == [f"0100007F:{port:04X}", ESTABLISHED] for row in rows)


def _environment(with_aws_env: bool) -> dict[str, str]:
    """Return a clean environment: no variable of the caller, none of the application."""
    kept = {k: v for k, v in os.environ.items() if with_aws_env and k.startswith("AWS_")}
    return kept | {"PATH": PATH, "HOME": "/root", "LANG": "C.UTF-8"}


def _http_get(port: int, path: str, name: str, forwarded: str) -> HttpResponse:
    connection = http.client.HTTPConnection(LOOPBACK, port)
    headers = {"Host": name, "Connection": "close"}
    headers |= {"X-Forwarded-Proto": forwarded} if forwarded else {}
    raw = socket.create_connection((LOOPBACK, port), HTTP_S)
    with contextlib.closing(connection), _deadline(HTTP_S, raw):
        connection.sock = raw
        if port == 443:
            # A release checks the application, not the certificate.
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            connection.sock = context.wrap_socket(raw, server_hostname=name)
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        return HttpResponse(response.status, response.read(65536).decode(errors="replace"))


@contextlib.contextmanager
def _deadline(timeout_s: float, connection: socket.socket) -> Iterator[None]:
    """Shut a connection at a deadline even if bytes still arrive, and raise TimeoutError."""
    is_late = threading.Event()

    def shut() -> None:
        is_late.set()
        with contextlib.suppress(OSError):
            duplicate.shutdown(socket.SHUT_RDWR)

    with connection.dup() as duplicate:  # TLS takes over the first descriptor.
        timer = threading.Timer(timeout_s, shut)
        timer.start()
        try:
            yield
        except (OSError, http.client.HTTPException):
            if not is_late.is_set():
                raise
        finally:
            timer.cancel()
            timer.join()
    if is_late.is_set():
        raise TimeoutError(f"no complete response within {timeout_s:.0f} s")


class _Pipes:
    """Feed a command its input and keep the last bytes of its output.

    `communicate` would keep all of the output, and a container may print without end.
    """

    def __init__(self, process: subprocess.Popen[bytes], text: str, keep_bytes: int) -> None:
        self.process, self.keep_bytes = process, keep_bytes
        self.input = memoryview(text.encode())
        self.kept = {process.stdout: bytearray(), process.stderr: bytearray()}
        self.is_truncated = False
        self.open = selectors.DefaultSelector()
        for pipe in self.kept:
            self.open.register(pipe, selectors.EVENT_READ)
        if process.stdin:
            os.set_blocking(process.stdin.fileno(), False)
            self.open.register(process.stdin, selectors.EVENT_WRITE)

    def __enter__(self) -> _Pipes:
        return self

    def __exit__(self, *error: object) -> None:
        self.open.close()

    @property
    def out(self) -> str:
        return self.kept[self.process.stdout].decode(errors="replace")

    @property
    def err(self) -> str:
        return self.kept[self.process.stderr].decode(errors="replace")

    def pump(self, deadline: float, *, until_truncated: bool = False) -> bool:
        """Copy data until the command exits; False at the deadline or if output was truncated."""
        while self.open.get_map():
            left_s = deadline - time.monotonic()
            if left_s <= 0 or (until_truncated and self.is_truncated):
                return False
            for key, _ in self.open.select(left_s):
                if key.fileobj is self.process.stdin:
                    self._write()
                else:
                    self._read(key.fileobj)
        try:
            self.process.wait(max(deadline - time.monotonic(), 0))
        except subprocess.TimeoutExpired:
            return False
        return True

    def _write(self) -> None:
        try:
            self.input = self.input[os.write(self.process.stdin.fileno(), self.input) :]
        except BrokenPipeError:
            self.input = self.input[:0]
        if not self.input:
            self._close(self.process.stdin)

    def _read(self, pipe: IO[bytes]) -> None:
        kept, chunk = self.kept[pipe], os.read(pipe.fileno(), CHUNK_BYTES)
        kept += chunk
        if not chunk:
            self._close(pipe)
        if len(kept) > self.keep_bytes:
            self.is_truncated = self.is_truncated or pipe is self.process.stdout
            del kept[: -self.keep_bytes]

    def _close(self, pipe: IO[bytes]) -> None:
        self.open.unregister(pipe)
        pipe.close()


def _terminate(process: subprocess.Popen[bytes], pipes: _Pipes) -> None:
    """End a command and its children: first by SIGTERM, then by SIGKILL."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        if pipes.pump(time.monotonic() + KILL_GRACE_S):
            return
