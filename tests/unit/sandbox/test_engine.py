"""The selection of a Docker engine, and the errors for unusable ones."""

import pytest
from docker.errors import DockerException

from daybook.errors import PreflightFailed
from daybook_sandbox import engine
from daybook_sandbox.state import Home

LINUX = {"OperatingSystem": "Debian GNU/Linux 13", "OSType": "linux", "SecurityOptions": []}


@pytest.fixture
def home(tmp_path):
    home = Home(tmp_path)
    home.folder.mkdir()
    return home


@pytest.fixture
def no_engine(monkeypatch):
    def refuse(**_):
        raise DockerException("connection refused")

    monkeypatch.setattr(engine.docker, "DockerClient", refuse)


def test_the_usual_socket_is_the_default(home, monkeypatch):
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    assert engine._address(home) == "unix:///var/run/docker.sock"


def test_docker_host_is_used(home, monkeypatch):
    monkeypatch.setenv("DOCKER_HOST", "unix:///run/other.sock")
    assert engine._address(home) == "unix:///run/other.sock"


def test_the_sandboxs_inner_engine_is_not_used(home, monkeypatch):
    home.write_target({"DOCKER_HOST": "unix:///run/inner.sock"})
    monkeypatch.setenv("DOCKER_HOST", "unix:///run/inner.sock")
    assert engine._address(home) == "unix:///var/run/docker.sock"


def test_a_missing_engine_is_reported_with_the_remedy(home, no_engine, monkeypatch, tmp_path):
    monkeypatch.setattr(engine, "SOCKET", tmp_path / "docker.sock")
    with pytest.raises(PreflightFailed, match="The Docker engine does not answer") as caught:
        engine.find(home)
    assert "--install" in caught.value.next


def test_a_forbidden_socket_is_reported_with_the_remedy(home, no_engine, monkeypatch, tmp_path):
    socket = tmp_path / "docker.sock"
    socket.touch()
    monkeypatch.setattr(engine, "SOCKET", socket)
    monkeypatch.setattr(engine.os, "access", lambda *_: False)
    with pytest.raises(PreflightFailed, match="This user may not use Docker") as caught:
        engine.ensure(home, print)
    assert "usermod -aG docker" in caught.value.next


def test_a_local_root_engine_is_accepted():
    engine._require_linux_root(LINUX)


@pytest.mark.parametrize(
    ("change", "observed"),
    [
        ({"SecurityOptions": ["name=seccomp", "name=rootless"]}, "a rootless engine"),
        ({"OperatingSystem": "Docker Desktop"}, "Docker Desktop"),
        ({"OSType": "windows", "OperatingSystem": "Windows Server"}, "Windows Server"),
    ],
)
def test_an_engine_with_unreachable_machines_is_refused(change, observed):
    with pytest.raises(PreflightFailed) as caught:
        engine._require_linux_root(LINUX | change)
    assert caught.value.observed == observed


def test_a_user_without_root_must_ask_for_the_installation(monkeypatch):
    monkeypatch.setattr(engine.os, "geteuid", lambda: 1000)
    monkeypatch.setattr(engine.shutil, "which", lambda *_, **__: None)
    with pytest.raises(PreflightFailed, match="may not install it"):
        engine._as_root()


def test_an_engine_started_elsewhere_is_not_stopped(home, monkeypatch):
    monkeypatch.setattr(engine.process, "run", lambda *_: pytest.fail("stopped it"))
    engine.stop(home)
