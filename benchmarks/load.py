"""A steady load on a web application: its clients, and the result of each request."""

from __future__ import annotations

import http.client
import itertools
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

BODY = b"x" * 2048
TIMEOUT_S = 60


@dataclass(frozen=True)
class Request:
    """A request. expects: the length of a correct response body, None for any."""

    method: str
    path: str
    body: bytes | None = None
    expects: int | None = None
    is_fast: bool = True


GET, POST = Request("GET", "/"), Request("POST", "/echo", BODY, len(BODY))
CLOSED = "closed before the response began"
SLOW = Request("GET", "/slow?s=5", is_fast=False)
STREAMED = len("".join(f"{number}\n" for number in range(100)))
STREAM = Request("GET", "/stream?s=10", expects=STREAMED, is_fast=False)


@dataclass(frozen=True)
class Client:
    """A client's behavior. every_s: from the start of one request to the start of the next."""

    requests: tuple[Request, ...]
    every_s: float = 0.0
    keeps_alive: bool = True


FAST_S = 0.09
CLIENTS = (
    *(Client((GET, POST), FAST_S) for _ in range(11)),
    *(Client((POST, GET), FAST_S, keeps_alive=False) for _ in range(2)),
    *(Client((SLOW,)) for _ in range(2)),
    Client((STREAM,)),
)
"""Sixteen clients, about 140 requests per second."""


@dataclass
class Tally:
    """The results of the requests; failures: (seconds since the start, request, reason).

    retried: GETs repeated on a new connection because the idle one was just being closed.
    """

    began: float = field(default_factory=time.monotonic)
    ended: float = 0.0
    count: int = 0
    retried: int = 0
    fast_ms: list[float] = field(default_factory=list)
    failures: list[tuple[float, str, str]] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def rate(self) -> float:
        """Return requests per second."""
        return self.count / (self.ended - self.began)

    def add(self, request: Request, seconds: float, failure: str, retried: bool) -> None:
        with self._lock:
            self.count += 1
            self.retried += retried
            if failure:
                at = time.monotonic() - self.began
                self.failures.append((at, f"{request.method} {request.path}", failure))
            if request.is_fast:
                self.fast_ms.append(seconds * 1000)


@contextmanager
def load(name: str, address: str, ca_file: str) -> Iterator[Tally]:
    """Keep a host under load in this context; at its end, wait for requests in progress."""
    tally, stop = Tally(), threading.Event()
    context = ssl.create_default_context(cafile=ca_file)

    def connect() -> http.client.HTTPSConnection:
        connection = http.client.HTTPSConnection(name, timeout=TIMEOUT_S)
        raw = socket.create_connection((address, 443), TIMEOUT_S)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sock = context.wrap_socket(raw, server_hostname=name)
        return connection

    threads = [
        threading.Thread(target=_visit, args=(client, connect, tally, stop)) for client in CLIENTS
    ]
    for thread in threads:
        thread.start()
    try:
        yield tally
    finally:
        stop.set()
        for thread in threads:
            thread.join()
        tally.ended = time.monotonic()


class _Visitor:
    """A client that reuses one connection and checks it first, as browsers do."""

    def __init__(self, connect: Callable[[], http.client.HTTPSConnection]) -> None:
        self._connect = connect
        self._connection: http.client.HTTPSConnection | None = None

    def ask(self, request: Request) -> tuple[str, bool]:
        """Make a request; return the failure, "" for none, and True if it was retried.

        A server that shuts down may close an idle connection while the next request is in transit.
        Idempotent requests are then retried once: RFC 9112, section 9.3.1.
        """
        if self._connection and _was_closed(self._connection):
            self.close()
        is_reused = self._connection is not None
        failure = self._ask(request)
        if not is_reused or request.method != "GET" or failure != CLOSED:
            return failure, False
        self.close()
        return self._ask(request), True

    def close(self) -> None:
        """Close the idle connection."""
        if self._connection:
            self._connection.close()
            self._connection = None

    def _ask(self, request: Request) -> str:
        try:
            self._connection = self._connection or self._connect()
            return _ask(self._connection, request)
        except (OSError, http.client.HTTPException) as err:
            self.close()
            return f"{type(err).__name__}: {err}"


def _visit(
    client: Client,
    connect: Callable[[], http.client.HTTPSConnection],
    tally: Tally,
    stop: threading.Event,
) -> None:
    visitor = _Visitor(connect)
    for request in itertools.cycle(client.requests):
        if stop.is_set():
            break
        began = time.monotonic()
        failure, retried = visitor.ask(request)
        took = time.monotonic() - began
        tally.add(request, took, failure, retried)
        if not client.keeps_alive:
            visitor.close()
        stop.wait(max(0.0, client.every_s - took) if not failure else 0.1)
    visitor.close()


def _ask(connection: http.client.HTTPSConnection, request: Request) -> str:
    """Make a request; return the failure, "" for none."""
    try:
        connection.request(request.method, request.path, request.body)
        response = connection.getresponse()
    except (ConnectionError, ssl.SSLEOFError):
        connection.close()
        return CLOSED
    body = response.read()
    if response.status != 200:
        return f"HTTP {response.status}"
    if request.expects is not None and len(body) != request.expects:
        return f"{len(body)} bytes of {request.expects}"
    if response.will_close:
        connection.close()
    return ""


def _was_closed(connection: http.client.HTTPSConnection) -> bool:
    """Return True if the server closed an idle connection; every HTTP library checks this."""
    return connection.sock is None or bool(select.select([connection.sock], [], [], 0)[0])
