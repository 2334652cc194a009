"""The files on a machine's disk at first boot."""

import base64
import io
import json
import tarfile
from types import SimpleNamespace

import pytest
from moto.core.types import Base64EncodedString

from daybook_sandbox import seed
from daybook_sandbox.networks import plan
from daybook_sandbox.state import Ports

PORTS = Ports(
    api=1001, imds=1002, dns=1003, registry=1004, registry_local=1005, forward=1006, acme=1007
)
NETWORK = plan("vpc-1", "10.20.0.0/16")


@pytest.fixture
def instance():
    pair = SimpleNamespace(material_public=b"ssh-ed25519 AAAA ann\n")
    return SimpleNamespace(
        id="i-1",
        private_ip="10.20.1.4",
        key_name="ann",
        region_name="eu-west-1",
        user_data=Base64EncodedString(base64.b64encode(b"#cloud-config\n\xff").decode()),
        ec2_backend=SimpleNamespace(key_pairs={"ann": pair}),
    )


@pytest.fixture
def contents(instance, tmp_path):
    ca = tmp_path / "ca.pem"
    ca.write_text("CERTIFICATE")
    return seed.files(instance, NETWORK, PORTS, ca)


def test_user_data_is_passed_on_unchanged(contents):
    assert contents[f"{seed.NOCLOUD}/user-data"] == b"#cloud-config\n\xff"


def test_missing_user_data_is_an_empty_file(instance, tmp_path):
    instance.user_data = None
    (tmp_path / "ca.pem").write_text("")
    files = seed.files(instance, NETWORK, PORTS, tmp_path / "ca.pem")
    assert files[f"{seed.NOCLOUD}/user-data"] == b""


def test_cloud_init_gets_the_host_name_and_the_key(contents):
    assert json.loads(contents[f"{seed.NOCLOUD}/meta-data"]) == {
        "instance-id": "i-1",
        "local-hostname": "ip-10-20-1-4",
        "public-keys": ["ssh-ed25519 AAAA ann"],
    }


def test_an_instance_without_a_key_pair_has_no_key(instance):
    instance.key_name = None
    assert seed.meta_data(instance)["public-keys"] == []


def test_tools_use_the_gateway_and_the_instances_region(contents):
    assert contents["etc/environment"].decode().splitlines() == [
        "AWS_ENDPOINT_URL=http://10.20.0.1:1001",
        "AWS_REGION=eu-west-1",
        "AWS_DEFAULT_REGION=eu-west-1",
    ]


def test_the_redirects_get_the_services_ports(contents):
    assert contents["etc/daybook-sandbox/env"].decode().splitlines() == [
        "GATEWAY=10.20.0.1",
        "IMDS_PORT=1002",
        "DNS_PORT=1003",
        "REGISTRY_PORT=1004",
        "ACME_PORT=1007",
    ]


def test_only_root_reads_user_data(contents):
    with tarfile.open(fileobj=io.BytesIO(seed.archive(contents))) as tar:
        modes = {member.name: member.mode for member in tar}
    assert modes[f"{seed.NOCLOUD}/user-data"] == 0o600
    assert modes["etc/environment"] == 0o644
