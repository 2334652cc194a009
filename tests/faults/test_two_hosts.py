"""A release on two hosts: on both or on neither."""

from __future__ import annotations

import json
import os

import pytest
import yaml

APP = f"pair{os.getpid()}"
ENV = "staging"

pytestmark = [pytest.mark.faults, pytest.mark.sandbox, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def pair(sandbox, copy_project, make_project):
    """Yield a project with two staging hosts that serve a first version."""
    root = copy_project(APP)
    (root / ".sandbox").symlink_to(sandbox.root / ".sandbox")
    pair = make_project(root)
    instance = yaml.safe_load((root / f"environments/{ENV}.yml").read_text())["instance"]
    own = {"app": APP, "dns_zone": f"{APP}.test", "domains": [f"{ENV}.{APP}.test"]}
    pair.set(
        ENV, **own, vpc_cidr="10.44.0.0/16", instance=instance | {"count": 2}, deploy_via="none"
    )
    for step in ("bootstrap", "provision", "configure", "first-deploy"):
        pair.step(step, ENV)
    yield pair
    pair.step("teardown", ENV)


def served(pair) -> dict[str, tuple[str, str]]:
    """Return each host's serving version and the result of its newest release."""
    releases = json.loads(pair.succeed("release", "list", ENV, "--json"))
    current = json.loads(pair.succeed("release", "current", ENV, "--json"))
    return {
        host: (current[host]["serving_version"], newest["result"])
        for host, (newest, *_) in releases.items()
    }


def test_if_the_second_host_fails_the_first_is_rolled_back(pair, sandbox):
    before = served(pair)
    assert {result for _, result in before.values()} == {"serving"}
    page = pair.root / "app/page.html"
    page.write_text(page.read_text() + "<!-- the second version -->\n")
    sandbox.succeed("sandbox", "ssh", f"{APP}-{ENV}-2", "sudo systemctl stop caddy")
    done = pair.run("run", "first-deploy", "-p", "env", ENV, "-p", "approve", "auto")
    assert (
        sandbox.run("sandbox", "ssh", f"{APP}-{ENV}-2", "sudo systemctl start caddy").stdout == ""
    )
    assert done.returncode == 3, done.stdout
    first, second = f"{APP}-{ENV}-1", f"{APP}-{ENV}-2"
    version = before[first][0]
    assert f"{second}: Caddy is not running" in done.stdout
    assert f"{first} serves {version} again." in done.stdout
    assert served(pair) == {first: (version, "rolled back"), second: (version, "serving")}


def test_once_the_host_is_fixed_both_get_the_version(pair):
    before = served(pair)
    pair.step("deploy", ENV)
    after = served(pair)
    assert {result for _, result in after.values()} == {"serving"}
    [version] = {version for version, _ in after.values()}
    assert version not in {version for version, _ in before.values()}


def test_both_are_rolled_back(pair):
    newer = served(pair)
    pair.step("rollback", ENV)
    versions = {version for version, _ in served(pair).values()}
    assert len(versions) == 1
    assert versions.isdisjoint(version for version, _ in newer.values())
