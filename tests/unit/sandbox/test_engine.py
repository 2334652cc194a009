"""Which Docker engine the sandbox takes, and what it says of those it cannot take."""

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


def test_an_engine_that_was_chosen_is_taken(home, monkeypatch):
    monkeypatch.setenv("DOCKER_HOST", "unix:///run/other.sock")
    assert engine._address(home) == "unix:///run/other.sock"


def test_the_sandboxs_own_inner_engine_is_not_taken(home, monkeypatch):
    home.write_target({"DOCKER_HOST": "unix:///run/inner.sock"})
    monkeypatch.setenv("DOCKER_HOST", "unix:///run/inner.sock")
    assert engine._address(home) == "unix:///var/run/docker.sock"


def test_no_engine_is_told_with_the_way_to_one(home, no_engine, monkeypatch, tmp_path):
    monkeypatch.setattr(engine, "SOCKET", tmp_path / "docker.sock")
    with pytest.raises(PreflightFailed, match="No Docker engine answers") as caught:
        engine.find(home)
    assert "--install" in caught.value.next


def test_a_socket_that_one_may_not_use_is_told_as_such(home, no_engine, monkeypatch, tmp_path):
    socket = tmp_path / "docker.sock"
    socket.touch()
    monkeypatch.setattr(engine, "SOCKET", socket)
    monkeypatch.setattr(engine.os, "access", lambda *_: False)
    with pytest.raises(PreflightFailed, match="this user may not use it") as caught:
        engine.ensure(home, print)
    assert "usermod -aG docker" in caught.value.next


def test_an_engine_of_this_computer_is_good():
    engine._require_linux_root(LINUX)


@pytest.mark.parametrize(
    ("change", "observed"),
    [
        ({"SecurityOptions": ["name=seccomp", "name=rootless"]}, "a rootless engine"),
        ({"OperatingSystem": "Docker Desktop"}, "Docker Desktop"),
        ({"OSType": "windows", "OperatingSystem": "Windows Server"}, "Windows Server"),
    ],
)
def test_an_engine_whose_machines_cannot_be_reached_is_refused(change, observed):
    with pytest.raises(PreflightFailed) as caught:
        engine._require_linux_root(LINUX | change)
    assert caught.value.observed == observed


def test_an_ordinary_user_is_told_who_must_install(monkeypatch):
    monkeypatch.setattr(engine.os, "geteuid", lambda: 1000)
    monkeypatch.setattr(engine.shutil, "which", lambda *_, **__: None)
    with pytest.raises(PreflightFailed, match="may not install one"):
        engine._as_root()


def test_an_engine_that_somebody_else_started_is_not_stopped(home, monkeypatch):
    monkeypatch.setattr(engine.process, "run", lambda *_: pytest.fail("stopped it"))
    engine.stop(home)
