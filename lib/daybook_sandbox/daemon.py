"""The sandbox's background process: `python -m daybook_sandbox.daemon ROOT`."""

from __future__ import annotations

import json
import logging
import os
import secrets
import signal
import socket
import sys
import threading
from contextlib import ExitStack
from pathlib import Path

from docker import DockerClient
from moto.ec2.models.instances import Instance

from daybook_sandbox import (
    ca,
    engine,
    engine_claim,
    image,
    logins,
    metadata,
    permissions,
    runcommand,
    webidentity,
)
from daybook_sandbox.acme import Acme
from daybook_sandbox.api import REGION, Cloud, is_live, tag
from daybook_sandbox.dns import Dns
from daybook_sandbox.forward import Forward
from daybook_sandbox.github import service as github
from daybook_sandbox.imds import Imds
from daybook_sandbox.machines import Context, Machines, container_name
from daybook_sandbox.networks import Networks, Service
from daybook_sandbox.registry import Registry
from daybook_sandbox.relay import GatewayRelay
from daybook_sandbox.state import Home, Ports, Process, State, write_private
from daybook_sandbox.workstation import Workstation, docker_host

LOG = logging.getLogger(__name__)
POLL_S = 0.5


def main(root: str) -> None:
    """Run a sandbox until SIGTERM."""
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    ending = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ending.set())
    run(Home(Path(root)), ending)


def run(home: Home, ending: threading.Event) -> None:
    """Start all parts, keep networks and status up to date until `ending`, then close the parts."""
    client = engine.find(home)
    process = Process.of(os.getpid())
    engine_claim.claim(client, home, process)
    ports = free_ports()
    home.write(State(process))
    ca.ensure_ca(home.folder)
    cloud = Cloud()
    services = make_services(client, home, cloud, ports)
    networks = Networks(client, home.labels, list(services.values()))
    machines = Machines(Context(client, networks, home, ports, image.machine()))
    with ExitStack() as stack:
        cloud.start(machines, ports.api)
        stack.callback(cloud.close)
        for service in services.values():
            stack.callback(service.close)
            service.start()
        logins.patch()
        webidentity.patch(services["GitHub"].github.issuer.claims)
        runcommand.patch(
            machines.execute,
            cloud.instances,
            lambda it: permissions.is_managed(cloud.iam, metadata.role_of(cloud, it)),
        )
        machines.start_watching()
        home.write_target(target(home, ports) | github.target(services["GitHub"]))
        LOG.info("the sandbox is up")
        while not ending.wait(POLL_S):
            try:
                networks.keep_only(cloud.vpcs)
                write_status(home, cloud, services)
            except Exception:  # One failed update must not end a cloud that serves.
                LOG.exception("could not update networks and status; retrying")
        LOG.info("the sandbox is shutting down")


def make_services(
    client: DockerClient, home: Home, cloud: Cloud, ports: Ports
) -> dict[str, Service]:
    """Return all parts except the API in start order. Keys: the names in `status`."""
    at_gateways = {
        "AWS API": GatewayRelay("api", ports.api, ports.api),
        "metadata": Imds(cloud, ports),
        "DNS": Dns(cloud, ports),
        "registry": Registry(cloud, ports, home, client),
        "certificates": Acme(cloud, ports, home),
        "GitHub": github.GitHubService(ports, home, endpoints(home, ports)),
    }
    return at_gateways | {
        "Elastic IPs": Forward(cloud, ports, client, home.labels),
        "workstation": Workstation(cloud, ports, home, client, list(at_gateways.values())),
    }


def api(ports: Ports) -> dict[str, str]:
    """Return the variables that point a program at the AWS API, without credentials."""
    return {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{ports.api}",
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
    }


def endpoints(home: Home, ports: Ports) -> dict[str, str]:
    """Return the variables that point any program at this sandbox, without credentials."""
    return api(ports) | {
        "DOCKER_HOST": docker_host(home),
        "DAYBOOK_NAMESERVER": f"127.0.0.1:{ports.dns}",
        "DAYBOOK_CA_FILE": str(home.ca_file),
    }


def target(home: Home, ports: Ports) -> dict[str, str]:
    """Return the environment variables that make this sandbox the target of any tool."""
    return endpoints(home, ports) | {
        "AWS_ACCESS_KEY_ID": f"AKIA{secrets.token_hex(8).upper()}",
        "AWS_SECRET_ACCESS_KEY": secrets.token_hex(20),
        "DAYBOOK_SSH_KEY": str(home.ssh_key),
    }


def write_status(home: Home, cloud: Cloud, services: dict[str, Service]) -> None:
    """Write the status file that `daybook sandbox status` reads."""
    status = {
        "services": {name: service.status() for name, service in services.items()},
        "machines": [
            _describe(cloud, instance) for instance in cloud.instances() if is_shown(instance)
        ],
    }
    text = json.dumps(status, indent=2) + "\n"
    if not home.status_file.exists() or home.status_file.read_text() != text:
        write_private(home.status_file, text)


def has_failed(instance: Instance) -> bool:
    """Return True if the sandbox could not provide the instance."""
    return (instance.state_reason.code or "").startswith("Server.")


def is_shown(instance: Instance) -> bool:
    """Return True for instances in the status: all but those terminated on request."""
    return instance.state != "terminated" or has_failed(instance)


def _describe(cloud: Cloud, instance: Instance) -> dict[str, str]:
    return {
        "id": instance.id,
        "name": tag(instance, "Name"),
        "environment": tag(instance, "environment"),
        "state": instance.state,
        "reason": instance.state_reason.message if has_failed(instance) else "",
        "private_ip": instance.private_ip if is_live(instance) else "",
        "public_ip": cloud.public_ip(instance) or "",
        "container": container_name(instance.id),
    }


def free_ports() -> Ports:
    """Return free ports."""
    with ExitStack() as stack:
        return Ports(*(_free_port(stack) for _ in Ports.__dataclass_fields__))


def _free_port(stack: ExitStack) -> int:
    listener = stack.enter_context(socket.socket())
    listener.bind(("0.0.0.0", 0))
    return listener.getsockname()[1]


if __name__ == "__main__":
    main(sys.argv[1])
