"""Probes from outside, against servers on loopback."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest

from daybook import probe
from daybook.errors import VerifyFailed


@contextmanager
def server(answer: bytes, *, reads: bool = False) -> Iterator[tuple[int, list[bytes]]]:
    """Answer one client; yields the port and the received data."""
    heard: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with closing(connection):
                if reads:
                    heard.append(connection.recv(4096))
                connection.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1], heard
        thread.join(5)


def test_waiting_ends_when_the_condition_is_met():
    looks = iter([probe.NotYet("not"), probe.NotYet("not"), "there"])

    def look() -> str:
        seen = next(looks)
        if isinstance(seen, Exception):
            raise seen
        return seen

    assert probe.wait_until(look, condition="it", timeout_s=5, every_s=0) == "there"


def test_a_timeout_reports_the_last_observation():
    def look() -> None:
        raise probe.NotYet("HTTP 502")

    with pytest.raises(VerifyFailed) as caught:
        probe.wait_until(look, condition="the page", timeout_s=0.05, every_s=0.01)
    assert (caught.value.expected, caught.value.observed) == ("the page", "HTTP 502")
    assert caught.value.exit_code == 7


def test_another_error_ends_the_wait():
    def look() -> None:
        raise LookupError

    with pytest.raises(LookupError):
        probe.wait_until(look, condition="it", timeout_s=60)


def test_the_ssh_banner_is_returned():
    with server(b"SSH-2.0-OpenSSH_10.0p2 Debian-7\r\n") as (port, _):
        assert probe.ssh_banner("127.0.0.1", port=port) == "SSH-2.0-OpenSSH_10.0p2 Debian-7"


def test_another_protocol_is_not_ssh():
    with (
        server(b"HTTP/1.1 400 Bad Request\r\n") as (port, _),
        pytest.raises(probe.NotYet, match="400"),
    ):
        probe.ssh_banner("127.0.0.1", port=port)


def test_a_closed_port_is_not_yet():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(probe.NotYet, match="refused"):
        probe.ssh_banner("127.0.0.1", port=port)
    with pytest.raises(probe.NotYet):
        probe.fetch(f"http://127.0.0.1:{port}/", {})


def test_fetch_uses_the_name_and_the_resolved_address(monkeypatch):
    asked = []
    monkeypatch.setattr(probe, "addresses", lambda name, _env: asked.append(name) or ["127.0.0.1"])
    answer = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"
    with server(answer, reads=True) as (port, heard):
        url = f"http://staging.daybook.test:{port}/up"
        assert probe.fetch(url, {}).status_code == 503
    assert asked == ["staging.daybook.test"]
    assert heard[0].startswith(b"GET /up HTTP/1.1\r\n")
    assert f"Host: staging.daybook.test:{port}".encode() in heard[0]


def test_an_address_is_not_resolved():
    assert probe.addresses("127.90.1.1", {"DAYBOOK_NAMESERVER": "127.0.0.1:1"}) == ["127.90.1.1"]


def test_an_unknown_name_is_not_yet():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        port = silent.getsockname()[1]
    with pytest.raises(probe.NotYet, match=r"staging\.daybook\.test"):
        probe.addresses("staging.daybook.test", {"DAYBOOK_NAMESERVER": f"127.0.0.1:{port}"})
