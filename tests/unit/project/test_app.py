"""The example application keeps the contract that a release relies on."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

APP = Path(__file__).resolve().parents[3] / "app"
COMPOSE = yaml.safe_load((APP / "compose.yaml").read_text())
WEB = COMPOSE["services"]["web"]


@pytest.fixture
def server() -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Start the application as its container does; give the process and its port."""
    env = os.environ | {"PORT": "0", "APP_VERSION": "1.10", "APP_ENVIRONMENT": "staging"}
    process = subprocess.Popen(
        [sys.executable, "server.py"], cwd=APP, env=env, stdout=subprocess.PIPE, text=True
    )
    try:
        line = process.stdout.readline()
        yield process, int(re.fullmatch(r"listening on port (\d+)\n", line)[1])
    finally:
        process.kill()
        process.communicate(timeout=10)


def test_its_own_test_passes():
    subprocess.run([sys.executable, "-m", "unittest", "-q"], cwd=APP, check=True, timeout=60)


def test_version_says_what_the_environment_says(server):
    connection = http.client.HTTPConnection("127.0.0.1", server[1], timeout=5)
    connection.request("GET", "/version")
    answer = json.load(connection.getresponse())
    connection.close()
    assert answer["version"] == "1.10"
    assert answer["environment"] == "staging"


def test_sigterm_finishes_the_request_that_has_begun(server):
    process, port = server
    with socket.create_connection(("127.0.0.1", port), timeout=5) as client:
        client.sendall(b"GET /up HTTP/1.1\r\n")
        # A second connection is answered after the first was accepted: the request has begun.
        with socket.create_connection(("127.0.0.1", port), timeout=5) as other:
            other.sendall(b"GET /up HTTP/1.1\r\n\r\n")
            assert other.recv(64).startswith(b"HTTP/1.0 200")
        process.send_signal(signal.SIGTERM)
        client.sendall(b"\r\n")
        with client.makefile("rb") as answer:
            assert answer.read().endswith(b"\r\n\r\nup\n")
    assert process.wait(timeout=10) == 0


def test_compose_publishes_on_loopback_only():
    assert WEB["ports"] == ["127.0.0.1:${APP_PORT:-8000}:8000"]


def test_compose_is_what_a_release_needs():
    assert WEB["image"].startswith("${APP_IMAGE")
    assert WEB["init"] is True
    assert WEB["restart"] == "unless-stopped"
    assert "/up" in " ".join(WEB["healthcheck"]["test"])


def test_only_the_laptop_builds():
    override = yaml.safe_load((APP / "compose.override.yaml").read_text())
    assert "build" not in WEB
    assert override["services"]["web"]["build"] == "."


def test_the_image_does_not_run_as_root():
    lines = (APP / "Dockerfile").read_text().splitlines()
    assert lines[0] == "FROM debian:trixie-slim"
    assert [line for line in lines if line.startswith("USER ")] == ["USER app"]
