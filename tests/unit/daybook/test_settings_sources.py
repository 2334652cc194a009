"""The source of each setting."""

from __future__ import annotations

import pytest

from daybook import settings, settings_sources
from daybook.environment import Environment
from daybook.target import resolve

TEXT = """\
app: hello
account: "123456789012"
dns_zone: daybook.test
domains:
  - staging.daybook.test
  - www.daybook.test
vpc_cidr: 10.20.0.0/16
ssh_allowed_cidrs: []
instance:
  type: t3.large
secrets:
  TOKEN: lets the shop send mail
freezes:
  - {since: 2026-12-20T00:00:00Z, until: 2027-01-02T00:00:00Z, reason: the holidays}
"""


@pytest.fixture
def root(tmp_path):
    (tmp_path / "environments").mkdir()
    (tmp_path / "environments/staging.yml").write_text(TEXT)
    return tmp_path


def found(root, environ, *, rehearse=False):
    chosen = settings.load(root, "staging")
    target = resolve(chosen, root, rehearse=rehearse, environ=environ)
    environment = Environment("staging", root, chosen, target)
    return {each.key: each for each in settings_sources.resolve(environment)}


def test_every_setting_is_listed_once_with_its_source(root):
    said = {key: (each.value, each.origin) for key, each in found(root, {}).items()}
    assert said == {
        "app": ("hello", "environments/staging.yml:1"),
        "account": ("123456789012", "environments/staging.yml:2"),
        "region": ("us-east-1", "default"),
        "dns_zone": ("daybook.test", "environments/staging.yml:3"),
        "domains": ("staging.daybook.test, www.daybook.test", "environments/staging.yml:4"),
        "vpc_cidr": ("10.20.0.0/16", "environments/staging.yml:7"),
        "ssh_allowed_cidrs": ("none", "environments/staging.yml:8"),
        "instance.type": ("t3.large", "environments/staging.yml:10"),
        "instance.disk_gib": ("20", "default"),
        "instance.ami": ("none", "default"),
        "instance.count": ("1", "default"),
        "ssh_key": ("~/.ssh/id_ed25519", "default"),
        "port": ("8000", "default"),
        "secrets.TOKEN": ("lets the shop send mail", "environments/staging.yml:12"),
        "approvals": ("0", "default"),
        "plan_hours": ("24", "default"),
        "require_git": ("any", "default"),
        "git_remote": ("none", "default"),
        "freezes": (
            "2026-12-20T00:00:00+00:00 to 2027-01-02T00:00:00+00:00: the holidays",
            "environments/staging.yml:13",
        ),
        "deletion_protection": ("false", "default"),
        "allow_teardown": ("false", "default"),
        "snapshot_days": ("0", "default"),
        "alarm_email": ("none", "default"),
        "flow_log_days": ("0", "default"),
        "github.repository": ("none", "default"),
        "github.application": ("none", "default"),
        "github.branch": ("main", "default"),
        "github.labels": ("none", "default"),
        "deploy_via": ("none", "default"),
    }


def test_an_overriding_variable_is_named(root):
    key = found(root, {"DAYBOOK_SSH_KEY": "/keys/mine"})["ssh_key"]
    assert (key.value, key.origin) == ("/keys/mine", "$DAYBOOK_SSH_KEY")


def test_the_sandbox_overrides_settings(root):
    (root / ".sandbox").mkdir()
    variables = "AWS_REGION=eu-west-1\nDAYBOOK_SSH_KEY=/sandbox/key\n"
    (root / ".sandbox/target.env").write_text(variables)
    said = found(root, {"DAYBOOK_SSH_KEY": "/keys/mine"}, rehearse=True)
    for key, value in (("region", "eu-west-1"), ("ssh_key", "/sandbox/key")):
        assert (said[key].value, said[key].origin) == (value, ".sandbox/target.env")
