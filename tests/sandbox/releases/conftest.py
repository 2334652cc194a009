"""A host that releases one application, and images of it that work or fail in one way."""

from __future__ import annotations

import base64
import gzip
import importlib.util
import json
import os
import shlex
import subprocess
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import httpx
import pytest
from docker import DockerClient

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
REGISTRY = "123456789012.dkr.ecr.us-east-1.amazonaws.com"
APP = f"well{os.getpid()}"
REPOSITORY = f"{REGISTRY}/{APP}"
NAME = f"www.{APP}.test"
ROLE = ROOT / "ansible/roles/app/files"
TRUST = """{"Version": "2012-10-17", "Statement": [{"Effect": "Allow",
  "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}]}"""
PACKAGES = (
    "docker.io docker-cli docker-compose iptables caddy awscli amazon-ecr-credential-helper"
    " python3-yaml"
)
CADDYFILE = 'import /etc/caddy/sites/*.caddy\nhttp:// {\n\trespond "Not here." 421\n}\n'
TOKEN = "kept-2f8c41a7"
SETTINGS = {
    "app": APP,
    "environment": "staging",
    "host": f"{APP}-1",
    "repository": REPOSITORY,
    "region": "us-east-1",
    "names": [f"http://{NAME}"],
    "port": 8000,
    "parameters": f"/{APP}/staging/",
    "secrets": ["TOKEN"],
    "keep": 5,
}
POLICY = json.dumps(
    {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Action": [
                    "ecr:GetAuthorizationToken",
                    "ecr:BatchGetImage",
                    "ecr:GetDownloadUrlForLayer",
                    "ecr:BatchCheckLayerAvailability",
                    "ssm:GetParameter*",
                    "kms:Decrypt",
                ],
                "Resource": "*",
            }
        ],
    }
)


@dataclass(frozen=True)
class Done:
    """The exit code and output of a release command."""

    code: int
    output: str

    @property
    def next(self) -> str:
        """Return the line with the next command."""
        return next((line for line in self.output.splitlines() if line.startswith("Next: ")), "")


@dataclass(frozen=True)
class Host:
    """The machine and the release program on it."""

    machine: Any
    images: dict[str, str]
    eventually: Callable[..., Any]

    def sh(self, line: str, *, timeout_s: float = 300) -> str:
        """Run a command line as root, which must succeed, and return its output."""
        done = self.machine.ssh(f"sudo sh -c {shlex.quote(line)}", timeout_s=timeout_s)
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
        return done.stdout.strip()

    def is_up(self) -> bool:
        return self.machine.state == "running" and self.machine.ssh("true").returncode == 0

    def write(self, path: str, text: str) -> None:
        coded = base64.b64encode(text.encode()).decode()
        # Linux limits an argument to 128 KiB.
        pieces = [coded[at : at + 60_000] for at in range(0, len(coded), 60_000)]
        self.sh(f"mkdir -p $(dirname {path}) && : > {path}.b64")
        for piece in pieces:
            self.sh(f"echo {piece} >> {path}.b64")
        self.sh(f"base64 -d {path}.b64 > {path} && rm {path}.b64")

    def release(self, *words: str, program: str = "release", by: str = "ann") -> Done:
        """Run `release WORDS` and return the result, also of a failure."""
        who = ("--by", by) if words[0] in ("deploy", "rollback") else ()
        words = tuple(self.images.get(word, word) for word in words)
        done = self.machine.ssh(" ".join(("sudo", program, *words, *who)), timeout_s=300)
        return Done(done.returncode, done.stdout + done.stderr)

    def deploy(self, name: str, *words: str) -> Done:
        """Release an image, which must succeed."""
        done = self.release("deploy", name, *words)
        assert done.code == 0, done.output
        return done

    def run_with_fault(self, fault: str, when: str, step: str, *words: str) -> Done:
        """Run `release WORDS` with a fault before or after a step."""
        return self.release(*words, program=f"python3 /root/fault.py {fault} {when} {step}")

    @contextmanager
    def paused_at(self, step: str, *words: str, when: str = "before") -> Iterator[None]:
        """Run `release WORDS`, pause it at a step and kill it at the end of the block."""
        words = tuple(self.images.get(word, word) for word in words)
        unit = f"fault-{uuid.uuid4().hex[:8]}"
        command = f"python3 -u /root/fault.py wait {when} {step} {' '.join(words)} --by bob"
        self.sh(f"systemd-run -q -u {unit} -p EnvironmentFile=-/etc/environment {command}")
        self.eventually(lambda: "paused" in self.sh(f"journalctl -q -u {unit} -o cat"))
        yield
        if self.is_up():
            self.sh(f"systemctl kill -s KILL {unit}")
            self.eventually(lambda: self.sh(f"systemctl is-active {unit} || true") != "active")

    @property
    def status(self) -> dict[str, Any]:
        return json.loads(self.release("status", "--json").output)

    @property
    def list(self) -> list[dict[str, Any]]:
        return json.loads(self.release("list", "--json").output)

    @property
    def running(self) -> dict[str, str]:
        """Return the running services with the ids of their releases: {"web-blue": ID}."""
        labels = '{{.Label "com.docker.compose.service"}} {{.Label "daybook.release"}}'
        lines = self.sh(f"docker ps --format '{labels}'").splitlines()
        return {line.split()[0]: "".join(line.split()[1:]) for line in lines}

    def visit(self, path: str = "/version", **options: Any) -> httpx.Response:
        """Request a path through Caddy, as a visitor does."""
        url = f"http://{self.machine.private_ip}{path}"
        return httpx.get(url, headers={"Host": NAME}, timeout=10, **options)

    @property
    def serving(self) -> dict[str, str]:
        """Return the application's response to a visitor's request for its version."""
        return self.visit().raise_for_status().json()


@pytest.fixture(scope="session")
def workshop(sandbox, tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    return Workshop(sandbox.env, tmp_path_factory.mktemp("docker"))


@pytest.fixture(scope="session")
def compose(workshop) -> str:
    """Return the compose file of a working image."""
    store = workshop.push("store", {})
    return (HERE / "app/compose.yaml").read_text().replace("STORE", store)


@pytest.fixture(scope="session")
def images(workshop, compose) -> dict[str, str]:
    """Return images by their defect: {"one": "REPOSITORY@sha256:…"}."""
    good = {name: workshop.push(name, {"daybook.compose": compose}) for name in ("one", "two")}
    bad = {
        mode: workshop.push(mode, {"daybook.compose": compose}, mode)
        for mode in ("exits", "sick", "hides", "lies", "stuck", "large", "endless")
    }
    fixed = compose.replace("127.0.0.1:${APP_PORT:-8000}", "80")
    site = "{$NAMES} {\n\treverse_proxies {$UPSTREAM}\n}\n"
    return (
        good
        | bad
        | {
            "fixed": workshop.push("fixed", {"daybook.compose": fixed}),
            "site": workshop.push("site", {"daybook.compose": compose, "daybook.caddyfile": site}),
            "missing": f"{REPOSITORY}@sha256:{'0' * 64}",
        }
    )


class Workshop:
    """The sandbox's workstation, which builds and pushes images."""

    def __init__(self, env: dict[str, str], config: Path) -> None:
        self.env = os.environ | env | {"DOCKER_CONFIG": str(config), "DOCKER_BUILDKIT": "0"}
        token = self._run("ecr", "get_authorization_token")["authorizationData"][0]
        password = base64.b64decode(token["authorizationToken"]).decode().partition(":")[2]
        self._run("ecr", "create_repository", repositoryName=APP)
        self._docker("login", "-u", "AWS", "--password-stdin", REGISTRY, text=password)

    def push(self, tag: str, texts: dict[str, str], mode: str = "good", **labels: str) -> str:
        """Build and push an image with files in its labels; return its name by digest.

        labels: other labels, by the end of their names: version="1.0".
        """
        names = {"version": tag} | labels
        labels = {f"org.opencontainers.image.{key}": value for key, value in names.items()}
        labels |= {key: _packed(text) for key, text in texts.items()}
        flags = [word for key, value in labels.items() for word in ("--label", f"{key}={value}")]
        tag = f"{REPOSITORY}:{tag}"
        self._docker("build", "-t", tag, "--build-arg", f"MODE={mode}", *flags, str(HERE / "app"))
        self._docker("push", tag)
        return self._docker("inspect", "-f", "{{index .RepoDigests 0}}", tag).strip()

    def _docker(self, *words: str, text: str = "") -> str:
        done = subprocess.run(
            ["docker", *words], env=self.env, input=text, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def _run(self, service: str, call: str, **words: Any) -> Any:
        keys = {
            key: self.env[key.upper()] for key in ("aws_access_key_id", "aws_secret_access_key")
        }
        client = boto3.client(
            service,
            endpoint_url=self.env["AWS_ENDPOINT_URL"],
            region_name=self.env["AWS_REGION"],
            **keys,
        )
        return getattr(client, call)(**words)


@pytest.fixture(scope="package")
def make_vpc(aws, sandbox, make_vpcs) -> Iterator[Callable[..., Any]]:
    """Return a function that creates a VPC; all are deleted after the last test of this folder."""
    yield from make_vpcs(aws("ec2"), sandbox)


@pytest.fixture(scope="package")
def host(aws, make_vpc, images, eventually) -> Host:
    """Return a machine prepared for its first release."""
    vpc, iam = make_vpc(), aws("iam")
    iam.create_role(RoleName=vpc.id, AssumeRolePolicyDocument=TRUST)
    iam.put_role_policy(RoleName=vpc.id, PolicyName="host", PolicyDocument=POLICY)
    iam.create_instance_profile(InstanceProfileName=vpc.id)
    iam.add_role_to_instance_profile(InstanceProfileName=vpc.id, RoleName=vpc.id)
    aws("ssm").put_parameter(
        Name=f"/{APP}/staging/TOKEN", Value=TOKEN, Type="SecureString", Overwrite=True
    )
    machine = vpc.launch(IamInstanceProfile={"Name": vpc.id}).has_booted()
    host = Host(machine, images, eventually)
    host.sh(
        "apt-get update -qq && DEBIAN_FRONTEND=noninteractive "
        f"apt-get install -qq -y --no-install-recommends {PACKAGES}"
    )
    host.write("/etc/docker/daemon.json", '{"live-restore": true}')
    host.write("/root/.docker/config.json", '{"credsStore": "ecr-login"}')
    host.write("/etc/caddy/Caddyfile", CADDYFILE)
    host.write("/etc/daybook/release.json", json.dumps(SETTINGS))
    host.write("/root/fault.py", (HERE / "fault.py").read_text())
    host.write(
        "/etc/systemd/system/release-repair.service", (ROLE / "release-repair.service").read_text()
    )
    host.write("/root/release.b64", base64.b64encode(_program()).decode())
    host.sh(
        "base64 -d /root/release.b64 > /usr/local/sbin/release; chmod 755 /usr/local/sbin/release;"
        f"mkdir -p /etc/caddy/sites /srv/{APP}; systemctl restart docker; systemctl reload caddy;"
        "systemctl daemon-reload; systemctl enable release-repair.service"
    )
    return host


@dataclass(frozen=True)
class PowerSupply:
    """The power supply of the machine."""

    host: Host
    engine: DockerClient

    def cut(self) -> None:
        """Cut the power: no process is stopped cleanly and nothing more is written."""
        self.engine.containers.get(f"daybook-sandbox-{self.host.machine.id}").kill()
        self.host.machine.becomes("stopped")

    def back(self) -> None:
        """Start the machine again and wait until SSH answers."""
        machine = self.host.machine
        machine.ec2.start_instances(InstanceIds=[machine.id])
        machine.becomes("running")
        self.host.eventually(self.host.is_up)


@pytest.fixture
def power(host: Host, docker_engine: DockerClient) -> PowerSupply:
    return PowerSupply(host, docker_engine)


def _program() -> bytes:
    spec = importlib.util.spec_from_file_location("pack", ROLE / "pack.py")
    pack = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(pack)
    return pack.pack()


def _packed(text: str) -> str:
    return base64.b64encode(gzip.compress(text.encode(), 9, mtime=0)).decode()
