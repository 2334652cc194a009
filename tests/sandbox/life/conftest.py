"""The life of one application for all tests here, in staging and production.

Each fixture takes the next step; test_teardown.py finally tears both environments down.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dns.resolver
import httpx
import pytest

from daybook import probe
from daybook.hosts import inventory

from .shop import Shop, open_shop

# Unique names and networks, because two sessions may share a sandbox.
APP = f"life{os.getpid()}"
NETWORK = 160 + os.getpid() % 40 * 2
NAMES = {"staging": f"staging.{APP}.test", "production": f"www.{APP}.test"}
CIDRS = {"staging": f"10.{NETWORK}.0.0/16", "production": f"10.{NETWORK + 1}.0.0/16"}


REPOSITORY = f"octo-org/{APP}"
BRANCHES = {"staging": "staging", "production": "main"}

SECRET = "DATABASE_URL"
SECRETS = {SECRET: "where the orders are kept"}


def set_secret(world, env: str, value: str) -> None:
    """Set the application's secret from a file."""
    file = world.root / "new.env"
    file.write_text(f"{SECRET}={value}\n")
    world.succeed("secrets", "import", str(file), "-e", env)
    file.unlink()


def store_token(world, env: str) -> None:
    """Store the token of the sandbox's GitHub for configure."""
    done = subprocess.run(
        [Path(sys.executable).parent / "daybook", "github", "token", env],
        cwd=world.root,
        env=os.environ | {"DAYBOOK_ROOT": str(world.root)},
        input=(world.root / ".sandbox/github-token").read_text(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout


@dataclass(frozen=True)
class Life:
    """Access to both environments, from outside and on the hosts."""

    project: Any
    sandbox: Any
    app: str = APP
    secret: str = SECRET
    names: Mapping[str, str] = field(default_factory=lambda: NAMES)

    @property
    def root(self) -> Path:
        return self.project.root

    def address(self, env: str) -> str:
        """Return the Elastic IP of an environment's host from the inventory."""
        [address] = inventory.read(self.root / "ansible/inventories" / env).values()
        return address

    def resolve(self, name: str) -> list[str]:
        """Resolve a name with the sandbox's DNS server."""
        host, port = self.sandbox.env["DAYBOOK_NAMESERVER"].split(":")
        resolver = dns.resolver.Resolver(configure=False)
        resolver.nameservers, resolver.port = [host], int(port)
        return [answer.to_text() for answer in resolver.resolve(name, "A")]

    def fetch(self, env: str, path: str, scheme: str = "https") -> httpx.Response:
        """Fetch a page by the application's public name."""
        return probe.fetch(f"{scheme}://{self.names[env]}{path}", self.sandbox.env)

    def version(self, env: str) -> dict:
        """Return the application's version and environment."""
        return self.fetch(env, "/version").raise_for_status().json()

    def on_host(self, env: str, command: str) -> subprocess.CompletedProcess[str]:
        """Run a command on an environment's host."""
        return self.sandbox.run("sandbox", "ssh", f"{self.app}-{env}-1", command)

    def out(self, env: str, command: str) -> str:
        """Return the output of a command on an environment's host, which must succeed."""
        done = self.on_host(env, command)
        assert done.returncode == 0, done.stdout
        return done.stdout.strip()

    def set_secret(self, env: str, value: str) -> None:
        """Set the application's secret, which takes effect with the next release."""
        set_secret(self.project, env, value)

    def secret_in_use(self, env: str) -> str:
        """Return the secret's value in the serving container."""
        running = "sudo docker ps --quiet --filter publish=8000-8001 | head --lines 1"
        return self.out(env, f"sudo docker exec $({running}) printenv {self.secret}")

    def private_ip(self, env: str) -> str:
        """Return the private address of an environment's host."""
        addresses = self.out(env, "hostname --all-ip-addresses").split()
        network = CIDRS[env].removesuffix("0.0/16")
        return next(word for word in addresses if word.startswith(network))

    def run(self, lines: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Run shell lines like an operator, after `daybook env export staging`."""
        tools = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        return subprocess.run(
            ["bash", "-euo", "pipefail", "-c", f'eval "$(daybook env export staging)"\n{lines}'],
            cwd=self.root,
            env=os.environ | {"PATH": tools, "DAYBOOK_ROOT": str(self.root)},
            input=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def shell(self, lines: str, stdin: str = "") -> str:
        """Return the output of shell lines, which must succeed."""
        done = self.run(lines, stdin)
        assert done.returncode == 0, done.stdout
        return done.stdout


@pytest.fixture(scope="package")
def world(sandbox, copy_project, make_project):
    """Yield a separate project in the sandbox; its environments are torn down at the end."""
    root = copy_project(APP)
    (root / ".sandbox").symlink_to(sandbox.root / ".sandbox")
    world = make_project(root)
    # Production needs two people; the operator, with the sandbox's key, is one of them.
    kind, key, *_ = (root / ".sandbox/ssh/id_ed25519.pub").read_text().split()
    with (root / "environments/signers").open("a") as signers:
        signers.write(f'ann@example.com namespaces="daybook-record" {kind} {key}\n')
    for env, name in NAMES.items():
        own = {"app": APP, "dns_zone": f"{APP}.test", "domains": [name], "vpc_cidr": CIDRS[env]}
        own |= {"alarm_email": "ops@example.com"}
        github = {"repository": REPOSITORY, "branch": BRANCHES[env]}
        own |= {"github": github, "deploy_via": "runner"}
        world.set(env, **own, deletion_protection=False, secrets=SECRETS)
    compose = root / "app/compose.yaml"
    given = "APP_HOST: ${APP_HOST:-}"
    compose.write_text(
        compose.read_text().replace(given, f"{given}\n      {SECRET}: ${{{SECRET}:-}}")
    )
    world.step("bootstrap", "staging")
    for env in NAMES:
        store_token(world, env)
        set_secret(world, env, f"first of {env}")
    yield world
    for env in NAMES:
        if (root / "ansible/inventories" / env).exists():
            world.step("teardown", env)


@pytest.fixture(scope="package")
def life(world, sandbox) -> Life:
    return Life(world, sandbox)


@pytest.fixture(scope="package")
def provisioned(world):
    """Provision both at once: staging with plain papermill, production with an interruption."""
    parameters = ("-p", "env", "staging", "-p", "approve", "auto")
    options = ("--no-progress-bar", "notebooks/provision.ipynb", "out.ipynb", *parameters)
    with world.start("papermill", *options) as staging:
        _provision_interrupted(world)
        world.step("provision", "production")
        output = staging.communicate(timeout=600)[0]
    assert staging.returncode == 0, output
    return world


@pytest.fixture(scope="package")
def configured(provisioned):
    both(provisioned, "configure")
    return provisioned


@pytest.fixture(scope="package")
def serving(configured):
    both(configured, "first-deploy")
    return configured


@pytest.fixture(scope="package")
def shop(serving, life, tmp_path_factory) -> Shop:
    """Return the application's repository with the workflow that Daybook writes."""
    return open_shop(serving, life, tmp_path_factory.mktemp("shop") / life.app)


def both(world, step: str) -> None:
    """Run a step for both environments at once; both must succeed."""
    started = [
        world.start("daybook", "run", step, "-p", "env", env, "-p", "approve", "auto")
        for env in NAMES
    ]
    outputs = [process.communicate(timeout=900)[0] for process in started]
    assert [process.returncode for process in started] == [0, 0], "\n".join(outputs)


def _provision_interrupted(world) -> None:
    parameters = ("-p", "env", "production", "-p", "approve", "auto")
    with world.start("daybook", "run", "provision", *parameters) as process:
        world.wait_for(process, r"created +aws_subnet")
        process.send_signal(signal.SIGTERM)
        output = process.communicate(timeout=240)[0]
    assert process.returncode == 130, output
