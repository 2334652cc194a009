"""The whole life of the application, in staging and beside it in production."""

from __future__ import annotations

import boto3
import dns.resolver
import httpx
import pytest

from daybook import inventory

pytestmark = [pytest.mark.sandbox, pytest.mark.timeout(1800)]

NAMES = {"staging": "staging.daybook.test", "production": "www.daybook.test"}
STEPS = ("provision", "configure", "first-deploy")


@pytest.fixture(scope="module")
def world(sandbox):
    """Return the sandbox with both environments living; what is left of them goes at the end."""
    sandbox.set("production", protected=False)
    sandbox.step("bootstrap", "staging")
    for env in NAMES:
        for step in STEPS:
            sandbox.step(step, env)
    yield sandbox
    for env in NAMES:
        if (sandbox.root / "ansible/inventories" / env).exists():
            sandbox.step("teardown", env)


def address(world, env: str) -> str:
    """Return the Elastic IP of an environment's machine, from the inventory."""
    [found] = inventory.read(world.root / "ansible/inventories" / env).values()
    return found


def resolve(world, name: str) -> list[str]:
    """Ask the sandbox's name server as anybody would ask the internet's."""
    host, port = world.env["DAYBOOK_NAMESERVER"].split(":")
    resolver = dns.resolver.Resolver(configure=False)
    resolver.nameservers, resolver.port = [host], int(port)
    return [answer.to_text() for answer in resolver.resolve(name, "A")]


def version(world, env: str) -> dict:
    """Return what the application says of itself, fetched by its public name."""
    [found] = resolve(world, NAMES[env])
    answer = httpx.get(f"http://{found}/version", headers={"Host": NAMES[env]}, timeout=10)
    return answer.raise_for_status().json()


@pytest.mark.parametrize("env", NAMES)
def test_the_page_answers_under_its_name_and_says_where_it_runs(world, env):
    assert resolve(world, NAMES[env]) == [address(world, env)]
    assert version(world, env)["environment"] == env


def test_neither_environment_reaches_the_other(world):
    get = "curl --silent --show-error --max-time 5 --output /dev/null http://{}/"
    own = world.run("sandbox", "ssh", "staging", get.format("127.0.0.1"))
    assert own.returncode == 0, own.stdout
    private = world.succeed("sandbox", "ssh", "production", "hostname --all-ip-addresses")
    target = next(word for word in private.split() if word.startswith("10.30."))
    assert world.run("sandbox", "ssh", "staging", get.format(target)).returncode in (7, 28)


@pytest.mark.parametrize("step", STEPS)
def test_a_step_again_changes_nothing_and_says_so(world, step):
    assert "no changes" in world.step(step, "staging").lower()


def test_teardown_takes_one_environment_and_leaves_the_other(world):
    gone = address(world, "staging")
    assert "is left" in world.step("teardown", "staging")
    with pytest.raises(httpx.TransportError):
        httpx.get(f"http://{gone}/", timeout=5)
    assert version(world, "production")["environment"] == "production"
    world.step("teardown", "production")
    assert leftovers(world) == []


def leftovers(world) -> list[str]:
    """Return what EC2 still has of either environment."""
    keys = (world.env["AWS_ACCESS_KEY_ID"], world.env["AWS_SECRET_ACCESS_KEY"])
    session = boto3.Session(*keys, region_name=world.env["AWS_REGION"])
    ec2 = session.client("ec2", endpoint_url=world.env["AWS_ENDPOINT_URL"])
    ours = [{"Name": "tag:managed_by", "Values": ["daybook"]}]
    found = ec2.describe_instances(Filters=ours)["Reservations"]
    living = [i for r in found for i in r["Instances"] if i["State"]["Name"] != "terminated"]
    vpcs = ec2.describe_vpcs(Filters=ours)["Vpcs"]
    addresses = ec2.describe_addresses(Filters=ours)["Addresses"]
    return [str(thing) for thing in (*living, *vpcs, *addresses)]
