"""The simulated AWS CLI: the options, queries and exit codes that the scripts in app/ci use."""

from __future__ import annotations

import json

import pytest

from daybook_sandbox.github import awscli

TAGS = "Key=app,Value=hello Key=environment,Value=staging"


@pytest.fixture(autouse=True)
def region(world, monkeypatch):
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")


def aws(line: str) -> int:
    return awscli.main(line.split())


def test_the_registrys_password(capsys):
    assert aws("ecr get-login-password") == 0
    assert capsys.readouterr().out == "123456789012-auth-token\n"


def test_options_and_queries(capsys):
    assert aws(f"ecr create-repository --repository-name hello --tags {TAGS}") == 0
    arn = json.loads(capsys.readouterr().out)["repository"]["repositoryArn"]
    query = "--query repositories[].[repositoryName,registryId] --output text"
    assert aws(f"ecr describe-repositories --repository-names hello {query}") == 0
    assert capsys.readouterr().out == "hello\t123456789012\n"
    assert aws(f"ecr list-tags-for-resource --resource-arn {arn} --query tags[0].Value") == 0
    assert json.loads(capsys.readouterr().out) == "hello"


def test_a_missing_resource_is_a_failure(capsys):
    missing = "ecr describe-images --repository-name none --image-ids imageTag=1"
    assert aws(missing) == awscli.FAILED
    assert "RepositoryNotFoundException" in capsys.readouterr().err


@pytest.mark.parametrize("line", ["ecr", "ecr no-such-call", "ecr describe-images --no-such x"])
def test_unknown_commands_and_options_are_usage_errors(line, capsys):
    assert aws(line) == awscli.USAGE
    assert capsys.readouterr().err.startswith("aws: ")
