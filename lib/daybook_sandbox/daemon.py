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
LOOK_EVERY_S = 0.5


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
    """Start every part, keep networks and status true, and close the parts again."""
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
        machines.begin()
        home.write_target(target(home, ports) | github.target(services["GitHub"]))
        LOG.info("the sandbox is up")
        while not ending.wait(LOOK_EVERY_S):
            try:
                networks.keep_only(cloud.vpcs)
                write_status(home, cloud, services)
            except Exception:  # One look that failed must not end a cloud that serves.
                LOG.exception("could not follow the API; the next look is soon")
        LOG.info("the sandbox ends")


def make_services(
    client: DockerClient, home: Home, cloud: Cloud, ports: Ports
) -> dict[str, Service]:
    """Return the parts beside the API, by the name `status` gives them, in their order."""
    at_gateways = {
        "AWS API": GatewayRelay("api", ports.api, ports.api),
        "metadata": Imds(cloud, ports),
        "DNS": Dns(cloud, ports),
        "registry": Registry(cloud, ports, home, client),
        "certificates": Acme(cloud, ports, home),
        "GitHub": github.GitHubService(ports, home, ways(home, ports)),
    }
    return at_gateways | {
        "Elastic IPs": Forward(cloud, ports, client, home.labels),
        "workstation": Workstation(cloud, ports, home, client, list(at_gateways.values())),
    }


def api(ports: Ports) -> dict[str, str]:
    """Return what leads a program to the AWS API, without a key to it."""
    return {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{ports.api}",
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
    }


def ways(home: Home, ports: Ports) -> dict[str, str]:
    """Return what leads any program to this sandbox, without a key to it."""
    return api(ports) | {
        "DOCKER_HOST": docker_host(home),
        "DAYBOOK_NAMESERVER": f"127.0.0.1:{ports.dns}",
        "DAYBOOK_CA_FILE": str(home.ca_file),
    }


def target(home: Home, ports: Ports) -> dict[str, str]:
    """Return the environment variables that make this sandbox the target of any tool."""
    return ways(home, ports) | {
        "AWS_ACCESS_KEY_ID": f"AKIA{secrets.token_hex(8).upper()}",
        "AWS_SECRET_ACCESS_KEY": secrets.token_hex(20),
        "DAYBOOK_SSH_KEY": str(home.ssh_key),
    }


def write_status(home: Home, cloud: Cloud, services: dict[str, Service]) -> None:
    """Write down what `daybook sandbox status` shows."""
    status = {
        "services": {name: service.status() for name, service in services.items()},
        "machines": [_describe(cloud, each) for each in cloud.instances() if is_of_interest(each)],
    }
    text = json.dumps(status, indent=2) + "\n"
    if not home.status_file.exists() or home.status_file.read_text() != text:
        write_private(home.status_file, text)


def has_failed(instance: Instance) -> bool:
    """Tell whether the sandbox could not give what the API was asked for."""
    return (instance.state_reason.code or "").startswith("Server.")


def is_of_interest(instance: Instance) -> bool:
    """Tell whether an operator would look for it: it lives, or it did not come to life."""
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
    """Return ports that nothing listens on."""
    with ExitStack() as stack:
        return Ports(*(_free_port(stack) for _ in Ports.__dataclass_fields__))


def _free_port(stack: ExitStack) -> int:
    listener = stack.enter_context(socket.socket())
    listener.bind(("0.0.0.0", 0))
    return listener.getsockname()[1]


if __name__ == "__main__":
    main(sys.argv[1])
