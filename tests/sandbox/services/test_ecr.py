"""Images: built and pushed on this computer, pulled on the machine with its role."""

from __future__ import annotations

import base64
import os
import shlex
import subprocess

import pytest

pytestmark = pytest.mark.sandbox

HOST_NAME = "123456789012.dkr.ecr.us-east-1.amazonaws.com"
DOCKERFILE = """\
FROM debian:trixie-slim
RUN apt-get update && apt-get install -y --no-install-recommends hello
ARG VERSION
LABEL version=$VERSION
CMD ["hello"]
"""
ASK_FOR_TOKEN = (
    "exec 3<>/dev/tcp/169.254.169.254/80; printf 'PUT /latest/api/token HTTP/1.1\\r\\nHost: x\\r\\n"
    "X-aws-ec2-metadata-token-ttl-seconds: 60\\r\\n\\r\\n' >&3; timeout 3 head -n 1 <&3"
)


class Docker:
    """The docker command with the sandbox's engine and a separate configuration."""

    def __init__(self, env: dict[str, str], folder) -> None:
        self._env = env | {"DOCKER_CONFIG": str(folder), "DOCKER_BUILDKIT": "0"}

    def __call__(self, *args: str, text: str = "", code: int = 0) -> str:
        done = subprocess.run(
            ["docker", *args],
            env=os.environ | self._env,
            input=text,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
        )
        assert (done.returncode == 0) is (code == 0), done.stdout
        return done.stdout

    def build(self, tag: str, version: str) -> str:
        """Build an image for a repository; return its name."""
        name = f"{HOST_NAME}/{tag}"
        self("build", "-t", name, "--build-arg", f"VERSION={version}", "-", text=DOCKERFILE)
        return name


@pytest.fixture(scope="module")
def ecr(aws):
    client = aws("ecr")
    yield client
    for repository in client.describe_repositories()["repositories"]:
        if repository["repositoryName"].startswith("ecr-test/"):
            client.delete_repository(repositoryName=repository["repositoryName"], force=True)


@pytest.fixture(scope="module")
def docker(sandbox, ecr, tmp_path_factory) -> Docker:
    """Return a docker command that is logged in with ECR's API."""
    command = Docker(sandbox.env, tmp_path_factory.mktemp("docker"))
    token = ecr.get_authorization_token()["authorizationData"][0]["authorizationToken"]
    password = base64.b64decode(token).decode().partition(":")[2]
    command("login", "-u", "AWS", "--password-stdin", HOST_NAME, text=password)
    return command


@pytest.fixture(scope="module")
def pushed(docker, ecr) -> str:
    """Return the name of an image in the registry."""
    ecr.create_repository(repositoryName="ecr-test/hello")
    name = docker.build("ecr-test/hello:1", "1")
    docker("push", name)
    return name


def images(ecr, repository: str) -> dict[str, list[str]]:
    """Return the images in the API: {"sha256:…": ["1"]}."""
    details = ecr.describe_images(repositoryName=repository)["imageDetails"]
    return {detail["imageDigest"]: detail.get("imageTags", []) for detail in details}


def test_the_api_and_docker_report_the_same_digest(docker, ecr, pushed):
    digest = docker("inspect", "-f", "{{index .RepoDigests 0}}", pushed).strip().partition("@")[2]
    assert images(ecr, "ecr-test/hello") == {digest: ["1"]}


def test_old_digest_remains_after_its_tag_moved(docker, ecr, pushed):
    before = set(images(ecr, "ecr-test/hello"))
    docker("push", docker.build("ecr-test/hello:1", "2"))
    after = images(ecr, "ecr-test/hello")
    assert sorted(after.values()) == [[], ["1"]]
    docker("pull", f"{HOST_NAME}/ecr-test/hello@{before.pop()}")


def test_repository_must_exist(docker):
    name = docker.build("ecr-test/nowhere:1", "1")
    assert "repository with name 'ecr-test/nowhere' does not exist" in docker("push", name, code=1)


def test_immutable_tag_cannot_be_overwritten(docker, ecr):
    ecr.create_repository(repositoryName="ecr-test/fixed", imageTagMutability="IMMUTABLE")
    docker("push", docker.build("ecr-test/fixed:1", "1"))
    assert "repository is immutable" in docker(
        "push", docker.build("ecr-test/fixed:1", "2"), code=1
    )


def test_pull_requires_login(sandbox, pushed, tmp_path):
    anonymous = Docker(sandbox.env, tmp_path)
    assert "no basic auth credentials" in anonymous("pull", pushed, code=1)


def test_machine_pulls_with_its_role(host, pushed):
    host.ssh(
        "sudo apt-get update -qq && sudo DEBIAN_FRONTEND=noninteractive apt-get install -qq -y "
        "--no-install-recommends docker.io docker-cli iptables amazon-ecr-credential-helper"
    )
    host.ssh("sudo mkdir -p /root/.docker")
    settings = '{"credsStore": "ecr-login"}'
    host.ssh(f"echo {shlex.quote(settings)} | sudo tee /root/.docker/config.json")
    assert "Hello, world!" in host.ssh(f"sudo docker run --rm {pushed}")


def test_hop_limit_denies_the_machines_role_to_containers(host, pushed):
    run = f"sudo docker run --rm {pushed}"
    assert host.ssh(f"{run} getent ahostsv4 {HOST_NAME}")
    assert not _gets_token(host, run)
    assert _gets_token(host, run.replace("--rm", "--rm --network host"))
    options = {"HttpTokens": "required", "HttpPutResponseHopLimit": 2}
    host.ec2.modify_instance_metadata_options(InstanceId=host.id, **options)
    assert _gets_token(host, run)


def _gets_token(host, run: str) -> bool:
    """Return True if a container gets a token."""
    return "200" in host.ssh(f"{run} bash -c {shlex.quote(ASK_FOR_TOKEN)}; true")
