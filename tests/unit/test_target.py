from __future__ import annotations

import os

import pytest

from daybook import settings, target
from daybook.errors import PreflightFailed, SettingsError

MINE = {
    "PATH": "/bin",
    "AWS_PROFILE": "work",
    "AWS_ACCESS_KEY_ID": "mine",
    "AWS_SESSION_TOKEN": "mine",
    "AWS_ENDPOINT_URL_S3": "mine",
}


@pytest.fixture
def chosen():
    return settings.Settings(
        app="hello",
        account="210987654321",
        zone="example.test",
        names=["example.test"],
        cidr="10.20.0.0/16",
        operators=[],
    )


def test_an_account_keeps_the_callers_environment(chosen, tmp_path):
    found = target.resolve(chosen, tmp_path, rehearse=False, environ=MINE)
    assert (found.name, found.title, found.is_up) == ("aws", "AWS 210987654321", True)
    assert found.environ["AWS_PROFILE"] == "work"
    assert found.environ["AWS_REGION"] == "us-east-1"


def test_a_rehearsal_takes_nothing_of_the_callers_aws(chosen, tmp_path):
    (tmp_path / ".sandbox").mkdir()
    (tmp_path / ".sandbox" / "target.env").write_text(
        "AWS_ENDPOINT_URL=http://127.0.0.1:1\nAWS_ACCESS_KEY_ID=made\nAWS_REGION=us-east-1\n"
    )
    found = target.resolve(chosen, tmp_path, rehearse=True, environ=MINE)
    assert (found.title, found.account) == ("REHEARSAL", target.SANDBOX_ACCOUNT)
    assert "mine" not in found.environ.values()
    assert "work" not in found.environ.values()
    assert found.environ["AWS_CONFIG_FILE"] == os.devnull
    assert found.environ["AWS_ENDPOINT_URL"] == "http://127.0.0.1:1"


def test_a_sandbox_that_is_not_up_is_told_from_one_that_is(chosen, tmp_path):
    assert not target.resolve(chosen, tmp_path, rehearse=True, environ=MINE).is_up


VARIABLES = "AWS_REGION=us-east-1\nAWS_ACCESS_KEY_ID=made\n"


def _write(content: bytes):
    return lambda file: file.write_bytes(content)


@pytest.mark.attack("F12", "a target.env that is no file, has no end, or sets what it should not")
@pytest.mark.parametrize(
    "make",
    [
        os.mkfifo,
        lambda file: file.mkdir(),
        lambda file: file.symlink_to("/dev/zero"),
        lambda file: file.symlink_to("target.env"),
        _write(VARIABLES.encode("utf-16")),
        _write(f"{VARIABLES}DAYBOOK_SSH_KEY=a\0b\n".encode()),
        _write(f"{VARIABLES}A\x1bB=x\n".encode()),
        _write(f"{VARIABLES}=x\n".encode()),
        _write(f"{VARIABLES}A B;id=x\n".encode()),
        _write(f"{VARIABLES}export X=y\n".encode()),
        _write(b"A=" + b"x" * 70_000),
        _write(b"\xff=x"),
    ],
)
def test_a_target_that_is_no_list_of_variables_is_one_error(chosen, tmp_path, make):
    (tmp_path / ".sandbox").mkdir()
    make(tmp_path / ".sandbox" / "target.env")
    with pytest.raises(SettingsError, match=r"target\.env cannot be read") as caught:
        target.resolve(chosen, tmp_path, rehearse=True, environ=MINE)
    assert all([caught.value.expected, caught.value.observed, caught.value.next])


def test_a_sandbox_that_is_not_up_is_one_error_everywhere(chosen, tmp_path):
    with pytest.raises(PreflightFailed, match="not up") as caught:
        target.resolve(chosen, tmp_path, rehearse=True, environ=MINE).require_up()
    assert all([caught.value.expected, caught.value.observed, caught.value.next])
