"""The playbooks and roles keep the structure that Daybook and their readers rely on."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template
from jinja2 import Environment, meta, nodes

ROOT = Path(__file__).resolve().parents[3]
ANSIBLE = ROOT / "ansible"
ROLES = sorted(path for path in (ANSIBLE / "roles").iterdir())
# As lib/daybook/hosts/inventory.py writes it.
INVENTORY = """
staging:
  hosts:
    hello-staging-1: {ansible_host: 192.0.2.7, private_ip: 10.20.0.4}
    hello-staging-2: {ansible_host: 192.0.2.8, private_ip: 10.20.1.4}
  vars:
    ansible_user: admin
    app_name: hello
    app_domains: [staging.daybook.test, www.daybook.test]
    app_image_repository: 123456789012.dkr.ecr.us-east-1.amazonaws.com/hello
    app_port: 8000
    metrics_namespace: hello/staging
"""
AWS = {"AWS_ACCOUNT_ID": "123456789012", "AWS_REGION": "us-east-1"}
TASK_KEYWORDS = {
    *("name", "register", "when", "vars", "args", "loop", "loop_control", "notify", "until"),
    *("retries", "delay", "timeout", "changed_when", "failed_when", "check_mode", "environment"),
    *("become", "delegate_to", "run_once", "no_log", "block", "rescue"),
}
EXPRESSIONS = ("when", "until", "changed_when", "failed_when", "that")
"""Keys whose values are Jinja expressions without braces."""
MAGIC = {
    *("ansible_check_mode", "ansible_facts", "ansible_managed", "ansible_play_role_names"),
    *("ansible_playbook_python", "ansible_user", "inventory_hostname", "role_path"),
    *("item", "lookup", "query"),
}
"""Variables and functions of Ansible itself."""
OF_OTHER_ROLES = {"base_play_packages", "restart_stale_units"}
"""Tested with `is not defined`: the play may lack the role that defines them."""


def load(path: Path) -> list | dict:
    return yaml.safe_load(path.read_text()) if path.exists() else {}


def tasks(role: Path) -> Iterator[dict]:
    """Yield all tasks and handlers of a role, those in blocks included."""
    for file in [*role.glob("tasks/*.yml"), *role.glob("handlers/*.yml")]:
        for task in load(file):
            yield task
            for key in ("block", "rescue"):
                yield from task.get(key, ())


def expressions(value: object, key: str = "") -> Iterator[str]:
    """Yield each text of a YAML value as a Jinja template."""
    if isinstance(value, dict):
        for name, part in value.items():
            yield from expressions(part, name)
    elif isinstance(value, list):
        for part in value:
            yield from expressions(part, key)
    elif isinstance(value, str):
        yield f"{{{{ {value} }}}}" if key in EXPRESSIONS else value


def used_variables(role: Path) -> set[str]:
    """Return the variables that a role's tasks, handlers, templates, defaults and vars use."""
    files = [role / "defaults/main.yml", role / "vars/main.yml"]
    texts = [path.read_text() for path in role.glob("templates/*")]
    for value in (*tasks(role), *map(load, files)):
        texts += expressions(value)
    jinja = Environment()
    trees = [jinja.parse(text) for text in texts]
    for tree in trees:
        # Jinja refuses filters and tests that it does not know: those of Ansible.
        jinja.filters.update((node.name, str) for node in tree.find_all(nodes.Filter))
        jinja.tests.update((node.name, bool) for node in tree.find_all(nodes.Test))
    return set().union(*map(meta.find_undeclared_variables, trees))


def arguments(role: Path) -> dict[str, dict]:
    """Return the options of all entry points of a role."""
    entries = load(role / "meta/argument_specs.yml")["argument_specs"].values()
    return {name: spec for entry in entries for name, spec in entry["options"].items()}


def ansible(
    command: str, *args: str | Path, folder: Path = ROOT, **env: str
) -> subprocess.CompletedProcess[str]:
    """Run a command of Ansible in a folder, by default the project's root."""
    return subprocess.run(
        [Path(sys.executable).parent / command, *args],
        cwd=folder,
        env=os.environ | AWS | env,
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


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Make a project with the real roles, settings and group variables, for playbooks of a test."""
    for name in ("ansible.cfg", "environments", "lib"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "ansible").mkdir()
    for name in ("group_vars", "lookup_plugins", "roles"):
        (tmp_path / "ansible" / name).symlink_to(ANSIBLE / name)
    return tmp_path


def shown(project: Path, inventory: Path, *roles: str, message: str, **variables: object) -> object:
    """Return a message in a play of some roles, none of whose tasks run.

    Ansible validates the arguments of each role, because that task has the tag "always".
    """
    show = {"ansible.builtin.debug": {"msg": message}, "tags": "show"}
    play = {"hosts": "staging", "connection": "local", "gather_facts": False}
    playbook = project / "ansible/play.yml"
    playbook.write_text(yaml.safe_dump([{**play, "roles": list(roles), "tasks": [show]}]))
    options = ("-i", inventory, "--tags", "show", "--limit", "hello-staging-1", playbook)
    options += ("--extra-vars", json.dumps(variables))
    form = {"ANSIBLE_CALLBACK_RESULT_FORMAT": "json"}
    done = ansible("ansible-playbook", *options, folder=project, **form)
    assert done.returncode == 0, done.stdout + done.stderr
    text = done.stdout.rpartition("=> ")[2].partition("\nPLAY RECAP")[0]
    return json.loads(text)["msg"]


def render(role: str, template: str, **variables: object) -> str:
    file = ANSIBLE / "roles" / role / "templates" / template
    defaults = load(ANSIBLE / "roles" / role / "defaults/main.yml")
    variables = {"ansible_managed": "Ansible managed", **defaults, **variables}
    templar = Templar(DataLoader(), variables=variables)
    return templar.template(trust_as_template(file.read_text()))


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_a_roles_variables_are_its_own(role: Path):
    defaults, constants = (load(role / f"{folder}/main.yml") for folder in ("defaults", "vars"))
    registered = {task["register"] for task in tasks(role) if "register" in task}
    local = {name for task in tasks(role) for name in task.get("vars", ())}
    required = {name for name, spec in arguments(role).items() if spec.get("required")}
    known = {*defaults, *constants, *registered, *local, *required}
    assert used_variables(role) - known - MAGIC - OF_OTHER_ROLES == set()
    callees = {"base_package_roles", "restart_stale_roles"}
    assert {name for name in known - callees if not name.startswith(f"{role.name}_")} == set()


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_each_argument_of_a_role_is_required_or_has_its_only_default_in_defaults(role: Path):
    specs = arguments(role)
    optional = {name for name, spec in specs.items() if not spec.get("required")}
    assert optional == set(load(role / "defaults/main.yml"))
    assert [name for name, spec in specs.items() if "default" in spec] == []
    assert [name for name, spec in specs.items() if not spec.get("description")] == []


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_each_default_has_an_effect(role: Path):
    by_convention = {f"{role.name}_packages"}
    assert set(arguments(role)) - used_variables(role) - by_convention == set()


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_a_play_of_one_role_is_valid(project: Path, inventory: Path, role: Path):
    assert shown(project, inventory, role.name, message="valid") == "valid"


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_a_role_alone_installs_its_packages_and_restarts_its_services(role: Path):
    included = {
        (call["name"], call.get("tasks_from", ""), task["when"], json.dumps(task["vars"]))
        for task in tasks(role)
        if (call := task.get("ansible.builtin.include_role"))
    }
    expected = set()
    if role.name != "base" and f"{role.name}_packages" in load(role / "defaults/main.yml"):
        own = json.dumps({"base_package_roles": [role.name]})
        expected.add(("base", "packages", "base_play_packages is not defined", own))
    if f"{role.name}_services" in load(role / "vars/main.yml"):
        own = json.dumps({"restart_stale_roles": [role.name]})
        expected.add(("restart_stale", "", "restart_stale_units is not defined", own))
    assert included == expected


def test_a_play_of_all_roles_installs_all_packages_at_once(project: Path, inventory: Path):
    roles = [role.name for role in ROLES]
    state = {"github_runner_state": "absent"}
    installed = shown(project, inventory, *roles, message="{{ base_play_packages }}", **state)
    packages = {
        package
        for role in ROLES
        for name, packages in load(role / "defaults/main.yml").items()
        if name == f"{role.name}_packages" and isinstance(packages, list)
        for package in packages
    }
    assert {"caddy", "docker.io", "unattended-upgrades"} < packages
    assert sorted(installed) == sorted(packages)


@pytest.mark.parametrize(("state", "is_expected"), [("present", True), ("absent", False)])
def test_only_a_runner_adds_packages_and_a_service(project, inventory, state, is_expected):
    message = "{{ [base_play_packages, restart_stale_units | map(attribute='name')] }}"
    roles = ("base", "github_runner", "restart_stale")
    state = {"github_runner_state": state}
    packages, units = shown(project, inventory, *roles, message=message, **state)
    assert ("sudo" in packages, "github-runner" in units) == (is_expected, is_expected)


def test_services_are_restarted_in_the_order_of_their_roles(project: Path, inventory: Path):
    (play,) = load(ANSIBLE / "hosts.yml")
    roles = [entry["role"] for entry in play["roles"]]
    state = {"github_runner_state": "present"}
    units = shown(project, inventory, *roles, message="{{ restart_stale_units }}", **state)
    assert [unit["name"] for unit in units] == [
        *("systemd-journald", "systemd-sysctl", "systemd-timesyncd", "daybook-swap", "ssh"),
        *("daybook-metrics.timer", "daybook-firewall", "containerd", "docker", "caddy"),
        "github-runner",
    ]
    assert [unit for unit in units if not unit["files"]] == []
    assert {unit.get("state", "restarted") for unit in units} == {"reloaded", "restarted"}


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
    (play,) = load(ANSIBLE / "hosts.yml")
    assert {entry["role"] for entry in play["roles"]} == {role.name for role in ROLES}


def test_a_play_of_the_other_environment_affects_no_host(inventory: Path):
    for name, expected in (("staging", 1), ("production", 0)):
        done = ansible("ansible-playbook", "-i", inventory, "--list-hosts", f"ansible/{name}.yml")
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("hello-staging-1") == expected


def test_the_arguments_of_roles_follow_from_the_inventory_and_the_settings(
    project: Path, inventory: Path
):
    names = ("app_directory", "caddy_domains", "caddy_peers", "docker_ecr_registry")
    names += ("firewall_metadata_users", "firewall_slot_ports", "firewall_ssh_users")
    roles = ("app", "caddy", "docker", "firewall", "metrics")
    assert shown(project, inventory, *roles, message=f"{{{{ [{', '.join(names)}] }}}}") == [
        "/srv/hello",
        ["staging.daybook.test", "www.daybook.test"],
        ["10.20.1.4"],
        "123456789012.dkr.ecr.us-east-1.amazonaws.com",
        ["disk-metrics"],
        [8000, 8001],
        ["admin"],
    ]


KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHUIvAYNZlBaWn1xb8l6CfGZmP6E+3N2oPTmOmjPVyi1"
WITHOUT_DAYBOOK = """
import os, sys
sys.path[:] = [path for path in sys.path if not os.path.isdir(os.path.join(path, "daybook"))]
"""
"""As sitecustomize: Python outside Daybook's virtual environment."""


def authorized_keys(inventory: Path, python_path: Path) -> subprocess.CompletedProcess[str]:
    private = inventory.with_name("id")
    private.touch()
    private.with_suffix(".pub").write_text(f"{KEY} ann@example.com\n")
    return ansible(
        *("ansible", "-i", inventory, "--playbook-dir", "ansible", "hello-staging-1"),
        *("--private-key", private, "-m", "ansible.builtin.debug"),
        *("-a", "var=ssh_authorized_keys"),
        PYTHONPATH=str(python_path),
        ANSIBLE_CALLBACK_RESULT_FORMAT="json",
    )


def test_the_playbooks_find_daybook_outside_its_virtual_environment(inventory, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(WITHOUT_DAYBOOK)
    done = authorized_keys(inventory, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{KEY} ann@example.com" in done.stdout


def test_a_python_that_cannot_import_daybook_is_reported_with_the_remedy(inventory, tmp_path):
    (tmp_path / "daybook").mkdir()
    (tmp_path / "daybook/__init__.py").write_text("raise ImportError('Python 3.11 is required')\n")
    done = authorized_keys(inventory, tmp_path)
    assert done.returncode != 0
    text = done.stdout + done.stderr
    (line,) = (line for line in text.splitlines() if line.startswith("[ERROR]"))
    remedy = "run `make setup && source .venv/bin/activate`: Python 3.11 is required"
    assert line.endswith(f"/python cannot import Daybook; {remedy}")
    assert "Traceback" not in text


def test_caddy_imports_the_sites_and_refuses_other_domains():
    rendered = render("caddy", "Caddyfile.j2", caddy_domains=["a.test"])
    assert "acme-challenge" not in rendered
    assert "\nimport /etc/caddy/sites/*.caddy\n" in rendered
    assert "\n\tadmin unix//run/caddy/admin.sock\n" in rendered
    assert 'http:// {\n\trespond "Nothing is served under this name." 421\n}' in rendered


def test_each_of_several_hosts_forwards_unknown_challenges_to_its_peers():
    domains, peers = ["a.test", "www.a.test"], ["10.20.0.5", "10.20.1.4"]
    rendered = render("caddy", "Caddyfile.j2", caddy_domains=domains, caddy_peers=peers)
    assert "\nhttp://a.test, http://www.a.test {\n" in rendered
    forwarded = re.findall(r"reverse_proxy (\S+) \{", rendered)
    assert forwarded == [f"{peer}:80" for peer in peers]
    assert rendered.count("{") == rendered.count("}")


def test_domains_have_certificates_before_the_first_release():
    placeholder = render("caddy", "site.caddy.j2", caddy_domains=["a.test", "www.a.test"])
    # Without a scheme: Caddy then serves HTTPS and redirects plain HTTP to it.
    assert "\na.test, www.a.test {\n" in placeholder


def test_host_keys_are_checked():
    text = (ROOT / "ansible.cfg").read_text()
    text += "".join(
        path.read_text() for path in ANSIBLE.rglob("*") if path.suffix in (".yml", ".j2")
    )
    assert "host_key_checking" not in text
    assert "StrictHostKeyChecking" not in text


def test_the_firewall_starts_before_the_services_and_users_that_it_restricts():
    (play,) = load(ANSIBLE / "hosts.yml")
    roles = [entry["role"] for entry in play["roles"]]
    later = ("docker", "caddy", "app", "github_runner")
    assert [role for role in later if roles.index(role) < roles.index("firewall")] == []
    assert roles.index("metrics") < roles.index("firewall"), "its user is in the rules"


def test_the_firewall_admits_only_named_users():
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


def test_the_firewall_admits_root_only_by_default():
    rules = render("firewall", "firewall.nft.j2")
    assert re.findall(r"meta skuid (.*)", rules) == ['"root" accept']
    assert "{  }" not in rules


def test_base_is_first_then_come_all_roles_their_services_and_the_certificates():
    (play,) = load(ANSIBLE / "hosts.yml")
    roles = [entry["role"] for entry in play["roles"]]
    assert (roles[0], roles[-1]) == ("base", "restart_stale")
    (task,) = play["tasks"]
    certificates = {"name": "caddy", "tasks_from": "certificates"}
    assert task["ansible.builtin.import_role"] == certificates
