"""One Docker network per VPC: machines reach only machines in the same VPC."""

from __future__ import annotations

import ipaddress
import logging
import threading
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from docker import DockerClient
from docker.errors import APIError
from docker.types import IPAMConfig, IPAMPool

from daybook_sandbox.state import PREFIX

LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Network:
    """A VPC's Docker network. gateway: the VPC's first address, assigned to this computer."""

    name: str
    vpc_id: str
    cidr: str
    gateway: str


class Service(Protocol):
    """A part of the sandbox that runs in the daemon."""

    def start(self) -> None: ...
    def close(self) -> None: ...
    def gateway_added(self, network: Network) -> None: ...
    def gateway_removed(self, network: Network) -> None: ...
    def status(self) -> str: ...


class Networks:
    """The current networks: created with a VPC's first machine and removed with the VPC."""

    def __init__(
        self, engine: DockerClient, labels: dict[str, str], services: Sequence[Service]
    ) -> None:
        self._engine = engine
        self._labels = labels
        self._services = services
        self._known: dict[str, Network] = {}
        self._lock = threading.Lock()

    def of_vpc(self, vpc_id: str, cidr: str) -> Network:
        """Return a VPC's network; create it if it is missing.

        Docker refuses address ranges that overlap another Docker network. If a service fails to
        serve the network, the network is removed, and the next machine tries again.
        """
        with self._lock:
            if vpc_id not in self._known:
                network = plan(vpc_id, cidr)
                self._create(network)
                try:
                    for service in self._services:
                        service.gateway_added(network)
                except Exception:
                    self._remove(network)
                    raise
                self._known[vpc_id] = network
            return self._known[vpc_id]

    def keep_only(self, existing: Callable[[], Collection[str]]) -> None:
        """Remove the networks of deleted VPCs after their last machine is gone.

        existing: returns the ids of existing VPCs; called while no network is being created.
        """
        with self._lock:
            vpc_ids = existing()
            for vpc_id in [known for known in self._known if known not in vpc_ids]:
                network = self._known[vpc_id]
                try:
                    self._remove(network)
                except APIError as error:
                    LOG.debug("network of %s is still in use: %s", vpc_id, error)
                    continue
                del self._known[vpc_id]
                LOG.info("network of %s (%s) removed", vpc_id, network.cidr)

    def _remove(self, network: Network) -> None:
        self._engine.networks.get(network.name).remove()
        for service in self._services:
            service.gateway_removed(network)

    def _create(self, network: Network) -> None:
        pool = IPAMPool(subnet=network.cidr, gateway=network.gateway)
        self._engine.networks.create(
            network.name,
            driver="bridge",
            ipam=IPAMConfig(pool_configs=[pool]),
            labels=self._labels,
            options={"com.docker.network.bridge.name": bridge(network.vpc_id)},
        )
        LOG.info("network of %s (%s) created", network.vpc_id, network.cidr)


def plan(vpc_id: str, cidr: str) -> Network:
    """Return a VPC's network definition; AWS also reserves the first address for its router."""
    gateway = str(next(ipaddress.ip_network(cidr).hosts()))
    return Network(name=f"{PREFIX}-{vpc_id}", vpc_id=vpc_id, cidr=cidr, gateway=gateway)


def bridge(vpc_id: str) -> str:
    """Return the name of a VPC's bridge, at most 15 characters on Linux."""
    return f"db{vpc_id[-12:]}"
