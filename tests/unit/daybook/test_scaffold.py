"""A new environment: its files, network and name."""

from __future__ import annotations

from ipaddress import IPv4Network
from pathlib import Path

import pytest
import yaml

from daybook.errors import SettingsError
from daybook.settings import scaffold

STAGING = """\
# The settings of staging. For staging's own people, not for staging-2.
app: hello
account: sandbox
zone: staging.example.test   # the zone of staging
names:
  - staging.staging.example.test
  - www.staging.example.test

# each its own
cidr: 10.20.0.0/20  # staging's
operators: [203.0.113.7/32]
secrets:
  TOKEN: lets staging send mail
github:
  repository: octo-org/hello
  branch: staging   # staging's own
"""
OWN = {
    "names": ["demo.staging.example.test"],
    "cidr": "10.30.0.0/20",
    "github": {"repository": "octo-org/hello", "branch": "demo"},
}
PLAYBOOK = "---\n- name: Configure the staging hosts\n  vars:\n    hosts_group: staging\n"


@pytest.fixture
def root(tmp_path) -> Path:
    for folder in ("environments", "ansible/group_vars"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "environments/staging.yml").write_text(STAGING)
    (tmp_path / "ansible/staging.yml").write_text(PLAYBOOK)
    (tmp_path / "ansible/group_vars/staging.yml").write_text("app_environment: staging\n")
    return tmp_path


def made(root: Path, name: str = "demo") -> dict[str, str]:
    found = scaffold.files(root, name, "staging")
    return {str(path.relative_to(root)): text for path, text in found.items()}


def test_common_settings_are_copied(root):
    text = made(root)["environments/demo.yml"]
    assert yaml.safe_load(text) == yaml.safe_load(STAGING) | OWN
    assert text.splitlines()[0] == (
        "# The settings of demo. For demo's own people, not for staging-2."
    )
    assert "# each its own\ncidr: 10.30.0.0/20  # demo's\n" in text


@pytest.mark.parametrize(
    "names",
    [
        "names: [a.staging.example.test, b.staging.example.test]  # two\n",
        "names:  # two\n- a.staging.example.test\n- b.staging.example.test\n",
        "names:\n  [a.staging.example.test,\n   b.staging.example.test]\n",
    ],
)
def test_a_list_may_have_any_style(root, names):
    said = yaml.safe_load(STAGING)
    del said["names"]
    (root / "environments/staging.yml").write_text(names + yaml.safe_dump(said))
    text = made(root)["environments/demo.yml"]
    assert yaml.safe_load(text) == said | OWN
    assert ("# two" in text) == ("# two" in names)


def test_playbook_and_group_variables_use_the_new_name(root):
    found = made(root)
    assert found["ansible/demo.yml"] == PLAYBOOK.replace("staging", "demo")
    assert found["ansible/group_vars/demo.yml"] == "app_environment: demo\n"
    assert sorted(path.name for path in root.rglob("demo*")) == []


def test_a_file_missing_in_the_source_is_not_created(root):
    (root / "ansible/group_vars/staging.yml").unlink()
    assert sorted(made(root)) == ["ansible/demo.yml", "environments/demo.yml"]


@pytest.mark.parametrize(
    ("taken", "free"),
    [
        ([], "10.20.0.0/16"),
        (["10.20.0.0/16", "10.30.5.0/24"], "10.40.0.0/16"),
        (["10.16.0.0/12"], "10.40.0.0/16"),
        (["10.0.0.0/9"], "10.130.0.0/16"),
        (["192.168.0.0/16"], "10.20.0.0/16"),
    ],
)
def test_the_first_free_network(taken, free):
    assert str(scaffold.free_network(map(IPv4Network, taken), 16)) == free


def test_no_free_network():
    with pytest.raises(SettingsError, match="no free network"):
        scaffold.free_network([IPv4Network("10.0.0.0/8")], 16)


@pytest.mark.parametrize(
    "name", ["staging", "account", "default", "all", "Demo", "x", "a-b", "../x", "1st", "a" * 21]
)
def test_an_existing_or_invalid_name_is_rejected(root, name):
    with pytest.raises(SettingsError):
        scaffold.files(root, name, "staging")


def test_a_missing_source_is_rejected(root):
    with pytest.raises(SettingsError, match="did you mean staging"):
        scaffold.files(root, "demo", "stagin")


def test_text_read_differently_by_two_parsers_is_copied(root):
    path = root / "environments/staging.yml"
    path.write_bytes(STAGING.replace("app: hello", "app: hello\t# ours").encode("utf-8-sig"))
    assert "app: hello\t# ours" in made(root)["environments/demo.yml"]


@pytest.mark.attack("F12", "a new environment that is not valid, written half")
def test_an_invalid_environment_is_not_created(root):
    zone = ".".join(["a" * 61] * 4) + ".test"
    text = STAGING.replace("  - www.staging.example.test\n", "")
    text = text.replace("staging.staging.example.test", zone)
    (root / "environments/staging.yml").write_text(text.replace("staging.example.test", zone))
    with pytest.raises(SettingsError) as caught:
        made(root)
    [detail] = caught.value.details
    assert "environments/demo.yml:6: domains.0: expected a DNS name" in detail
    assert sorted(path.name for path in root.rglob("demo*")) == []


@pytest.mark.parametrize("raw", [b"\xff", b"x" * 70_000])
def test_a_binary_playbook_is_rejected(root, raw):
    (root / "ansible/staging.yml").write_bytes(raw)
    with pytest.raises(SettingsError, match=r"staging.yml cannot be read"):
        made(root)
