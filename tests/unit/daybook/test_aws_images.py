"""Debian's images, against moto in this process."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import boto3
import pytest
from moto import mock_aws
from moto.backends import get_backend
from moto.ec2.models import amis

from daybook import settings, ui
from daybook.aws import images
from daybook.environment import Environment
from daybook.steps.ami import Ami
from daybook.target import Target

ROOT = Path(__file__).parents[3]
REGION = "us-east-1"
ENVIRON = {"AWS_ACCESS_KEY_ID": "AKIA", "AWS_SECRET_ACCESS_KEY": "secret"}
TARGET = Target("aws", "123456789012", REGION, ENVIRON)


@pytest.fixture
def ec2():
    with mock_aws():
        # A test of the sandbox may have configured moto with other images.
        get_backend("ec2")[TARGET.account][REGION].amis.clear()
        yield boto3.client("ec2", region_name=REGION)


def publish(day: str, arch: str = "x86_64") -> str:
    """Publish an image as Debian, `20250814`; return its id."""
    id = f"ami-{day}{len(arch):09}"
    name = f"debian-13-{'arm64' if arch == 'arm64' else 'amd64'}-{day}"
    backend = get_backend("ec2")[TARGET.account][REGION]
    backend.amis[id] = amis.Ami(
        backend,
        id,
        name=name,
        owner_id=images.DEBIAN,
        public=True,
        virtualization_type="hvm",
        architecture=arch,
        creation_date=datetime.strptime(day, "%Y%m%d").replace(tzinfo=UTC),
    )
    return id


def run(ec2, image: str) -> str:
    made = ec2.run_instances(ImageId=image, MinCount=1, MaxCount=1, InstanceType="t3.small")
    return made["Instances"][0]["InstanceId"]


def test_newest_matches_the_architecture_of_the_type(ec2):
    intel, arm = publish("20250814"), publish("20251001", "arm64")
    assert images.newest(TARGET, "t3.small").id == intel
    assert images.newest(TARGET, "t4g.small").id == arm
    publish("20250701")
    assert images.newest(TARGET, "t3.small").id == intel


def test_newest_is_none_without_images_from_debian(ec2):
    assert images.newest(TARGET, "t3.small") is None


def test_a_deleted_image_sorts_before_all_others(ec2):
    first, second = publish("20250814"), publish("20251001")
    hosts = [run(ec2, first), run(ec2, second)]
    del get_backend("ec2")[TARGET.account][REGION].amis[first]
    found = images.of_instances(TARGET, hosts)
    assert [found[host].id for host in hosts] == [first, second]
    assert found[hosts[0]] < found[hosts[1]] == images.newest(TARGET, "t3.small")


@pytest.fixture
def step(ec2, monkeypatch):
    """Return the step for one host, without a run."""
    step = object.__new__(Ami)
    step._environment = Environment("staging", ROOT, settings.load(ROOT, "staging"), TARGET)
    step.run = SimpleNamespace(title="ami staging")
    host = {"id": run(ec2, publish("20250814")), "name": "hello-staging-1"}
    monkeypatch.setattr(step, "outputs", lambda: {"instances": [host]})
    return step


def test_a_host_with_the_newest_image_needs_no_change(step):
    step._plan = step.make_plan()
    assert step._plan.is_empty
    assert "run Debian's newest" in ui.text(step.look())


def test_a_newer_image_is_shown_with_the_setting_that_pins_it(step, monkeypatch):
    newer = images.Image("2999-01-01", "ami-0new", "debian-13-amd64-29990101")
    monkeypatch.setattr(images, "newest", lambda *_: newer)
    step._plan = step.make_plan()
    assert [change.address for change in step._plan.changes] == ["hello-staging-1"]
    said = ui.text(step.look())
    assert "In environments/staging.yml, under instance:" in said
    assert "ami: ami-0new" in said
