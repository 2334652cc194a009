"""The networks of VPCs, with a fake engine."""

from dataclasses import dataclass, field

import pytest
from docker.errors import APIError

from daybook_sandbox.networks import Network, Networks, bridge, plan


@dataclass
class FakeEngine:
    """Record networks by name; those in `busy` cannot be removed."""

    created: dict = field(default_factory=dict)
    busy: set = field(default_factory=set)

    @property
    def networks(self):
        return self

    def create(self, name, **options):
        self.created[name] = options

    def get(self, name):
        self.name = name
        return self

    def remove(self):
        if self.name in self.busy:
            raise APIError("has active endpoints")
        del self.created[self.name]


@dataclass
class FakeService:
    gateways: list = field(default_factory=list)
    is_broken: bool = False

    def gateway_added(self, network):
        if self.is_broken:
            raise OSError("address already in use")
        self.gateways.append(network.gateway)

    def gateway_removed(self, network):
        if network.gateway in self.gateways:
            self.gateways.remove(network.gateway)


@pytest.fixture
def engine():
    return FakeEngine()


@pytest.fixture
def service():
    return FakeService()


@pytest.fixture
def networks(engine, service):
    return Networks(engine, {"daybook.sandbox": "/root"}, [service])


def test_the_gateway_is_the_first_address():
    assert plan("vpc-1", "10.20.0.0/16") == Network(
        "daybook-sandbox-vpc-1", "vpc-1", "10.20.0.0/16", "10.20.0.1"
    )


def test_a_bridge_name_fits_linuxs_limit():
    assert len(bridge("vpc-0123456789abcdef0")) <= 15


def test_a_vpc_gets_one_labelled_network(networks, engine, service):
    first = networks.of_vpc("vpc-1", "10.20.0.0/16")
    assert networks.of_vpc("vpc-1", "10.20.0.0/16") is first
    assert list(engine.created) == ["daybook-sandbox-vpc-1"]
    assert engine.created["daybook-sandbox-vpc-1"]["labels"] == {"daybook.sandbox": "/root"}
    assert service.gateways == ["10.20.0.1"]


def test_a_network_is_removed_with_its_vpc(networks, engine, service):
    networks.of_vpc("vpc-1", "10.20.0.0/16")
    networks.of_vpc("vpc-2", "10.30.0.0/16")
    networks.keep_only(lambda: {"vpc-2": "10.30.0.0/16"})
    assert list(engine.created) == ["daybook-sandbox-vpc-2"]
    assert service.gateways == ["10.30.0.1"]


def test_a_network_is_kept_while_it_has_a_machine(networks, engine, service):
    network = networks.of_vpc("vpc-1", "10.20.0.0/16")
    engine.busy = {network.name}
    networks.keep_only(dict)
    assert service.gateways == ["10.20.0.1"]
    engine.busy = set()
    networks.keep_only(dict)
    assert service.gateways == []


def test_a_network_is_removed_if_a_service_cannot_serve_it(engine, service):
    broken = FakeService(is_broken=True)
    networks = Networks(engine, {}, [service, broken])
    with pytest.raises(OSError, match="already in use"):
        networks.of_vpc("vpc-1", "10.20.0.0/16")
    assert engine.created == {}
    assert service.gateways == []
    broken.is_broken = False
    networks.of_vpc("vpc-1", "10.20.0.0/16")
    assert service.gateways == broken.gateways == ["10.20.0.1"]
