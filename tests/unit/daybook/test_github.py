"""Calls to GitHub's API, and their results."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
from moto import mock_aws

from daybook import github, settings
from daybook.environment import Environment
from daybook.errors import CommandFailed, PreflightFailed
from daybook.settings import GitHub
from daybook.target import Target

ROOT = Path(__file__).parents[3]

URL = "https://api.test/repos/octo-org/hello/actions"
RUNNER = {
    "id": 7,
    "name": "hello-staging-1",
    "status": "online",
    "busy": False,
    "labels": [{"name": "self-hosted"}, {"name": "staging"}],
}
HERE = github.Repository("octo-org/hello", "https://api.test", "staging", "s3cret")


@pytest.fixture
def answers(monkeypatch):
    """Return the answers by call; an unknown call fails the test."""
    found: dict[tuple[str, str], httpx.Response] = {}

    def request(method, url, *, headers, **_options):
        assert headers["Authorization"] == "Bearer s3cret"
        return found[method, url.removeprefix(f"{URL}/")]

    monkeypatch.setattr(github.httpx, "request", request)
    return found


def test_runners_are_listed_registered_and_removed(answers):
    answers["GET", "runners"] = httpx.Response(200, json={"runners": [RUNNER]})
    answers["POST", "runners/registration-token"] = httpx.Response(201, json={"token": "A1"})
    answers["DELETE", "runners/7"] = httpx.Response(204)
    (found,) = HERE.runners()
    labels = ("self-hosted", "staging")
    assert found == github.Runner(7, "hello-staging-1", "online", False, labels)
    assert HERE.registration_token() == "A1"
    HERE.remove(found)


def test_the_token_is_not_shown():
    assert "s3cret" not in repr(HERE)


@pytest.mark.parametrize(
    ("code", "next"), [(401, "daybook github token staging"), (403, "Administration"), (404, "")]
)
def test_a_refusal_has_a_next_action(answers, code, next):
    answers["GET", "runners"] = httpx.Response(code, json={"message": "s3cret"})
    with pytest.raises(CommandFailed, match=f"HTTP {code}") as caught:
        HERE.runners()
    assert next in caught.value.next
    assert "s3cret" not in str(caught.value)


def test_no_answer_is_an_error(monkeypatch):
    def refuse(*_args, **_options):
        raise httpx.ConnectError("refused")

    monkeypatch.setattr(github.httpx, "request", refuse)
    with pytest.raises(CommandFailed, match="does not answer: ConnectError"):
        HERE.runners()


@pytest.fixture
def environment():
    """Yield an environment with an empty parameter store."""
    found = GitHub(repository="octo-org@1/hello@2")
    chosen = settings.load(ROOT, "staging").model_copy(update={"github": found})
    environ = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
    with mock_aws():
        target = Target("aws", "123456789012", "us-east-1", environ)
        yield Environment("staging", ROOT, chosen, target)


def test_a_missing_token_has_a_next_action(environment):
    with pytest.raises(
        PreflightFailed, match="token for octo-org/hello is not in Parameter Store"
    ) as caught:
        github.repository(environment)
    assert caught.value.expected == "/hello/github/staging/token"
    assert caught.value.next == "daybook github token staging"


def test_a_token_is_stored_outside_the_environments_path(environment):
    github.store(environment, github.TOKEN, "s3cret")
    stored = environment.client("ssm").get_parameter(
        Name="/hello/github/staging/token", WithDecryption=True
    )["Parameter"]
    assert (stored["Type"], stored["Value"]) == ("SecureString", "s3cret")
    repository = github.repository(environment)
    assert (repository.path, repository.token) == ("octo-org/hello", "s3cret")
