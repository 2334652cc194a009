"""Access of local users and containers to the listeners on a configured host.

The two tables below contain all listeners. A listener in neither of them fails the test: close it,
or add it with the users that may connect and the reason.
"""

from __future__ import annotations

import json
import re
import shlex
import threading
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pytest

from .plays import play

pytestmark = [
    pytest.mark.sandbox,
    pytest.mark.timeout(1800),
    pytest.mark.usefixtures("serving"),
]

ENV = "staging"
PROBE = Path(__file__).with_name("connect.py")
RUNNER = "github-runner"
METRICS = "disk-metrics"
NOBODY_AT_ALL = 54321
"""A UID without an account, like that of a DynamicUser or a container's process."""
FIRST_PORT = 8000


@dataclass(frozen=True)
class Listener:
    """A listening port and the users that may connect. users: None for all."""

    protocol: str
    addresses: Collection[str]
    port: int
    program: str
    users: frozenset[str] | None = None
    from_containers: bool = False


ANY = ("*", "0.0.0.0", "[::]")
LOOPBACK = ("127.0.0.1",)
PORTS = (
    # The operators; other local users do not need SSH.
    Listener("tcp", ANY, 22, "sshd", frozenset({"root", "admin"})),
    # The public site.
    Listener("tcp", ANY, 80, "caddy", from_containers=True),
    Listener("tcp", ANY, 443, "caddy", from_containers=True),
    Listener("udp", ANY, 443, "caddy", from_containers=True),
    # The application's slots: Caddy proxies to one, releases check the health of both.
    Listener("tcp", LOOPBACK, FIRST_PORT, "docker-proxy", frozenset({"root", "caddy"})),
    Listener("tcp", LOOPBACK, FIRST_PORT + 1, "docker-proxy", frozenset({"root", "caddy"})),
)

ROOT, CADDY, ADMIN = frozenset({"root"}), frozenset({"root", "caddy"}), frozenset({"root", "admin"})
SOCKETS: dict[str, frozenset[str] | None] = {
    r"/run/caddy/admin\.sock": CADDY,
    # Equivalent to root.
    r"(/var)?/run/docker\.sock": ROOT,
    r"(/var)?/run/docker/.*\.sock": ROOT,
    r"/run/containerd/.*": ROOT,
    r"/run/systemd/private": ROOT,
    r"/run/systemd/inaccessible/sock": ROOT,
    r"/run/systemd/io\.systemd\.sysext": ROOT,
    r"/run/systemd/journal/io\.systemd\.journal": ROOT,
    r"/run/cloud-init/share/.*\.sock": ROOT,
    # The login session of the operators' user.
    r"/run/user/1000/.*": ADMIN,
    # The bus's policies authorize each call; without polkit, only root can make changes.
    r"/run/dbus/system_bus_socket": None,
    # systemd identifies senders by their cgroups.
    r"/run/systemd/notify": None,
    # All users may write to the journal.
    r"/run/systemd/journal/(stdout|socket|dev-log)": None,
    # Looks up user names.
    r"/run/systemd/userdb/io\.systemd\.DynamicUser": None,
    # Answers only systemd-oomd.
    r"/run/systemd/io\.systemd\.ManagedOOM": None,
    # Reports the host name; only root can change it.
    r"/run/systemd/io\.systemd\.Hostname": None,
}
"""Each unix socket and the users that may connect, None for all."""

METADATA = ("169.254.169.254", "::ffff:169.254.169.254")
OTHER_CREDENTIALS = ("169.254.170.2", "169.254.170.23", "fd00:ec2::254", "fd00:ec2::23")
"""Amazon's other credential endpoints: for ECS, for EKS, and over IPv6."""
TOKEN = (
    "curl --silent --max-time 5 --output /dev/null --write-out '%{http_code}' --request PUT "
    "--header 'X-aws-ec2-metadata-token-ttl-seconds: 60' http://169.254.169.254/latest/api/token"
)


IPV6 = (
    "for interface in all default lo; do "
    "echo {off} > /proc/sys/net/ipv6/conf/$interface/disable_ipv6; done"
)


@dataclass(frozen=True)
class Host:
    """Staging's host, with commands run as root."""

    life: object

    def sh(self, line: str) -> str:
        """Return the output of a shell line, which must succeed."""
        return self.life.out(ENV, f"sudo sh -c {shlex.quote(line)}")

    def fails(self, line: str) -> bool:
        """Return True if a shell line fails."""
        return self.life.on_host(ENV, f"sudo sh -c {shlex.quote(line)}").returncode != 0

    def start(self, unit: str, command: str) -> None:
        """Run a command in the background as a unit."""
        self.sh(f"systemd-run --quiet --collect --unit={unit} {command}")

    @cached_property
    def users(self) -> dict[str, int]:
        """Return the UID of each account, and one without an account: {"caddy": 993}."""
        rows = (line.split(":") for line in self.sh("getent passwd").splitlines())
        return {row[0]: int(row[2]) for row in rows} | {"-": NOBODY_AT_ALL}

    @property
    def addresses(self) -> list[str]:
        """Return the host's VPC, bridge and loopback addresses, without link-local ones."""
        rows = self.sh("ip -oneline address show scope global; ip -oneline address show dev lo")
        return [line.split()[3].partition("/")[0] for line in rows.splitlines()]

    def connecting(self, addresses: Collection[str]) -> dict[str, set[str]]:
        """Return the addresses that each user can connect to."""
        users = self.users
        wanted = shlex.quote(json.dumps(sorted(addresses)))
        uids = " ".join(str(uid) for uid in users.values())
        answers = json.loads(self.sh(f"python3 /root/connect.py {wanted} {uids}"))
        return {user: set(answers[str(uid)]) for user, uid in users.items()}

    def in_unit(self, addresses: Collection[str]) -> set[str]:
        """Return the same for a unit with all properties of the runner's except the program."""
        wanted = shlex.quote(json.dumps(sorted(addresses)))
        return set(json.loads(self.sh(f"{self.unit} python3 /opt/probe/connect.py {wanted}")))

    @cached_property
    def unit(self) -> str:
        """Return a command that runs another one in a unit like the runner's."""
        lines = self.sh(f"cat /etc/systemd/system/{RUNNER}.service").splitlines()
        service = lines[lines.index("[Service]") + 1 : lines.index("[Install]")]
        kept = [line for line in service if re.match(r"(?!Exec|Restart|#)\w+=", line)]
        assert any(line.startswith("IPAddressDeny=169.254.169.254") for line in kept)
        properties = " ".join(f"--property={shlex.quote(line)}" for line in kept)
        return f"systemd-run --quiet --pipe --wait --collect {properties}"

    def in_container(self, network: str, addresses: Collection[str]) -> set[str]:
        """Return the addresses that a container on a network can connect to."""
        wanted = shlex.quote(json.dumps(sorted(addresses)))
        probe = "--volume /opt/probe/connect.py:/connect.py:ro --entrypoint python3"
        run = f"docker run --rm --network {network} {probe} {self.image} /connect.py {wanted}"
        return set(json.loads(self.sh(run)))

    @cached_property
    def image(self) -> str:
        """Return the ID of the application's image."""
        running = f"docker ps --quiet --filter label=com.docker.compose.project={self.life.app}"
        return self.sh(f"docker inspect --format '{{{{.Image}}}}' $({running} | head --lines 1)")


@pytest.fixture(scope="module")
def host(life) -> Iterator[Host]:
    """Yield staging's host with the probe installed, readable by all."""
    host = Host(life)
    quoted = shlex.quote(PROBE.read_text())
    host.sh("install -d -m 0755 /opt/probe")
    life.out(ENV, f"printf %s {quoted} | sudo tee /opt/probe/connect.py /root/connect.py >&2")
    host.sh("chmod 0644 /opt/probe/connect.py")
    # Docker disables IPv6 in the sandbox's machines; EC2 does not.
    host.sh(IPV6.format(off=0))
    yield host
    host.sh(IPV6.format(off=1))
    host.sh("rm -r /opt/probe /root/connect.py")


@pytest.fixture(scope="module")
def networks(host, life) -> Iterator[list[str]]:
    """Yield Docker networks: the default, the application's, two new ones and one with IPv6."""
    made = {
        "made-up": "",
        "renamed": "--opt com.docker.network.bridge.name=uplink0",
        "six": "--ipv6 --subnet fd99:1::/64",
    }
    for name, options in made.items():
        host.sh(f"docker network create {options} {name}")
    yield ["bridge", f"{life.app}_default", *made]
    host.sh(f"docker network rm {' '.join(made)}")


@pytest.fixture(scope="module")
def both_slots(host) -> Iterator[None]:
    """Listen on the free slot too, as during a release."""
    busy = host.sh("ss --listening --tcp --numeric --no-header 'src 127.0.0.1'")
    [free] = [port for port in (FIRST_PORT, FIRST_PORT + 1) if f":{port} " not in busy]
    host.start("free-slot", f"python3 -m http.server --bind 127.0.0.1 {free}")
    host.sh(f"timeout 20 sh -c 'until curl -s -o /dev/null 127.0.0.1:{free}; do sleep 0.1; done'")
    yield
    host.sh("systemctl stop free-slot")


@pytest.fixture(scope="module")
def credentials(host) -> Iterator[list[str]]:
    """Assign Amazon's other credential addresses to the host; Caddy listens on all addresses."""
    for address in OTHER_CREDENTIALS:
        host.sh(f"ip address add {address} dev lo")
    yield [f"tcp {address} 80" for address in OTHER_CREDENTIALS]
    for address in OTHER_CREDENTIALS:
        host.sh(f"ip address delete {address} dev lo")


def listening(host: Host) -> list[tuple[str, str, int, str]]:
    """Return the listeners: [("tcp", "127.0.0.1", 8000, "docker-proxy")]."""
    rows = []
    for line in host.sh(
        "ss --listening --tcp --udp --numeric --processes --no-header"
    ).splitlines():
        protocol, _, _, _, local, _, *process = line.split()
        address, port = local.rsplit(":", 1)
        program = re.search(r'"([^"]+)"', " ".join(process))
        rows.append((protocol, address, int(port), program[1] if program else ""))
    # Docker's DNS for the machine, a container in the sandbox.
    return [row for row in rows if row[1] != "127.0.0.11"]


def unix_sockets(host: Host) -> set[str]:
    """Return the paths of all unix sockets that accept root, abstract ones with an @."""
    open_ones = host.sh("ss --listening --unix --no-header").splitlines()
    paths = {line.split()[4] for line in open_ones}
    files = host.sh("find / /run /dev/shm -xdev -type s")
    paths = (paths | set(files.splitlines())) - {"*"}
    # Ignore a file that no process listens on any more.
    answering = host.connecting([f"unix {path}" for path in paths])["root"]
    return {path for path in paths if f"unix {path}" in answering}


def meant_for(user: str, addresses: Mapping[str, tuple[Listener, str]]) -> set[str]:
    """Return the addresses that a user may connect to."""
    return {
        key
        for key, (listener, address) in addresses.items()
        if listener.addresses is ANY or address in listener.addresses
        if listener.users is None or user in listener.users
    }


def by_every_address(host: Host) -> dict[str, tuple[Listener, str]]:
    """Return each TCP listener by each address of the host, in the probe's format."""
    tcp = [listener for listener in PORTS if listener.protocol == "tcp"]
    return {
        f"tcp {address} {listener.port}": (listener, address)
        for address in host.addresses
        for listener in tcp
    }


def test_no_other_port_is_listening(host):
    known = {(each.protocol, address, each.port) for each in PORTS for address in each.addresses}
    assert [row for row in listening(host) if row[:3] not in known] == []
    programs = {each.port: each.program for each in PORTS}
    assert [row for row in listening(host) if row[3] not in ("", programs[row[2]])] == []


def test_each_port_accepts_only_its_users(host, both_slots):
    addresses = by_every_address(host)
    for user, connected in host.connecting(addresses).items():
        assert connected == meant_for(user, addresses), user


def test_each_port_treats_the_runners_unit_like_its_user(host, both_slots):
    addresses = by_every_address(host)
    assert host.in_unit(addresses) == meant_for(RUNNER, addresses)


def test_each_port_accepts_only_its_containers(host, networks, both_slots):
    loopback = ("127.0.0.1", "::1")
    addresses = {k: v for k, v in by_every_address(host).items() if v[1] not in loopback}
    for network in networks:
        expected = {
            key
            for key, (listener, address) in addresses.items()
            if listener.from_containers and (network == "six" or ":" not in address)
        }
        assert host.in_container(network, addresses) == expected, network


def test_each_unix_socket_accepts_only_its_users(host):
    def who_may(path: str) -> frozenset[str] | None:
        return next(users for form, users in SOCKETS.items() if re.fullmatch(form, path))

    paths = unix_sockets(host)
    unknown = [path for path in paths if not any(re.fullmatch(form, path) for form in SOCKETS)]
    assert unknown == []
    wanted = {f"unix {path}" for path in paths}
    answers = [*host.connecting(wanted).items(), (RUNNER, host.in_unit(wanted))]
    for user, connected in answers:
        meant = {f"unix {path}" for path in paths if who_may(path) is None or user in who_may(path)}
        assert connected - meant == set(), user
    assert "unix /run/caddy/admin.sock" in dict(answers)["caddy"]


def test_groups_equivalent_to_root_are_empty(host):
    for group in ("docker", "adm", "caddy", "systemd-journal", "disk"):
        members = host.sh(f"getent group {group} || true").rpartition(":")[2]
        assert set(members.split(",")) - {"", "admin"} == set(), group


@pytest.mark.attack("F1", "any local user asks for instance metadata, by any address of it")
def test_only_root_and_the_metrics_reach_instance_metadata(host, credentials):
    metadata = {f"tcp {address} 80" for address in METADATA}
    answers = host.connecting([*metadata, *credentials])
    assert answers["root"] == metadata | set(credentials)
    assert answers[METRICS] == metadata | {"tcp fd00:ec2::254 80"}
    assert {user for user, seen in answers.items() if seen} == {"root", METRICS}
    assert host.in_unit([*metadata, *credentials]) == set()


@pytest.mark.attack("F1", "a container asks for instance metadata")
def test_no_container_reaches_instance_metadata(host, networks, credentials):
    metadata = [f"tcp {address} 80" for address in METADATA]
    for network in networks:
        assert host.in_container(network, [*metadata, *credentials]) == set(), network


GOT_TOKEN = f"{TOKEN} | grep 200"
TRIES = {
    "asks Caddy's admin API on its former port": "curl --fail --max-time 3 127.0.0.1:2019/config/",
    "writes to Caddy's admin API on its former port": (
        "curl --fail --max-time 3 --request PUT --header 'Content-Type: application/json' "
        '--data \'{"listen": ["127.0.0.1:8099"]}\' 127.0.0.1:2019/config/apps/http/servers/x'
    ),
    "asks Caddy's admin API on its socket": (
        "curl --fail --max-time 3 --unix-socket /run/caddy/admin.sock http://127.0.0.1/config/"
    ),
    "looks at Caddy's socket": "ls /run/caddy",
    "reloads Caddy": "caddy reload --config /etc/caddy/Caddyfile",
    "asks for metadata": GOT_TOKEN,
    "asks for metadata by the mapped address": (
        GOT_TOKEN.replace("169.254.169.254", "[::ffff:169.254.169.254]")
    ),
    "asks for metadata by the address as a number": (
        GOT_TOKEN.replace("169.254.169.254", "2852039166")
    ),
    "asks for metadata as root of a user namespace": f"unshare --user --map-root-user {GOT_TOKEN}",
    "asks for metadata with Caddy as a proxy": (
        GOT_TOKEN.replace("curl", "curl --proxy http://127.0.0.1:80", 1)
    ),
    "asks for metadata through Caddy, by its name": (
        GOT_TOKEN.replace("http://169.254.169.254", "-H 'Host: 169.254.169.254' http://127.0.0.1")
    ),
    "has the AWS CLI ask for metadata": "aws sts get-caller-identity",
    "has the AWS CLI ask the mapped address": (
        "env AWS_EC2_METADATA_SERVICE_ENDPOINT='http://[::ffff:a9fe:a9fe]' "
        "aws sts get-caller-identity"
    ),
    "has the AWS CLI ask as a task of ECS": (
        "env AWS_CONTAINER_CREDENTIALS_FULL_URI=http://169.254.170.23/v1/credentials "
        "aws sts get-caller-identity"
    ),
    "asks the application past Caddy": (
        "curl --max-time 3 127.0.0.1:8000 || curl --max-time 3 127.0.0.1:8001"
    ),
    "renames the host": "hostnamectl hostname mine",
    "reboots the host": (
        "busctl call org.freedesktop.login1 /org/freedesktop/login1 "
        "org.freedesktop.login1.Manager Reboot b false"
    ),
    "removes the rules": "nft flush ruleset",
}
"""Attempts by each of the users below, which must fail."""


@pytest.mark.attack("F1", "a step on the runner, or a local user, uses the host's local services")
@pytest.mark.parametrize("what", TRIES)
def test_local_users_cannot_use_the_hosts_services(host, what):
    attempt = f"bash -o pipefail -c {shlex.quote(TRIES[what])}"
    users = (RUNNER, "nobody", "_apt", "app")
    callers = {user: f"setpriv --reuid {user} --clear-groups" for user in users}
    callers["the runner's unit"] = host.unit
    lines = [
        f"{command} {attempt} >&2 </dev/null && echo {shlex.quote(user)}"
        for user, command in callers.items()
    ]
    assert host.sh(f"cd /; {{ {'; '.join(lines)}; }} 2>/dev/null; echo tried") == "tried"


PROXY_HEADERS = {
    "set": {"Host": ["169.254.169.254"]},
    "delete": ["X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto"],
}
"""The metadata service refuses forwarded requests."""
PROXY_HANDLER = {
    "handler": "reverse_proxy",
    "upstreams": [{"dial": "169.254.169.254:80"}],
    "headers": {"request": PROXY_HEADERS},
}
PROXY_SERVER = {"listen": ["127.0.0.1:8099"], "routes": [{"handle": [PROXY_HANDLER]}]}
PROXY = {"admin": {"disabled": True}, "apps": {"http": {"servers": {"x": PROXY_SERVER}}}}


@pytest.mark.attack("F1", "Caddy itself is made to ask for metadata, as an image's site might")
@pytest.mark.parametrize(("user", "status"), [("root", "200"), ("caddy", "502")])
def test_caddy_as_a_proxy_gets_no_metadata(host, user, status):
    config = shlex.quote(json.dumps(PROXY))
    host.sh(f"printf %s {config} > /opt/probe/proxy.json")
    run = "caddy run --config /opt/probe/proxy.json"
    host.start("proxy", f"--property=User={user} --setenv=HOME=/tmp {run}")
    until = "until curl --silent 127.0.0.1:8099; do sleep 0.1; done"
    ask = TOKEN.replace("169.254.169.254/", "127.0.0.1:8099/")
    answer = host.sh(f"timeout 20 sh -c '{until}' >&2; {ask}")
    host.sh("systemctl stop proxy")
    assert answer.endswith(status)


@pytest.mark.attack("F1", "a local user reaches a container without Caddy")
def test_local_users_reach_no_container(host, networks):
    form = shlex.quote("{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}")
    for network in networks:
        run = f"docker run --detach --rm --network {network} --entrypoint python3 {host.image}"
        container = host.sh(f"{run} -m http.server 8080")
        address = f"tcp {host.sh(f'docker inspect --format {form} {container}')} 8080"
        probe = f"python3 /root/connect.py {shlex.quote(json.dumps([address]))}"
        host.sh(f"for try in $(seq 50); do {probe} | grep tcp && break; sleep 0.2; done")
        answers = host.connecting([address])
        host.sh(f"docker kill {container}")
        assert [user for user, seen in answers.items() if seen] == ["root"], network


RESTART_DOCKER = "systemctl reset-failed docker.service docker.socket; systemctl restart docker"
"""More frequent than systemd's own updates."""
RESTARTS = {
    "nftables restarted": "systemctl restart nftables",
    "nftables reloaded": "systemctl start nftables; systemctl reload nftables",
    "nftables stopped": "systemctl start nftables; systemctl stop nftables",
    "Docker restarted": RESTART_DOCKER,
    "systemd executed anew": "systemctl daemon-reexec",
}


@pytest.mark.parametrize("what", RESTARTS)
def test_the_rules_survive_changes_by_other_services(host, what):
    host.sh(RESTARTS[what])
    try:
        assert users_with_metadata(host) == {"root", METRICS}
    finally:
        # Debian's nftables also removes Docker's rules.
        host.sh(RESTART_DOCKER)


def users_with_metadata(host: Host) -> set[str]:
    """Return the users with access to metadata, once the sandbox's redirect is back for root."""
    host.sh(f"for try in $(seq 50); do {GOT_TOKEN} && break; sleep 0.2; done")
    answers = host.connecting(["tcp 169.254.169.254 80"])
    return {user for user, seen in answers.items() if seen}


def test_the_rules_are_loaded_at_boot_before_anything_that_uses_the_network(host):
    before = host.sh("systemctl show --value --property=Before daybook-firewall").split()
    assert {"sysinit.target", "network-pre.target"} <= set(before)
    assert host.sh("systemctl is-enabled daybook-firewall") == "enabled"
    assert "daybook-firewall.service" in host.sh(f"systemctl show --property=Requires {RUNNER}")


def test_removed_rules_are_restored_by_the_next_play(host, life):
    assert "changed=0" in play(life, "firewall")
    host.sh("nft delete table inet daybook")
    assert "changed=1" in play(life, "firewall", check=True)
    assert "changed=1" in play(life, "firewall")
    assert users_with_metadata(host) == {"root", METRICS}
    assert "changed=0" in play(life, "firewall")


def test_an_admin_api_on_tcp_moves_to_the_socket_without_failed_requests(host, life):
    """Upgrade a host that an earlier version of Daybook configured."""
    host.sh(
        "systemctl stop caddy; rm -r /etc/systemd/system/caddy.service.d /run/caddy || true; "
        "sed --in-place '/^\tadmin /d' /etc/caddy/Caddyfile; "
        "systemctl daemon-reload; systemctl start caddy"
    )
    assert host.connecting(["tcp 127.0.0.1 2019"])["nobody"]
    asked, stop = [], threading.Event()

    def visit() -> None:
        while not stop.is_set():
            asked.append(life.fetch(ENV, "/version").status_code)

    visitor = threading.Thread(target=visit)
    visitor.start()
    said = play(life, "caddy")
    stop.set()
    visitor.join()
    lost = [status for status in asked if status != 200]
    assert (lost, len(asked) > 10) == ([], True)
    assert "changed=" in said
    assert host.connecting(["tcp 127.0.0.1 2019"])["root"] == set()
    assert host.connecting(["unix /run/caddy/admin.sock"])["caddy"]
    for action in ("reload", "reload", "restart", "reload"):
        host.sh(f"systemctl {action} caddy")
        assert host.sh("stat --format '%a %U' /run/caddy") == "700 caddy"
        answers = host.connecting(["unix /run/caddy/admin.sock"])
        assert {user for user, seen in answers.items() if seen} == {"root", "caddy"}
    assert "changed=0" in play(life, "caddy")
