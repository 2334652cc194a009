"""The forwarder, with a fake edge that records its rules."""

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


class FakeEdge:
    def __init__(self, *_: object) -> None:
        self.applied: list[frozenset[IngressRule]] = []

    def start(self) -> None: ...

    def close(self) -> None: ...

    def apply(self, rules: frozenset[IngressRule]) -> None:
        self.applied.append(rules)


@pytest.fixture
def machine() -> Iterator[int]:
    """Yield the port of an echo server."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        serving = threading.Thread(target=_serve, args=[listener], daemon=True)
        serving.start()
        yield listener.getsockname()[1]
        # Closing alone leaves accept() waiting on the next socket with the same descriptor.
        listener.shutdown(socket.SHUT_RDWR)
        serving.join()


@pytest.fixture
def rules(machine: int, monkeypatch) -> set[IngressRule]:
    """Return the current rules, for tests to change."""
    current = {IngressRule(PUBLIC_IP, "127.0.0.1", machine, machine, False)}
    monkeypatch.setattr(forwarding, "ingress_rules", lambda _: frozenset(current))
    monkeypatch.setattr(forwarding, "Edge", FakeEdge)
    return current


@pytest.fixture
def forward(rules, machine: int, port: int) -> Iterator[Forward]:
    ports = Ports(0, 0, 0, 0, 0, forward=port, acme=0)
    forwarder = Forward(None, ports, None, {}, destination=lambda _: (PUBLIC_IP, machine))
    forwarder.start()
    yield forwarder
    forwarder.close()


def test_forwards_both_directions_and_eof(forward, port):
    with _call(port) as caller:
        sender = threading.Thread(target=_send_and_end, args=[caller, b"x" * 3_000_000])
        sender.start()
        assert len(_read_all(caller)) == 3_000_000
        sender.join()


def test_caller_without_a_rule_is_cut(forward, port):
    with _call(port, "127.3.3.3") as caller:
        assert _is_cut(caller)


def test_revoked_rule_cuts_open_connections(forward, rules, port):
    with _call(port) as caller:
        caller.sendall(b"hello")
        assert caller.recv(5) == b"hello"
        rules.clear()
        assert _is_cut(caller)
    _until(lambda: "0 connections" in forward.status())


def test_edge_is_updated(forward, rules):
    first = frozenset(rules)
    _until(lambda: forward._edge.applied == [first])
    rules.clear()
    _until(lambda: forward._edge.applied == [first, frozenset()])


def test_caller_of_a_closed_port_is_cut(forward, rules, machine, port):
    rules.add(IngressRule(PUBLIC_IP, "127.0.0.9", machine, machine, True))
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
    """Return True if the peer closes the connection in time."""
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
