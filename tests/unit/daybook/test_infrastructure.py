"""Variables and checks of terraform/environment, and the resources that a plan may change."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from daybook import infrastructure, settings
from daybook.aws import images
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


def test_resources_of_the_environment_and_untagged_ones_pass():
    record = Change("create", "aws_route53_record.this", name="staging.daybook.test")
    renamed = Change("update", "aws_vpc.this", name="by hand", environment="staging")
    own = plan(OWN, record, renamed)
    assert infrastructure.require_own(STAGING, own) is own


@pytest.mark.parametrize(
    "foreign",
    [
        Change("destroy", "aws_vpc.this", name="hello-production", environment="production"),
        Change("update", "aws_vpc.this", name="hello-staging", environment="production"),
        Change("create", "aws_vpc.this", name="other-staging", environment="staging"),
    ],
)
def test_resources_of_another_environment_are_refused_by_name(foreign):
    with pytest.raises(PreflightFailed, match=foreign.name) as caught:
        infrastructure.require_own(STAGING, plan(OWN, foreign))
    assert caught.value.exit_code == 3
    assert foreign.address in str(caught.value)


def test_the_name_and_tag_of_an_existing_resource_are_those_before_the_change(tmp_path):
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
    updated, created = read_plan(shown, tmp_path / "plan", "staging", {}).changes
    assert (updated.name, updated.environment) == ("hello-production", "production")
    assert (created.name, created.environment) == ("hello-staging", "staging")


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
def test_the_locked_provider_is_supported(folder):
    check = infrastructure.provider_is_locked(ROOT, folder)("AWS provider")
    assert check.is_ok
    assert check.observed.startswith("5.")


@pytest.mark.parametrize("version", ["5.99.1", "6.0.0", "4.67.0"])
def test_other_provider_versions_are_refused(tmp_path, version):
    folder = tmp_path / "terraform/environment"
    folder.mkdir(parents=True)
    (folder / ".terraform.lock.hcl").write_text(f'provider "aws" {{\n  version = "{version}"\n}}\n')
    check = infrastructure.provider_is_locked(tmp_path, "environment")("AWS provider")
    assert (check.is_ok, check.observed) == (False, version)


def test_the_default_security_group_is_identified_by_its_tag(tmp_path):
    tags = {"environment": "staging", "Name": "hello-staging-default"}
    change = {"actions": ["delete"], "before": {"name": "default", "tags_all": tags}, "after": None}
    address = "aws_default_security_group.this"
    resource = {"address": address, "type": "aws_default_security_group", "change": change}
    (tmp_path / "plan").touch()
    own = read_plan({"resource_changes": [resource]}, tmp_path / "plan", "staging", {})
    assert infrastructure.require_own(STAGING, own) is own


def variables(monkeypatch) -> dict[str, object]:
    monkeypatch.setattr(Environment, "team_keys", lambda _environment: ["ssh-ed25519 AAAA ann"])
    return infrastructure.variables(STAGING)


def test_every_variable_of_terraform_is_set_and_no_other(monkeypatch):
    """Terraform silently ignores TF_VAR_ variables that are not declared."""
    text = (ROOT / "terraform/environment/variables.tf").read_text()
    assert set(re.findall(r'^variable "(\w+)"', text, re.M)) == set(variables(monkeypatch))


def test_no_variable_has_a_second_default():
    assert "default" not in (ROOT / "terraform/environment/variables.tf").read_text()


def test_variables_are_named_like_their_settings(monkeypatch):
    values, source = variables(monkeypatch), STAGING.settings
    assert values["domains"] == list(source.domains)
    assert values["dns_zone"] == source.dns_zone
    assert values["vpc_cidr"] == str(source.vpc_cidr)
    assert values["ssh_allowed_cidrs"] == [str(cidr) for cidr in source.ssh_allowed_cidrs]
    assert values["deletion_protection"] is source.deletion_protection
    assert values["debian_images"] == {"owner": images.DEBIAN, "names": list(images.NAMES)}
