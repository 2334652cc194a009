"""What a step may touch: things with its environment's tag and name, and no others."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from daybook import infrastructure, settings
from daybook.environment import Environment
from daybook.errors import PreflightFailed
from daybook.plan import Change
from daybook.target import Target
from daybook.terraform import SavedPlan
from daybook.terraform.plan import read_plan

ROOT = Path(__file__).parents[3]
TARGET = Target("aws", "123456789012", "us-east-1", {})
STAGING = Environment("staging", ROOT, settings.load(ROOT, "staging"), TARGET)
OWN = Change("create", "aws_instance.host", name="hello-staging-1", environment="staging")


def plan(*changes: Change) -> SavedPlan:
    return SavedPlan("Plan for staging", changes, {})


def test_its_own_things_and_untagged_ones_pass():
    record = Change("create", "aws_route53_record.this", name="staging.daybook.test")
    renamed = Change("update", "aws_vpc.this", name="by hand", environment="staging")
    own = plan(OWN, record, renamed)
    assert infrastructure.require_own(STAGING, own) is own


@pytest.mark.parametrize(
    "stranger",
    [
        Change("destroy", "aws_vpc.this", name="hello-production", environment="production"),
        Change("update", "aws_vpc.this", name="hello-staging", environment="production"),
        Change("create", "aws_vpc.this", name="other-staging", environment="staging"),
    ],
)
def test_another_environments_things_are_refused_by_name(stranger):
    with pytest.raises(PreflightFailed, match=stranger.name) as caught:
        infrastructure.require_own(STAGING, plan(OWN, stranger))
    assert caught.value.exit_code == 3
    assert stranger.address in str(caught.value)


def test_a_plan_knows_whose_things_are_by_what_exists(tmp_path):
    before = {"key_name": "hello-production", "tags_all": {"environment": "production"}}
    after = {"key_name": "hello-staging", "tags_all": {"environment": "staging"}}
    shown = {
        "resource_changes": [
            {
                "address": address,
                "type": "aws_key_pair",
                "change": {"actions": actions, "before": old, "after": after},
            }
            for address, actions, old in (("a", ["update"], before), ("b", ["create"], None))
        ]
    }
    (tmp_path / "plan").touch()
    taken, made = read_plan(shown, tmp_path / "plan", "staging", {}).changes
    assert (taken.name, taken.environment) == ("hello-production", "production")
    assert (made.name, made.environment) == ("hello-staging", "staging")


@pytest.mark.parametrize(
    ("name", "environment"), [("hello-production-1", "staging"), ("hello-staging-1", "production")]
)
def test_hosts_of_another_environment_are_refused(monkeypatch, name, environment):
    outputs = {"instances": [{"name": name}], "environment": environment}
    shown = {key: {"value": value, "sensitive": False} for key, value in outputs.items()}
    monkeypatch.setattr(Environment, "state", lambda _environment: json.dumps({"outputs": shown}))
    with pytest.raises(PreflightFailed, match="belong to another environment"):
        STAGING.outputs()


@pytest.mark.parametrize("folder", ["account", "environment"])
def test_the_locked_provider_is_one_that_works(folder):
    check = infrastructure.provider_is_locked(ROOT, folder)("AWS provider")
    assert check.is_ok
    assert check.observed.startswith("5.")


@pytest.mark.parametrize("version", ["5.99.1", "6.0.0", "4.67.0"])
def test_another_provider_is_refused(tmp_path, version):
    folder = tmp_path / "terraform/environment"
    folder.mkdir(parents=True)
    (folder / ".terraform.lock.hcl").write_text(f'provider "aws" {{\n  version = "{version}"\n}}\n')
    check = infrastructure.provider_is_locked(tmp_path, "environment")("AWS provider")
    assert (check.is_ok, check.observed) == (False, version)


def test_what_aws_itself_names_is_known_by_its_tag(tmp_path):
    tags = {"environment": "staging", "Name": "hello-staging-default"}
    change = {"actions": ["delete"], "before": {"name": "default", "tags_all": tags}, "after": None}
    address = "aws_default_security_group.this"
    resource = {"address": address, "type": "aws_default_security_group", "change": change}
    (tmp_path / "plan").touch()
    own = read_plan({"resource_changes": [resource]}, tmp_path / "plan", "staging", {})
    assert infrastructure.require_own(STAGING, own) is own
