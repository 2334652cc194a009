"""What a step may touch: things with its environment's tag and name, and no others."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from daybook.errors import PreflightFailed
from daybook.steps import infrastructure
from daybook.terraform import Change, Outputs
from daybook.terraform.plan import read_plan

ROOT = Path(__file__).parents[2]
STEP = SimpleNamespace(env="staging", settings=SimpleNamespace(app="hello"), root=ROOT, target=None)
OWN = Change("aws_instance.host", "create", name="hello-staging-1", environment="staging")


def plan(*changes: Change) -> SimpleNamespace:
    return SimpleNamespace(changes=changes)


def test_its_own_things_and_untagged_ones_pass():
    record = Change("aws_route53_record.this", "create", name="staging.daybook.test")
    renamed = Change("aws_vpc.this", "update", name="by hand", environment="staging")
    its = plan(OWN, record, renamed)
    assert infrastructure.require_its_own(STEP, its) is its


@pytest.mark.parametrize(
    "stranger",
    [
        Change("aws_vpc.this", "destroy", name="hello-production", environment="production"),
        Change("aws_vpc.this", "update", name="hello-staging", environment="production"),
        Change("aws_vpc.this", "create", name="other-staging", environment="staging"),
    ],
)
def test_another_environments_things_are_refused_by_name(stranger):
    with pytest.raises(PreflightFailed, match=stranger.name) as caught:
        infrastructure.require_its_own(STEP, plan(OWN, stranger))
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
    found = {"instances": [{"name": name}], "environment": environment}
    shown = {key: {"value": value, "sensitive": False} for key, value in found.items()}
    tool = SimpleNamespace(init=lambda _backend: None, outputs=lambda: Outputs(shown))
    monkeypatch.setattr(infrastructure, "environment_terraform", lambda _step: tool)
    monkeypatch.setattr(infrastructure, "backend", lambda _step: {})
    with pytest.raises(PreflightFailed, match="not its own"):
        infrastructure.outputs(STEP)


@pytest.mark.parametrize("folder", ["account", "environment"])
def test_the_locked_provider_is_one_that_works(folder):
    check = infrastructure.provider_is_locked(STEP, folder)("AWS provider")
    assert check.is_ok
    assert check.observed.startswith("5.")


@pytest.mark.parametrize("version", ["5.99.1", "6.0.0", "4.67.0"])
def test_another_provider_is_refused(tmp_path, version):
    folder = tmp_path / "terraform/environment"
    folder.mkdir(parents=True)
    (folder / ".terraform.lock.hcl").write_text(f'provider "aws" {{\n  version = "{version}"\n}}\n')
    step = SimpleNamespace(root=tmp_path)
    check = infrastructure.provider_is_locked(step, "environment")("AWS provider")
    assert (check.is_ok, check.observed) == (False, version)


def test_what_aws_itself_names_is_known_by_its_tag(tmp_path):
    tags = {"environment": "staging", "Name": "hello-staging-default"}
    change = {"actions": ["delete"], "before": {"name": "default", "tags_all": tags}, "after": None}
    address = "aws_default_security_group.this"
    resource = {"address": address, "type": "aws_default_security_group", "change": change}
    (tmp_path / "plan").touch()
    its = read_plan({"resource_changes": [resource]}, tmp_path / "plan", "staging", {})
    assert infrastructure.require_its_own(STEP, its) is its
