"""The set-up that runs before there is an environment."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import subprocess
import urllib.error
import zipfile
from pathlib import Path

import pytest

PATH = Path(__file__).parents[3] / "tools/setup.py"


@pytest.fixture
def setup(tmp_path, monkeypatch):
    """Return the module, pointed at an empty project in a home without a Terraform of its own."""
    spec = importlib.util.spec_from_file_location("daybook_setup", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setattr(module, "VENV", tmp_path / ".venv")
    monkeypatch.setattr(module, "TERRAFORM_RC", tmp_path / ".cache/terraform.rc")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("TF_CLI_CONFIG_FILE", raising=False)
    return module


def mirror(folder: Path) -> Path:
    (folder / "registry.terraform.io").mkdir(parents=True)
    return folder


def release(content: bytes = b"#!/bin/sh\necho terraform\n") -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("terraform", content)
    return file.getvalue()


def test_uses_the_standard_library_alone():
    done = subprocess.run(
        ["python3", "-I", "-S", "-c", f"import runpy; runpy.run_path({str(PATH)!r})"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("version", "supported"),
    [("1.10.5", False), ("1.11.0", True), ("1.15.1", True), ("2.0.0", False), ("0.0.0", False)],
)
def test_supports_terraform_from_1_11_up_to_2(setup, version, supported):
    assert setup.is_supported(version) is supported


def test_unpacks_a_release_with_the_right_checksum(setup, tmp_path):
    data = release()
    setup.unpack_terraform(data, hashlib.sha256(data).hexdigest(), tmp_path)
    assert subprocess.check_output([tmp_path / "terraform"]) == b"terraform\n"


def test_refuses_a_release_with_another_checksum(setup, tmp_path):
    with pytest.raises(SystemExit, match="wrong checksum: expected 00, saw"):
        setup.unpack_terraform(release(), "00", tmp_path)
    assert not (tmp_path / "terraform").exists()


def test_takes_providers_from_a_mirror_where_the_registry_does_not_answer(
    setup, tmp_path, monkeypatch
):
    folder = mirror(tmp_path / 'mir"ror')
    monkeypatch.setattr(setup, "registry_answers", lambda: False)
    monkeypatch.setattr(setup, "mirror_folders", lambda env: [tmp_path / "none", folder])
    setup.provide_mirror()
    assert f'path = "{tmp_path}/mir\\"ror"' in setup.TERRAFORM_RC.read_text()


def test_leaves_terraform_alone_where_the_registry_answers(setup, tmp_path, monkeypatch):
    monkeypatch.setattr(setup, "registry_answers", lambda: True)
    monkeypatch.setattr(setup, "mirror_folders", lambda env: [mirror(tmp_path / "mirror")])
    setup.provide_mirror()
    assert not setup.TERRAFORM_RC.exists()


def test_leaves_a_configuration_of_the_users_own_in_force(setup, tmp_path, monkeypatch):
    (tmp_path / "home").mkdir()
    (tmp_path / "home/.terraformrc").write_text("")
    monkeypatch.setattr(setup, "mirror_folders", lambda env: [mirror(tmp_path / "mirror")])
    setup.provide_mirror()
    assert not setup.TERRAFORM_RC.exists()


def test_a_registry_that_hangs_or_refuses_does_not_answer(setup, monkeypatch):
    for problem in (TimeoutError(), urllib.error.URLError("refused")):

        def fail(*args, problem=problem, **kwargs):
            raise problem

        monkeypatch.setattr(setup.urllib.request, "urlopen", fail)
        assert setup.registry_answers() is False


def test_looks_for_mirrors_in_terraforms_own_folders_first(setup):
    folders = setup.mirror_folders({"HOME": "/home/ann"})
    assert folders[0] == Path("/home/ann/.terraform.d/plugins")
    assert Path("/usr/share/terraform/plugins") in folders
    assert folders.index(Path("/usr/local/share/terraform/plugins")) < folders.index(Path("/opt"))


def test_without_apt_says_what_is_missing(setup, monkeypatch):
    monkeypatch.setattr(setup.shutil, "which", lambda name: None)
    with pytest.raises(SystemExit, match="Missing on this machine: git openssh-client"):
        setup.install_packages(["git", "openssh-client"])


def test_without_root_or_sudo_says_what_to_run(setup, monkeypatch):
    monkeypatch.setattr(setup.os, "geteuid", lambda: 1000)
    monkeypatch.setattr(setup.shutil, "which", lambda name: name if name == "apt-get" else None)
    with pytest.raises(SystemExit, match="Run: sudo apt-get install python3-venv"):
        setup.install_packages(["python3-venv"])


def test_makes_the_environment_again_only_when_its_inputs_change(setup, tmp_path, monkeypatch):
    commands = []

    def run(command):
        commands.append(command)
        (tmp_path / ".venv/bin").mkdir(parents=True, exist_ok=True)
        (tmp_path / ".venv/bin/python").touch()

    monkeypatch.setattr(setup, "run", run)
    for name in ("requirements.lock", "pyproject.toml"):
        (tmp_path / name).write_text("one")
    setup.make_environment()
    first = len(commands)
    setup.make_environment()
    assert (first, len(commands)) == (3, 3)
    assert "--require-hashes" in commands[1]

    (tmp_path / ".venv/etc/jupyter/jupyter_server_config.py").unlink()
    (tmp_path / "requirements.lock").write_text("two")
    setup.make_environment()
    assert len(commands) == 6
