"""Isolation of staging's host, tested from the host and from outside."""

from __future__ import annotations

import shlex
import socket

import pytest

ACCOUNT = "123456789012"
INTERNET = "127.3.3.3"
CONNECT = "import socket; socket.create_connection(('{}', {}), 3).close()"
TOKEN = """
import urllib.request as r
ask = r.Request("http://169.254.169.254/latest/api/token", method="PUT",
                headers={"X-aws-ec2-metadata-token-ttl-seconds": "60"})
print(len(r.urlopen(ask, timeout=3).read()))
"""

pytestmark = [
    pytest.mark.sandbox,
    pytest.mark.timeout(1800),
    pytest.mark.usefixtures("serving"),
]


@pytest.fixture(scope="module")
def image(life) -> str:
    """Return the ID of the application's image on staging's host."""
    repository = f"{ACCOUNT}.dkr.ecr.us-east-1.amazonaws.com/{life.app}"
    ids = life.out("staging", f"sudo docker images --quiet --no-trunc {repository}").split()
    return ids[0]


@pytest.mark.parametrize("port", [22, 80, 443])
def test_a_host_reaches_itself_but_not_the_other_environment(life, port):
    def connects(address: str) -> bool:
        call = f"python3 -c {shlex.quote(CONNECT.format(address, port))}"
        return life.on_host("staging", call).returncode == 0

    assert connects(life.private_ip("staging"))
    assert not connects(life.private_ip("production"))


def test_a_host_reads_only_its_own_parameters(life):
    own, other = (f"/{life.app}/{env}/{life.secret}" for env in ("staging", "production"))
    read = (
        "sudo aws ssm get-parameter --with-decryption --query Parameter.Value --output text --name "
    )
    assert life.out("staging", read + own) == life.secret_in_use("staging")
    for refused in (
        read + other,
        f"sudo aws ssm get-parameters-by-path --recursive --path /{life.app}",
        f"sudo aws ssm put-parameter --overwrite --value x --name {own}",
    ):
        assert_denied(life, refused)


def test_a_host_pulls_images_but_cannot_push(life, image):
    repository = f"{ACCOUNT}.dkr.ecr.us-east-1.amazonaws.com/{life.app}"
    life.out("staging", f"sudo docker pull --quiet {repository}:staging-latest")
    life.out("staging", f"sudo docker tag {image} {repository}:mine")
    done = life.on_host("staging", f"sudo docker push {repository}:mine")
    assert done.returncode != 0
    assert "is not authorized to perform: ecr:PutImage" in done.stdout
    assert_denied(
        life,
        f"sudo aws ecr batch-delete-image --repository-name {life.app}"
        " --image-ids imageTag=staging-latest",
    )


def test_a_host_cannot_access_terraforms_state(life):
    bucket = f"--bucket {life.app}-state-{ACCOUNT}"
    state = f"{bucket} --key env:/staging/environment/terraform.tfstate"
    assert_denied(life, f"sudo aws s3api list-objects-v2 {bucket}")
    assert_denied(life, f"sudo aws s3api get-object {state} /dev/null")
    assert_denied(life, f"sudo aws s3api put-object {state} --body /etc/hostname")


def test_a_container_cannot_use_the_instance_role(life, image):
    def ask(network: str):
        options = f"--rm --network {network} --entrypoint python3"
        return life.on_host("staging", f"sudo docker run {options} {image} -c {shlex.quote(TOKEN)}")

    assert int(ask("host --user 0").stdout) > 0
    assert ask("host").returncode != 0
    refused = ask("bridge")
    assert refused.returncode != 0
    assert "Connection refused" in refused.stdout


def test_a_database_on_the_host_is_unreachable_from_outside(life):
    serve = "sudo systemd-run --quiet --unit=database python3 -m http.server 5432"
    call = shlex.quote(CONNECT.format(life.private_ip("staging"), 5432))
    life.out("staging", f"{serve} && timeout 20 sh -c 'until python3 -c \"$0\"; do :; done' {call}")
    for caller in ("127.0.0.1", INTERNET):
        with pytest.raises((ConnectionRefusedError, TimeoutError)):
            socket.create_connection((life.address("staging"), 5432), 3, (caller, 0))
    life.out("staging", "sudo systemctl stop database")


def assert_denied(life, command: str) -> None:
    """Run a command on staging's host that AWS must refuse."""
    done = life.on_host("staging", f"{command} 2>&1")
    assert done.returncode != 0
    assert "AccessDenied" in done.stdout
