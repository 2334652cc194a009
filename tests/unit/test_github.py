"""What is asked of GitHub, and what its answers become."""

from __future__ import annotations

from types import SimpleNamespace

import httpx
import pytest

from daybook import github
from daybook.errors import CommandFailed, PreflightFailed
from daybook.settings import GitHub
from daybook.target import Target

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
    """Return what is answered to each call; a call that is not there fails the test."""
    found: dict[tuple[str, str], httpx.Response] = {}

    def request(method, url, *, headers, **_options):
        assert headers["Authorization"] == "Bearer s3cret"
        return found[method, url.removeprefix(f"{URL}/")]

    monkeypatch.setattr(github.httpx, "request", request)
    return found


def test_a_runner_is_seen_registered_and_removed(answers):
    answers["GET", "runners"] = httpx.Response(200, json={"runners": [RUNNER]})
    answers["POST", "runners/registration-token"] = httpx.Response(201, json={"token": "A1"})
    answers["DELETE", "runners/7"] = httpx.Response(204)
    (found,) = HERE.runners()
    labels = ("self-hosted", "staging")
    assert found == github.Runner(7, "hello-staging-1", "online", False, labels)
    assert HERE.registration_token() == "A1"
    HERE.remove(found)


def test_nobody_sees_the_token():
    assert "s3cret" not in repr(HERE)


@pytest.mark.parametrize(
    ("code", "next"), [(401, "daybook github token staging"), (403, "Administration"), (404, "")]
)
def test_a_refusal_says_what_to_do(answers, code, next):
    answers["GET", "runners"] = httpx.Response(code, json={"message": "s3cret"})
    with pytest.raises(CommandFailed, match=f"HTTP {code}") as caught:
        HERE.runners()
    assert next in caught.value.next
    assert "s3cret" not in str(caught.value)


def test_a_github_that_does_not_answer_is_told(monkeypatch):
    def refuse(*_args, **_options):
        raise httpx.ConnectError("refused")

    monkeypatch.setattr(github.httpx, "request", refuse)
    with pytest.raises(CommandFailed, match="does not answer: ConnectError"):
        HERE.runners()


def test_without_a_token_in_the_store_the_next_step_is_named(monkeypatch):
    class ParameterNotFound(Exception):
        pass

    def get_parameter(*, Name, WithDecryption):
        assert (Name, WithDecryption) == ("/hello/github/staging/token", True)
        raise ParameterNotFound

    exceptions = SimpleNamespace(ParameterNotFound=ParameterNotFound)
    ssm = SimpleNamespace(get_parameter=get_parameter, exceptions=exceptions)
    monkeypatch.setattr(github.aws, "client", lambda *_: ssm)
    chosen = SimpleNamespace(app="hello", github=GitHub(repository="octo-org@1/hello@2"))
    with pytest.raises(PreflightFailed, match="no token for octo-org/hello") as caught:
        github.repository(Target("aws", "1", "r", {}), "staging", chosen)
    assert caught.value.next == "daybook github token staging"
