"""The Docker engine that runs the sandbox: find it, or install and start it on request."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import docker
from docker import DockerClient
from docker.errors import DockerException
from tenacity import Retrying, retry_if_result, stop_after_delay, wait_fixed

from daybook import process
from daybook.errors import CommandFailed, PreflightFailed
from daybook_sandbox.state import Home, Process

SOCKET = Path("/var/run/docker.sock")
SBIN = f"{os.defpath}:/usr/local/sbin:/usr/sbin:/sbin"
START_S = 60
STOP_S = 30
OnLine = Callable[[str], None]


def find(home: Home) -> DockerClient:
    """Return a client of the running engine; raise PreflightFailed if it is unusable."""
    address = _address(home)
    try:
        client = docker.DockerClient(base_url=address, version="auto", timeout=120)
    except DockerException as error:
        raise _unusable(address, error) from error
    _require_linux_root(client.info())
    return client


def ensure(home: Home, on_line: OnLine) -> DockerClient:
    """Return a client; if no engine exists, install Debian's and start it."""
    if not _is_answering(_address(home)) and not _is_refusing(_address(home)):
        root = _as_root()
        _install(root, on_line)
        _start(home, root, on_line)
    return find(home)


def stop(home: Home) -> None:
    """Stop the engine if `ensure` started it."""
    engine = home.read_engine()
    if engine and engine.is_alive:
        process.run([*_as_root(), "kill", "-TERM", str(engine.pid)])
        Retrying(retry=retry_if_result(bool), stop=stop_after_delay(STOP_S), wait=wait_fixed(0.2))(
            lambda: engine.is_alive
        )


def _address(home: Home) -> str:
    """Return the engine's address; ignore a DOCKER_HOST that is the sandbox's inner engine."""
    address = os.environ.get("DOCKER_HOST", "")
    inner = home.read_target().get("DOCKER_HOST")
    return f"unix://{SOCKET}" if address in ("", inner) else address


def _is_answering(address: str) -> bool:
    try:
        return docker.DockerClient(base_url=address, version="auto", timeout=10).ping()
    except DockerException:
        return False


def _is_refusing(address: str) -> bool:
    """Return True if the engine is remote or this user has no access to its socket."""
    return address != f"unix://{SOCKET}" or (SOCKET.exists() and not os.access(SOCKET, os.W_OK))


def _unusable(address: str, error: DockerException) -> PreflightFailed:
    if SOCKET.exists() and not os.access(SOCKET, os.W_OK):
        return PreflightFailed(
            "This user may not use Docker.",
            expected=f"write access to {SOCKET}",
            next="sudo usermod -aG docker $USER, log in again, then daybook sandbox up",
        )
    return PreflightFailed(
        "The Docker engine does not answer.",
        expected=f"an engine at {address}",
        observed=str(error),
        next="start Docker, or run daybook sandbox up --install to install Debian's",
    )


def _require_linux_root(info: dict) -> None:
    """Refuse an engine with containers that this computer cannot reach by address."""
    rootless = any("rootless" in option for option in info.get("SecurityOptions") or ())
    if not rootless and info["OperatingSystem"] != "Docker Desktop" and info["OSType"] == "linux":
        return
    raise PreflightFailed(
        "The sandbox needs a Docker engine that runs as root on this Linux computer.",
        observed="a rootless engine" if rootless else info["OperatingSystem"],
        next="point DOCKER_HOST at such an engine, or use a Linux machine that has one",
    )


def _as_root() -> list[str]:
    if os.geteuid() == 0:
        return []
    if shutil.which("sudo") and subprocess.run(["sudo", "-n", "true"], check=False).returncode == 0:
        return ["sudo", "-n"]
    raise PreflightFailed(
        "Docker is not installed, and this user may not install it.",
        expected="Docker, or root, or sudo without a password",
        next="ask an administrator to install docker.io and add this user to the docker group",
    )


def _install(root: list[str], on_line: OnLine) -> None:
    if shutil.which("dockerd", path=SBIN):
        return
    if not shutil.which("apt-get"):
        raise PreflightFailed(
            "Docker is not installed, and this is neither Debian nor Ubuntu.",
            expected="a Docker engine",
            next="install Docker, then daybook sandbox up",
        )
    on_line("Installing Docker")
    # The client is a separate package in Debian 13, but not in Debian 12 and Ubuntu.
    known = subprocess.run(["apt-cache", "show", "docker-cli"], capture_output=True, check=False)
    client = [] if known.returncode else ["docker-cli"]
    packages = ["docker.io", "debootstrap", "debian-archive-keyring", *client]
    apt = [*root, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get"]
    process.run([*apt, "update"], on_line=lambda line: on_line(f"  {line}"))
    install = [*apt, "install", "-y", "--no-install-recommends", "iptables", *packages]
    process.run(install, on_line=lambda line: on_line(f"  {line}"))


def _start(home: Home, root: list[str], on_line: OnLine) -> None:
    """Start the engine as a service or, without systemd, as a process that `stop` terminates."""
    on_line("Starting Docker")
    if Path("/run/systemd/system").is_dir():
        process.run([*root, "systemctl", "start", "docker"])
        _grant_access(root)
    else:
        home.write_engine(_start_process(home, root))
    Retrying(
        retry=retry_if_result(lambda is_answering: not is_answering),
        stop=stop_after_delay(START_S),
        wait=wait_fixed(0.2),
        retry_error_callback=_raise_unanswered,
    )(_is_answering, f"unix://{SOCKET}")


def _grant_access(root: list[str]) -> None:
    """Let this non-root user use the engine, now and after the next login."""
    if os.geteuid() != 0:
        user = pwd.getpwuid(os.getuid()).pw_name
        process.run([*root, "usermod", "-aG", "docker", user])
        process.run([*root, "chgrp", str(os.getgid()), str(SOCKET)])


def _start_process(home: Home, root: list[str]) -> Process:
    """Start dockerd in a new session; its socket belongs to this user's group."""
    dockerd = shutil.which("dockerd", path=SBIN)
    command = [*root, dockerd, "--group", str(os.getgid())]
    with (home.folder / "dockerd.log").open("ab") as log:
        started = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
    return Process.of(started.pid)


def _raise_unanswered(_: object) -> None:
    raise CommandFailed(
        f"Docker was started but did not answer within {START_S} s.",
        changed="Docker is installed.",
        next="read .sandbox/dockerd.log, or journalctl -u docker",
    )
