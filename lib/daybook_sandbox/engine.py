"""The Docker engine the sandbox lives in: found, or installed and started when asked to."""

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
    """Return a client of the engine that is there; PreflightFailed says what is missing."""
    address = _address(home)
    try:
        client = docker.DockerClient(base_url=address, version="auto", timeout=120)
    except DockerException as error:
        raise _unusable(address, error) from error
    _require_linux_root(client.info())
    return client


def ensure(home: Home, on_line: OnLine) -> DockerClient:
    """Return a client; where no engine is there, install Debian's and start it."""
    if not _is_answering(_address(home)) and not _is_refusing(_address(home)):
        root = _as_root()
        _install(root, on_line)
        _start(home, root, on_line)
    return find(home)


def stop(home: Home) -> None:
    """Stop the engine, if it is one that `ensure` started."""
    engine = home.read_engine()
    if engine and engine.is_alive:
        process.run([*_as_root(), "kill", "-TERM", str(engine.pid)])
        Retrying(retry=retry_if_result(bool), stop=stop_after_delay(STOP_S), wait=wait_fixed(0.2))(
            lambda: engine.is_alive
        )


def _address(home: Home) -> str:
    """Return the engine's address; the sandbox's own inner engine is not one to build it in."""
    chosen = os.environ.get("DOCKER_HOST", "")
    inner = home.read_target().get("DOCKER_HOST")
    return f"unix://{SOCKET}" if chosen in ("", inner) else chosen


def _is_answering(address: str) -> bool:
    try:
        return docker.DockerClient(base_url=address, version="auto", timeout=10).ping()
    except DockerException:
        return False


def _is_refusing(address: str) -> bool:
    """Tell whether there is an engine that this user may not use, or that is somewhere else."""
    return address != f"unix://{SOCKET}" or (SOCKET.exists() and not os.access(SOCKET, os.W_OK))


def _unusable(address: str, error: DockerException) -> PreflightFailed:
    if SOCKET.exists() and not os.access(SOCKET, os.W_OK):
        return PreflightFailed(
            "Docker is here, but this user may not use it.",
            expected=f"write access to {SOCKET}",
            next="sudo usermod -aG docker $USER, log in again, then daybook sandbox up",
        )
    return PreflightFailed(
        "No Docker engine answers.",
        expected=f"an engine at {address}",
        observed=str(error),
        next="start Docker, or daybook sandbox up --install to have Debian's installed",
    )


def _require_linux_root(info: dict) -> None:
    """Refuse an engine whose machines this computer could not reach by their addresses."""
    rootless = any("rootless" in option for option in info.get("SecurityOptions") or ())
    if not rootless and info["OperatingSystem"] != "Docker Desktop" and info["OSType"] == "linux":
        return
    raise PreflightFailed(
        "The sandbox needs a Docker engine that runs on this Linux computer as root.",
        observed="a rootless engine" if rootless else info["OperatingSystem"],
        next="point DOCKER_HOST at such an engine, or run on a Linux machine that has one",
    )


def _as_root() -> list[str]:
    if os.geteuid() == 0:
        return []
    if shutil.which("sudo") and subprocess.run(["sudo", "-n", "true"], check=False).returncode == 0:
        return ["sudo", "-n"]
    raise PreflightFailed(
        "No Docker engine is here, and this user may not install one.",
        expected="Docker, or root, or sudo without a password",
        next="have docker.io installed and this user in the group docker",
    )


def _install(root: list[str], on_line: OnLine) -> None:
    if shutil.which("dockerd", path=SBIN):
        return
    if not shutil.which("apt-get"):
        raise PreflightFailed(
            "No Docker engine is here, and this is neither Debian nor Ubuntu.",
            expected="a Docker engine",
            next="install Docker, then daybook sandbox up",
        )
    on_line("Installing Docker")
    # Debian 13 has the client in a package of its own; Debian 12 and Ubuntu do not.
    known = subprocess.run(["apt-cache", "show", "docker-cli"], capture_output=True, check=False)
    client = [] if known.returncode else ["docker-cli"]
    packages = ["docker.io", "debootstrap", "debian-archive-keyring", *client]
    apt = [*root, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get"]
    process.run([*apt, "update"], on_line=lambda line: on_line(f"  {line}"))
    install = [*apt, "install", "-y", "--no-install-recommends", "iptables", *packages]
    process.run(install, on_line=lambda line: on_line(f"  {line}"))


def _start(home: Home, root: list[str], on_line: OnLine) -> None:
    """Start the engine: as a service, or without systemd as a process that `stop` ends."""
    on_line("Starting Docker")
    if Path("/run/systemd/system").is_dir():
        process.run([*root, "systemctl", "start", "docker"])
        _let_in(root)
    else:
        home.write_engine(_start_by_hand(home, root))
    Retrying(
        retry=retry_if_result(lambda is_answering: not is_answering),
        stop=stop_after_delay(START_S),
        wait=wait_fixed(0.2),
        retry_error_callback=_never_answered,
    )(_is_answering, f"unix://{SOCKET}")


def _let_in(root: list[str]) -> None:
    """Let a user who is not root use the engine: from the next login on, and right now."""
    if os.geteuid() != 0:
        user = pwd.getpwuid(os.getuid()).pw_name
        process.run([*root, "usermod", "-aG", "docker", user])
        process.run([*root, "chgrp", str(os.getgid()), str(SOCKET)])


def _start_by_hand(home: Home, root: list[str]) -> Process:
    """Start dockerd in its own session; its socket belongs to this user's group."""
    dockerd = shutil.which("dockerd", path=SBIN)
    command = [*root, dockerd, "--group", str(os.getgid())]
    with (home.folder / "dockerd.log").open("ab") as log:
        started = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
    return Process.of(started.pid)


def _never_answered(_: object) -> None:
    raise CommandFailed(
        f"Docker was started, and does not answer after {START_S} s.",
        changed="Docker is installed.",
        next="look at .sandbox/dockerd.log, or journalctl -u docker",
    )
