"""Everything by which the program touches the host: processes, Docker's engine, HTTP, the clock."""

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
ASK_S = 5.0
LAST_BYTES = 64 * 1024
"""Kept of a command's output, of which a person is shown the end."""
WHOLE_BYTES = 8 * 1024**2
"""The most that a command may say whose output is read as a whole, and kept of a long log."""
PIECE_BYTES = 64 * 1024
KILLED_S = 5.0
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
        keep_bytes: int = LAST_BYTES,
        is_whole: bool = False,
    ) -> Ran:
        """Run a command to its end; code 124 when it took too long or said too much.

        text: its standard input. asks_aws: it gets the AWS_ variables of this process.
        keep_bytes: of its output, the last ones. is_whole: all of it is needed, and WHOLE_BYTES are
        the most. What keeps the lock has an end even when this process is killed.
        """
        keep_bytes = WHOLE_BYTES if is_whole else keep_bytes
        if self.held:
            command = ["timeout", "--kill-after=10", f"{timeout_s + 10:.0f}", *command]
        process = subprocess.Popen(
            command,
            env=_environment(asks_aws) | dict(env or {}),
            stdin=subprocess.DEVNULL if text is None else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,
            pass_fds=self.held,
        )
        with process, _Talk(process, text or "", keep_bytes) as talk:
            deadline, complaint = time.monotonic() + timeout_s, ""
            try:
                if not talk.go_on(deadline, until_cut=is_whole):
                    complaint = f"no end within {timeout_s:.0f} s"
                if is_whole and talk.is_cut:
                    complaint = f"more than {keep_bytes // 1024} KiB of output"
            except BaseException:
                _end(process, talk)
                raise
            if complaint:
                _end(process, talk)
                return Ran(124, talk.out, f"{talk.err}\n{complaint}")
        return Ran(process.returncode, talk.out, talk.err)

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
    connection = http.client.HTTPConnection(LISTENING, port)
    headers = {"Host": name, "Connection": "close"}
    headers |= {"X-Forwarded-Proto": forwarded} if forwarded else {}
    raw = socket.create_connection((LISTENING, port), ASK_S)
    with contextlib.closing(connection), _within(ASK_S, raw):
        connection.sock = raw
        if port == 443:
            # Whether the certificate is good is a visitor's question, not the release's.
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            connection.sock = context.wrap_socket(raw, server_hostname=name)
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        return Answer(response.status, response.read(65536).decode(errors="replace"))


@contextlib.contextmanager
def _within(patience_s: float, connection: socket.socket) -> Iterator[None]:
    """Shut a connection when its time is over, though bytes still arrive; TimeoutError then."""
    is_late = threading.Event()

    def shut() -> None:
        is_late.set()
        with contextlib.suppress(OSError):
            same.shutdown(socket.SHUT_RDWR)

    with connection.dup() as same:  # TLS takes the first descriptor over.
        timer = threading.Timer(patience_s, shut)
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
        raise TimeoutError(f"no whole answer within {patience_s:.0f} s")


class _Talk:
    """Give a command its input and keep the last bytes of what it says.

    `communicate` would keep all of it: a container may print without end.
    """

    def __init__(self, process: subprocess.Popen[bytes], text: str, keep_bytes: int) -> None:
        self.process, self.keep_bytes = process, keep_bytes
        self.input = memoryview(text.encode())
        self.kept = {process.stdout: bytearray(), process.stderr: bytearray()}
        self.is_cut = False
        self.open = selectors.DefaultSelector()
        for pipe in self.kept:
            self.open.register(pipe, selectors.EVENT_READ)
        if process.stdin:
            os.set_blocking(process.stdin.fileno(), False)
            self.open.register(process.stdin, selectors.EVENT_WRITE)

    def __enter__(self) -> _Talk:
        return self

    def __exit__(self, *error: object) -> None:
        self.open.close()

    @property
    def out(self) -> str:
        return self.kept[self.process.stdout].decode(errors="replace")

    @property
    def err(self) -> str:
        return self.kept[self.process.stderr].decode(errors="replace")

    def go_on(self, deadline: float, *, until_cut: bool = False) -> bool:
        """Talk until the command has ended; False at the deadline, or when output was cut."""
        while self.open.get_map():
            left_s = deadline - time.monotonic()
            if left_s <= 0 or (until_cut and self.is_cut):
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
        kept, piece = self.kept[pipe], os.read(pipe.fileno(), PIECE_BYTES)
        kept += piece
        if not piece:
            self._close(pipe)
        if len(kept) > self.keep_bytes:
            self.is_cut = self.is_cut or pipe is self.process.stdout
            del kept[: -self.keep_bytes]

    def _close(self, pipe: IO[bytes]) -> None:
        self.open.unregister(pipe)
        pipe.close()


def _end(process: subprocess.Popen[bytes], talk: _Talk) -> None:
    """End a command and what it started: kindly, then not."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        if talk.go_on(time.monotonic() + KILLED_S):
            return
