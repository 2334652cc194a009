"""The operator's Docker engine, which resolves and trusts the registry's ECR name.

The `docker` command on this computer uses it through DOCKER_HOST. Nothing else on this computer
changes: no entry in /etc/hosts, no certificate in its Docker engine, no root access.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import closing

from docker import DockerClient
from docker.errors import DockerException
from docker.models.containers import Container
from docker.types import IPAMConfig, IPAMPool
from tenacity import RetryError, Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

from daybook.errors import DaybookError
from daybook_sandbox import containers, image, seed
from daybook_sandbox.api import Cloud
from daybook_sandbox.ecr import host_name
from daybook_sandbox.networks import Network, Service
from daybook_sandbox.runfolder import run_folder
from daybook_sandbox.state import PREFIX, Home, Ports

NAME = f"{PREFIX}-workstation"
# From the benchmarking range of RFC 2544, which no VPC or office network uses.
NETWORK = Network(name=NAME, vpc_id="", cidr="198.18.90.0/24", gateway="198.18.90.1")
SOCKETS = "/sockets"
READY_S = 30
LAST_LINES = 5
START = r"""
set -eu
# Docker mounts the control groups read-only; an inner Docker writes to them.
awk '$0 ~ / - cgroup2? / { print $5 }' /proc/self/mountinfo |
  while read -r dir; do mount -o remount,bind,rw "$dir"; done
# cgroup v2: a group that enables controllers for its children must not contain processes.
if [ -f /sys/fs/cgroup/cgroup.controllers ]; then
  mkdir -p /sys/fs/cgroup/dockerd
  echo $$ > /sys/fs/cgroup/dockerd/cgroup.procs
  for controller in $(cat /sys/fs/cgroup/cgroup.controllers); do
    echo "+$controller" > /sys/fs/cgroup/cgroup.subtree_control || true
  done
fi
# Docker's resolver at 127.0.0.11 is unreachable from inner containers.
echo "nameserver $GATEWAY" > /etc/resolv.conf
nft -D gateway=$GATEWAY -D imds=$IMDS_PORT -D dns=$DNS_PORT -D registry=$REGISTRY_PORT \
  -D acme=$ACME_PORT -f /usr/lib/daybook-sandbox/redirects.nft
exec dockerd --host "unix://$SOCKET" --group "$GROUP"
"""


class Workstation:
    """A Docker engine in a container, and the network through which it reaches the services."""

    def __init__(
        self,
        cloud: Cloud,
        ports: Ports,
        home: Home,
        engine: DockerClient,
        services: Sequence[Service],
    ) -> None:
        self._host = host_name(cloud)
        self._ports = ports
        self._home = home
        self._engine = engine
        self._services = services
        self._container: Container | None = None
        self._version = ""

    def start(self) -> None:
        """Start the engine, wait for it and load the base image."""
        self._create_network()
        self._container = self._create_container()
        self._container.start()
        with closing(self._connect()) as inner:
            self._version = inner.version()["Version"]
            inner.images.load(self._engine.images.get(image.BASE).save(named=image.BASE))

    def close(self) -> None:
        """Remove the engine with its data, and its network."""
        if self._container:
            self._container.remove(force=True, v=True)
            self._container = None
            for service in self._services:
                service.gateway_removed(NETWORK)
            self._engine.networks.get(NETWORK.name).remove()

    def gateway_added(self, network: Network) -> None:
        """Do nothing: the workstation is not in a VPC."""

    def gateway_removed(self, network: Network) -> None:
        """Do nothing."""

    def status(self) -> str:
        """Describe the engine in a few words."""
        return f"Docker {self._version} at {docker_host(self._home)}"

    def _create_network(self) -> None:
        pool = IPAMPool(subnet=NETWORK.cidr, gateway=NETWORK.gateway)
        self._engine.networks.create(
            NETWORK.name,
            driver="bridge",
            ipam=IPAMConfig(pool_configs=[pool]),
            labels=self._home.labels,
        )
        for service in self._services:
            service.gateway_added(NETWORK)

    def _create_container(self) -> Container:
        container = containers.create(
            self._engine,
            image.tools(),
            name=NAME,
            labels=self._home.labels,
            hostname="workstation",
            command=["sh", "-c", START],
            environment=environment(self._ports),
            binds=[f"{run_folder(self._home)}:{SOCKETS}"],
            network=NETWORK.name,
        )
        trust = {f"etc/docker/certs.d/{self._host}/ca.crt": self._home.ca_file.read_bytes()}
        container.put_archive("/", seed.archive(trust))
        return container

    def _connect(self) -> DockerClient:
        """Wait for the engine and return a client."""
        attempts = Retrying(
            retry=retry_if_exception_type(DockerException),
            stop=stop_after_delay(READY_S),
            wait=wait_fixed(0.1),
        )
        try:
            return attempts(DockerClient, base_url=docker_host(self._home))
        except RetryError as error:
            lines = self._container.logs(tail=LAST_LINES).decode("utf-8", "replace").splitlines()
            raise DaybookError(
                "The sandbox's Docker engine did not start.",
                expected=f"a response at {docker_host(self._home)} within {READY_S} s",
                details=lines,
                next="daybook sandbox down, then up; daemon.log has the details",
            ) from error


def docker_host(home: Home) -> str:
    """Return the value of DOCKER_HOST."""
    return f"unix://{run_folder(home)}/docker.sock"


def environment(ports: Ports) -> dict[str, str]:
    """Return the variables that START reads; the socket belongs to the user's group."""
    return {
        "GATEWAY": NETWORK.gateway,
        "IMDS_PORT": str(ports.imds),
        "DNS_PORT": str(ports.dns),
        "REGISTRY_PORT": str(ports.registry),
        "ACME_PORT": str(ports.acme),
        "SOCKET": f"{SOCKETS}/docker.sock",
        "GROUP": str(os.getgid()),
    }
