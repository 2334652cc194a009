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
        dns_zone="example.test",
        domains=["example.test"],
        vpc_cidr="10.20.0.0/16",
        ssh_allowed_cidrs=[],
    )


def test_an_account_keeps_the_operators_credentials(chosen, tmp_path):
    found = target.resolve(chosen, tmp_path, rehearse=False, environ=MINE)
    assert (found.name, found.title, found.is_up) == ("aws", "AWS 210987654321", True)
    assert found.environ["AWS_PROFILE"] == "work"
    assert found.environ["AWS_ACCESS_KEY_ID"] == "mine"
    assert found.environ["AWS_REGION"] == "us-east-1"


REACHING = {
    "HTTPS_PROXY": "http://proxy.example:3128",
    "no_proxy": "localhost",
    "SSL_CERT_FILE": "/etc/company.pem",
    "SSH_AUTH_SOCK": "/run/agent",
    "DOCKER_HOST": "unix:///run/user/1000/docker.sock",
    "TF_CLI_CONFIG_FILE": "/etc/terraform.rc",
    "TF_TOKEN_registry_example": "secret",
    "LC_ALL": "C.UTF-8",
    "DAYBOOK_SSH_KEY": "/keys/mine",
}
STEERING = (
    *("TF_CLI_ARGS", "TF_CLI_ARGS_plan", "TF_VAR_operators", "TF_WORKSPACE", "TF_DATA_DIR"),
    *("TF_REATTACH_PROVIDERS", "TF_LOG", "TF_LOG_PATH", "TF_LOG_PROVIDER", "TF_INPUT"),
    *("TF_PLUGIN_CACHE_MAY_BREAK_DEPENDENCY_LOCK_FILE", "TF_TEMP_LOG_PATH", "TF_ENCRYPTION"),
    *("ANSIBLE_CONFIG", "ANSIBLE_VARS_PLUGINS", "ANSIBLE_RUN_TAGS", "ANSIBLE_HOME"),
    *("GIT_DIR", "GIT_CONFIG_COUNT", "GIT_SSH_COMMAND", "GIT_EXEC_PATH", "XDG_CONFIG_HOME"),
    *("PYTHONPATH", "PYTHONSTARTUP", "PYTHONHOME", "LD_PRELOAD", "DYLD_INSERT_LIBRARIES"),
    *("BASH_ENV", "ENV", "GODEBUG", "SSH_ASKPASS", "COMPOSE_FILE", "BUILDKIT_PROGRESS"),
    *("GITHUB_SERVER_URL", "GITHUB_API_URL", "GITHUB_TOKEN", "RUNNER_TOKEN"),
    *("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_SSM", "AWS_EC2_METADATA_SERVICE_ENDPOINT"),
)
ONLY_IN_AN_ACCOUNT = ("DAYBOOK_NAMESERVER", "DAYBOOK_CA_FILE", "DAYBOOK_RUNNER_SHA256")


@pytest.mark.parametrize("rehearse", [False, True])
@pytest.mark.attack("A1", "a variable of the operator's changes what a tool does")
def test_tools_get_connection_variables_but_none_that_change_their_effect(
    chosen, tmp_path, rehearse
):
    given = REACHING | dict.fromkeys((*STEERING, *ONLY_IN_AN_ACCOUNT), "evil") | {"PATH": "/bin"}
    found = target.resolve(chosen, tmp_path, rehearse=rehearse, environ=given).environ
    assert REACHING.items() <= found.items()
    left = {name for name, value in found.items() if value == "evil"}
    assert left == (set(ONLY_IN_AN_ACCOUNT) if rehearse else set())


@pytest.mark.attack("A1", "an endpoint of ~/.aws/config takes the place of AWS")
def test_an_account_ignores_endpoints_in_a_configuration_file(chosen, tmp_path):
    found = target.resolve(chosen, tmp_path, rehearse=False, environ=MINE)
    assert found.environ["AWS_IGNORE_CONFIGURED_ENDPOINT_URLS"] == "true"
    assert not [name for name in found.environ if name.startswith("AWS_ENDPOINT")]


def test_a_rehearsal_ignores_the_operators_aws_variables(chosen, tmp_path):
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


def test_is_up_tells_whether_the_sandbox_is_running(chosen, tmp_path):
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
def test_an_invalid_target_file_is_one_error(chosen, tmp_path, make):
    (tmp_path / ".sandbox").mkdir()
    make(tmp_path / ".sandbox" / "target.env")
    with pytest.raises(SettingsError, match=r"target\.env is invalid") as caught:
        target.resolve(chosen, tmp_path, rehearse=True, environ=MINE)
    assert all([caught.value.expected, caught.value.observed, caught.value.next])


def test_a_stopped_sandbox_is_one_error_everywhere(chosen, tmp_path):
    with pytest.raises(PreflightFailed, match="sandbox is not running") as caught:
        target.resolve(chosen, tmp_path, rehearse=True, environ=MINE).require_up()
    assert all([caught.value.expected, caught.value.observed, caught.value.next])
