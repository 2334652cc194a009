"""The playbooks and roles keep the shape that Daybook and their readers rely on."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template

ROOT = Path(__file__).resolve().parents[3]
ANSIBLE = ROOT / "ansible"
ROLES = sorted(path for path in (ANSIBLE / "roles").iterdir())
# What lib/daybook/inventory.py writes, and what role release is called with.
INVENTORY = """
staging:
  hosts: {hello-staging-1: {ansible_host: 192.0.2.7, private_ip: 10.20.0.4}}
  vars:
    app_name: hello
    app_names: [staging.daybook.test, www.daybook.test]
    app_port: 8000
    ecr_repository_url: 123456789012.dkr.ecr.us-east-1.amazonaws.com/hello
"""
TASK_KEYWORDS = {
    *("name", "register", "when", "vars", "args", "loop", "loop_control", "notify", "until"),
    *("retries", "delay", "timeout", "changed_when", "failed_when", "check_mode", "environment"),
    *("become", "delegate_to", "run_once", "no_log"),
}


def load(path: Path) -> list | dict:
    return yaml.safe_load(path.read_text())


def tasks(role: Path) -> list[dict]:
    """Return all tasks and handlers of a role."""
    files = [*role.glob("tasks/*.yml"), *role.glob("handlers/*.yml")]
    found = [task for file in files for task in load(file)]
    parts = [part for task in found for name in ("block", "rescue") for part in task.get(name, ())]
    return [task for task in found + parts if "block" not in task]


def ansible(command: str, *args: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run one of Ansible's commands from the root, as a reader of the article would."""
    return subprocess.run(
        [Path(sys.executable).parent / command, *args],
        cwd=ROOT,
        env=os.environ | env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.fixture
def inventory(tmp_path: Path) -> Path:
    path = tmp_path / "staging"
    path.write_text(INVENTORY)
    return path


def render(role: str, template: str, **variables: object) -> str:
    file = ANSIBLE / "roles" / role / "templates" / template
    variables = {"ansible_managed": "Ansible managed", **variables}
    templar = Templar(DataLoader(), variables=variables)
    return templar.template(trust_as_template(file.read_text()))


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_specs_state_each_default_as_it_is(role: Path):
    options = load(role / "meta/argument_specs.yml")["argument_specs"]["main"]["options"]
    defaults_file = role / "defaults/main.yml"
    defaults = load(defaults_file) if defaults_file.exists() else {}
    assert {
        name: spec["default"] for name, spec in options.items() if "default" in spec
    } == defaults
    assert all(spec.get("required") for name, spec in options.items() if name not in defaults)


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_only_builtin_modules(role: Path):
    modules = {key for task in tasks(role) for key in task if key not in TASK_KEYWORDS}
    assert modules
    assert {name for name in modules if not name.startswith("ansible.builtin.")} == set()


def test_the_environments_differ_by_name_only():
    staging, production = (
        (ANSIBLE / f"{name}.yml").read_text() for name in ("staging", "production")
    )
    assert staging.replace("staging", "production") == production
    for name in ("staging", "production"):
        assert load(ANSIBLE / f"group_vars/{name}.yml") == {"app_environment": name}


def test_every_role_is_used():
    plays = load(ANSIBLE / "hosts.yml")
    assert {entry["role"] for play in plays for entry in play["roles"]} == {r.name for r in ROLES}


def test_a_play_of_the_other_environment_touches_no_host(inventory: Path):
    for name, expected in (("staging", 1), ("production", 0)):
        done = ansible("ansible-playbook", "-i", inventory, "--list-hosts", f"ansible/{name}.yml")
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("hello-staging-1") == expected


def test_variables_of_a_host_follow_from_inventory_and_environment(inventory: Path):
    message = "{{ [app_directory, app_environment, aws_account_id, aws_region, caddy_names] }}"
    done = ansible(
        *("ansible", "-i", inventory, "--playbook-dir", "ansible", "staging"),
        *("-m", "ansible.builtin.debug", "-a", f"msg={message}"),
        AWS_ACCOUNT_ID="123456789012",
        AWS_REGION="us-east-1",
    )
    assert done.returncode == 0, done.stderr
    *_, answer = done.stdout.partition("=>")
    names = ["staging.daybook.test", "www.daybook.test"]
    expected = ["/srv/hello", "staging", "123456789012", "us-east-1", names]
    assert yaml.safe_load(answer)["msg"] == expected


def test_caddy_reads_the_sites_and_serves_no_other_name():
    rendered = render("caddy", "Caddyfile.j2", caddy_names=["a.test"], caddy_peers=[])
    assert "acme-challenge" not in rendered
    assert "\nimport /etc/caddy/sites/*.caddy\n" in rendered
    assert "\n\tadmin unix//run/caddy/admin.sock\n" in rendered
    assert 'http:// {\n\trespond "Nothing is served under this name." 421\n}' in rendered


def test_one_of_several_hosts_asks_each_other_about_a_challenge():
    names, peers = ["a.test", "www.a.test"], ["10.20.0.5", "10.20.1.4"]
    rendered = render("caddy", "Caddyfile.j2", caddy_names=names, caddy_peers=peers)
    assert "\nhttp://a.test, http://www.a.test {\n" in rendered
    asked = re.findall(r"reverse_proxy (\S+) \{", rendered)
    assert asked == [f"{peer}:80" for peer in peers]
    assert rendered.count("{") == rendered.count("}")


def test_names_have_certificates_before_the_first_release():
    before = render("caddy", "site.caddy.j2", caddy_names=["a.test", "www.a.test"])
    # Without a scheme: Caddy then serves HTTPS, and leads plain HTTP there.
    assert "\na.test, www.a.test {\n" in before


def test_host_keys_are_checked():
    text = (ROOT / "ansible.cfg").read_text()
    text += "".join(
        path.read_text() for path in ANSIBLE.rglob("*") if path.suffix in (".yml", ".j2")
    )
    assert "host_key_checking" not in text
    assert "StrictHostKeyChecking" not in text


@pytest.mark.parametrize(
    ("suffix", "variable"),
    [("_packages", "tools_role_packages"), ("_services", "services_expected")],
)
def test_what_roles_ask_of_another_role_is_passed_on(suffix: str, variable: str):
    (play,) = load(ANSIBLE / "hosts.yml")
    files = ANSIBLE.glob("roles/*/defaults/main.yml")
    asked = {name for file in files for name in load(file) if name.endswith(suffix)}
    asked -= {"tools_packages", "tools_role_packages"}
    assert asked == set(re.findall(rf"\w+{suffix}", play["vars"][variable]))


def test_the_firewall_is_up_before_what_it_protects_and_whom_it_keeps_out():
    (play,) = load(ANSIBLE / "hosts.yml")
    roles = [entry["role"] for entry in play["roles"]]
    after = ("docker", "caddy", "app", "release", "github_runner")
    assert [role for role in after if roles.index(role) < roles.index("firewall")] == []


def test_the_firewall_lets_only_named_users_through():
    rules = render(
        "firewall",
        "firewall.nft.j2",
        firewall_metadata_users=["metrics"],
        firewall_slot_ports=[9000, 9001],
        firewall_ssh_users=["admin", "ann"],
    )
    by_name = re.findall(r"meta skuid (\{.*?\}|\S+) (.*)", rules)
    assert by_name == [
        ('"caddy"', "tcp dport { 9000, 9001 } accept"),
        ('{ "admin", "ann" }', "tcp dport 22 accept"),
        ('"root"', "accept"),
        ('"metrics"', "ip daddr 169.254.169.254 tcp dport 80 accept"),
        ('"metrics"', "ip6 daddr fd00:ec2::254 tcp dport 80 accept"),
    ]


def test_services_are_looked_at_when_all_is_written_and_then_the_certificates():
    (play,) = load(ANSIBLE / "hosts.yml")
    assert play["roles"][-2:] == [{"role": "services"}, {"role": "certificates"}]
