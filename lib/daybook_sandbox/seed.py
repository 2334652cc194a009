"""The files on a machine's disk at first boot, with the facts that EC2 would provide."""

from __future__ import annotations

import base64
import io
import json
import tarfile
from pathlib import Path

from moto.ec2.models.instances import Instance

from daybook_sandbox.networks import Network
from daybook_sandbox.state import Ports

NOCLOUD = "var/lib/cloud/seed/nocloud"


def files(instance: Instance, network: Network, ports: Ports, ca_file: Path) -> dict[str, bytes]:
    """Return a machine's files by path: cloud-init's seed and the sandbox's endpoints."""
    api = f"http://{network.gateway}:{ports.api}"
    region = instance.region_name
    cloud_env = {"AWS_ENDPOINT_URL": api, "AWS_REGION": region, "AWS_DEFAULT_REGION": region}
    pairs = " ".join(f'"{name}={value}"' for name, value in cloud_env.items())
    manager = f"[Manager]\nDefaultEnvironment={pairs}\n"
    gateway_env = {
        "GATEWAY": network.gateway,
        "IMDS_PORT": ports.imds,
        "DNS_PORT": ports.dns,
        "REGISTRY_PORT": ports.registry,
        "ACME_PORT": ports.acme,
    }
    texts = {
        f"{NOCLOUD}/meta-data": json.dumps(meta_data(instance)),
        "etc/daybook-sandbox/env": _assignments(gateway_env),
        "etc/environment": _assignments(cloud_env),
        "etc/sudoers.d/daybook-sandbox": "Defaults env_file=/etc/environment\n",
        "etc/systemd/system.conf.d/daybook-sandbox.conf": manager,
        "usr/local/share/ca-certificates/daybook-sandbox.crt": ca_file.read_text(),
    }
    user_data = base64.b64decode(str(instance.user_data or ""))
    contents = {path: text.encode() for path, text in texts.items()}
    return contents | {f"{NOCLOUD}/user-data": user_data}


def meta_data(instance: Instance) -> dict:
    """Return the metadata for cloud-init's NoCloud source; `admin` gets the key pair's key."""
    return {
        "instance-id": instance.id,
        "local-hostname": hostname(instance),
        "public-keys": [public_key(instance)] if instance.key_name else [],
    }


def hostname(instance: Instance) -> str:
    """Return the host name that EC2 assigns: ip-10-20-0-4."""
    return f"ip-{instance.private_ip.replace('.', '-')}"


def public_key(instance: Instance) -> str:
    """Return the public half of an instance's key pair."""
    material = instance.ec2_backend.key_pairs[instance.key_name].material_public
    return (material.decode() if isinstance(material, bytes) else material).strip()


def archive(contents: dict[str, bytes]) -> bytes:
    """Return a tar archive of files owned by root; only root can read the cloud-init seed."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for path, content in contents.items():
            info = tarfile.TarInfo(path)
            info.size = len(content)
            info.mode = 0o600 if path.startswith(NOCLOUD) else 0o644
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def _assignments(values: dict) -> str:
    return "".join(f"{name}={value}\n" for name, value in values.items())
