"""The forwarder, with an edge that writes down what it is told."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

from daybook_sandbox import forward as forwarding
from daybook_sandbox.forward import Forward
from daybook_sandbox.ingress import IngressRule
from daybook_sandbox.state import Ports

PUBLIC_IP = "127.90.1.0"
SOON_S = 2.0


class PaperEdge:
    def __init__(self, *_: object) -> None:
        self.told: list[frozenset[IngressRule]] = []

    def start(self) -> None: ...

    def close(self) -> None: ...

    def apply(self, openings: frozenset[IngressRule]) -> None:
        self.told.append(openings)


@pytest.fixture
def machine() -> Iterator[int]:
    """Yield the port of a server that echoes."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        serving = threading.Thread(target=_serve, args=[listener], daemon=True)
        serving.start()
        yield listener.getsockname()[1]
        # Closing alone leaves accept() waiting, on whatever has the file's number next.
        listener.shutdown(socket.SHUT_RDWR)
        serving.join()


@pytest.fixture
def opened(machine: int, monkeypatch) -> set[IngressRule]:
    """Return what is open; a test changes it."""
    now = {IngressRule(PUBLIC_IP, "127.0.0.1", machine, machine, False)}
    monkeypatch.setattr(forwarding, "ingress_rules", lambda _: frozenset(now))
    monkeypatch.setattr(forwarding, "Edge", PaperEdge)
    return now


@pytest.fixture
def forward(opened, machine: int, port: int) -> Iterator[Forward]:
    ports = Ports(0, 0, 0, 0, 0, forward=port, acme=0)
    it = Forward(None, ports, None, {}, destination=lambda _: (PUBLIC_IP, machine))
    it.start()
    yield it
    it.close()


def test_carries_both_ways_and_hands_on_the_end(forward, port):
    with _call(port) as caller:
        sender = threading.Thread(target=_send_and_end, args=[caller, b"x" * 3_000_000])
        sender.start()
        assert len(_read_all(caller)) == 3_000_000
        sender.join()


def test_stranger_is_cut_off(forward, port):
    with _call(port, "127.3.3.3") as caller:
        assert _is_cut(caller)


def test_revoked_rule_cuts_open_connections(forward, opened, port):
    with _call(port) as caller:
        caller.sendall(b"hello")
        assert caller.recv(5) == b"hello"
        opened.clear()
        assert _is_cut(caller)
    _until(lambda: "0 connections" in forward.status())


def test_edge_follows(forward, opened):
    first = frozenset(opened)
    _until(lambda: forward._edge.told == [first])
    opened.clear()
    _until(lambda: forward._edge.told == [first, frozenset()])


def test_machine_that_does_not_listen(forward, opened, machine, port):
    opened.add(IngressRule(PUBLIC_IP, "127.0.0.9", machine, machine, True))
    with _call(port, "127.3.3.3") as caller:
        assert _is_cut(caller)


def _call(port: int, source: str = "127.0.0.1") -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), SOON_S, (source, 0))


def _send_and_end(caller: socket.socket, data: bytes) -> None:
    caller.sendall(data)
    caller.shutdown(socket.SHUT_WR)


def _read_all(caller: socket.socket) -> bytes:
    return b"".join(iter(lambda: caller.recv(1 << 16), b""))


def _is_cut(caller: socket.socket) -> bool:
    """Tell whether the other side resets the connection in time."""
    try:
        return caller.recv(1) == b""
    except ConnectionResetError:
        return True


def _until(holds) -> None:
    deadline = time.monotonic() + SOON_S
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _serve(listener: socket.socket) -> None:
    with suppress(OSError):
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=_echo, args=[connection], daemon=True).start()


def _echo(connection: socket.socket) -> None:
    with connection, suppress(OSError):
        while data := connection.recv(1 << 16):
            connection.sendall(data)
