"""The store of an environment's secrets, and the check for missing ones."""

from __future__ import annotations

from pathlib import Path

import boto3
import pytest
from botocore.exceptions import ClientError
from moto import mock_aws

from daybook import checks, secrets
from daybook.environment import Environment
from daybook.errors import CommandFailed, SettingsError
from daybook.settings import Settings
from daybook.target import Target

REGION = "us-east-1"
TARGET = Target("sandbox", "123456789012", REGION, {})
SETTINGS = {
    "app": "hello",
    "account": "sandbox",
    "dns_zone": "daybook.test",
    "domains": ["staging.daybook.test"],
    "vpc_cidr": "10.20.0.0/16",
    "ssh_allowed_cidrs": ["203.0.113.7/32"],
}


def environment(name: str = "staging", **changes: object) -> Environment:
    return Environment(name, Path(), Settings(**SETTINGS | changes), TARGET)


@pytest.fixture
def store():
    with mock_aws():
        yield secrets.Store(environment())


@pytest.fixture
def ssm(store):
    return boto3.client("ssm", region_name=REGION)


def test_a_value_is_an_encrypted_parameter_under_the_environments_path(store, ssm):
    store.put("TOKEN", "s3cret", "Ann; run-1")
    parameter = ssm.get_parameter(Name="/hello/staging/TOKEN", WithDecryption=True)["Parameter"]
    assert (parameter["Type"], parameter["Value"]) == ("SecureString", "s3cret")
    tags = ssm.list_tags_for_resource(ResourceType="Parameter", ResourceId="/hello/staging/TOKEN")
    assert {tag["Key"]: tag["Value"] for tag in tags["TagList"]} == {
        "app": "hello",
        "environment": "staging",
        "managed_by": "daybook",
    }


def test_each_put_creates_a_version(store):
    assert [store.put("TOKEN", value, f"Ann; {value}") for value in ("one", "two")] == [1, 2]
    newest, oldest = store.history("TOKEN")
    assert (newest.number, newest.note, oldest.number) == (2, "Ann; two", 1)
    assert newest.author == "Ann\ntwo"
    assert store.current()["TOKEN"] == newest
    assert store.history("OTHER") == ()


def test_one_version_is_retired(store):
    for value in ("one", "two", "three"):
        store.put("TOKEN", value, "Ann")
    for number in (1, 2, 1):
        store.retire("TOKEN", number)
    retired = {each.number: each.is_retired for each in store.history("TOKEN")}
    assert retired == {3: False, 2: True, 1: True}


def test_secrets_of_another_environment_are_not_listed(store):
    for env in ("staging2", "stagin"):
        secrets.Store(environment(env)).put("TOKEN", "s3cret", "")
    assert (store.current(), store.values()) == ({}, {})


def test_more_secrets_than_one_page(store):
    names = [f"NAME_{number:02}" for number in range(55)]
    for name in names:
        store.put(name, name.lower(), "")
    assert list(store.current()) == names
    assert store.values() == {name: name.lower() for name in names}


def test_holds_compares_the_value(store):
    store.put("TOKEN", "s3cret", "")
    assert store.holds("TOKEN", "s3cret")
    assert not store.holds("TOKEN", "other")
    assert not store.holds("NONE", "s3cret")


def test_a_value_can_be_set_without_read_permission(store, monkeypatch):
    monkeypatch.setattr(store._ssm, "get_parameter", refusing("AccessDeniedException"))
    assert not store.holds("TOKEN", "s3cret")
    monkeypatch.setattr(store._ssm, "get_parameter", refusing("ThrottlingException"))
    with pytest.raises(CommandFailed, match="ssm:GetParameter"):
        store.holds("TOKEN", "s3cret")


def test_deleting_removes_the_history(store):
    store.put("TOKEN", "s3cret", "")
    assert store.delete("TOKEN")
    assert not store.delete("TOKEN")
    assert store.history("TOKEN") == ()


def test_an_error_message_from_aws_is_not_repeated(store, monkeypatch):
    said = "Value 's3cret' at 'value' failed to satisfy constraint"
    monkeypatch.setattr(store._ssm, "put_parameter", refusing("ValidationException", said))
    with pytest.raises(CommandFailed, match="ValidationException") as caught:
        store.put("TOKEN", "s3cret", "")
    assert "s3cret" not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("x", None),
        ("é" * 2048, None),
        ("", "is empty"),
        (" \n", "is empty"),
        ("a\0b", "contains a NUL character, which an environment variable cannot"),
        ("é" * 2049, "has 4098 bytes; Parameter Store allows at most 4096"),
    ],
)
def test_an_invalid_value_is_rejected_before_the_call(value, problem):
    assert secrets.problem_of(value) == problem


@pytest.mark.parametrize("name", ["MISSING", "EXTRA", "both", "fine"])
def test_missing_and_undeclared_secrets_are_named(store, name):
    declared = {"TOKEN": "lets the shop send mail"}
    store.put("TOKEN", "s3cret", "")
    if name in ("MISSING", "both"):
        declared["MISSING"] = "what nobody has set"
    if name in ("EXTRA", "both"):
        store.put("EXTRA", "s3cret", "")
    answer = checks.secrets_are_set(environment(secrets=declared))("secrets")
    assert answer.is_ok is (name == "fine")
    assert ("MISSING has no value" in answer.observed) is (name in ("MISSING", "both"))
    assert ("EXTRA is not declared" in answer.observed) is (name in ("EXTRA", "both"))
    assert ("daybook secrets set MISSING -e staging" in answer.fix) is (name in ("MISSING", "both"))


def test_the_remedy_in_a_rehearsal_targets_the_rehearsal(store):
    declared = {"TOKEN": "lets the shop mail"}
    rehearsal = environment(account="210987654321", secrets=declared)
    answer = checks.secrets_are_set(rehearsal)("secrets")
    assert answer.fix == "daybook secrets set TOKEN -e staging --rehearse"


def refusing(code: str, message: str = ""):
    def call(**_wishes):
        raise ClientError({"Error": {"Code": code, "Message": message}}, "Call")

    return call


@pytest.mark.attack("F13", "a secret's name is a path, an option or two lines")
@pytest.mark.parametrize("name", ["$(id)", "A\nB", "../x", "--x", "", "a", "A" * 65])
def test_an_invalid_name_is_rejected_before_the_call(name):
    store = secrets.Store.__new__(secrets.Store)
    store.path = "/shop/staging"
    for ask in (store.history, store.delete, lambda each: store.put(each, "x", "note")):
        with pytest.raises(SettingsError):
            ask(name)
    with pytest.raises(SettingsError, match="name of a secret is invalid"):
        store.put("LD_PRELOAD", "x", "note")


def test_a_failure_to_tag_reports_that_the_value_was_set(store, monkeypatch):
    monkeypatch.setattr(store._ssm, "add_tags_to_resource", refusing("ThrottlingException"))
    with pytest.raises(CommandFailed) as caught:
        store.put("TOKEN", "s3cret", "")
    assert caught.value.changed == "TOKEN was set, but not tagged."
    assert store.values() == {"TOKEN": "s3cret"}
