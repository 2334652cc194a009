"""Secrets and a third environment, through the command line."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import boto3
import pexpect
import pytest
import yaml

from daybook.lock.object_lock import Holder, Lock

# Unique names and networks, because two sessions may share a sandbox.
APP = f"secrets{os.getpid()}"
VALUE = "postgres://shop:Zw9kQ4hunter@db/orders"
DECLARED = {"DATABASE_URL": "where the orders are kept", "MAIL_TOKEN": "lets the shop send mail"}
BUCKET = f"{APP}-state-123456789012"

pytestmark = [pytest.mark.sandbox, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def shop(sandbox, copy_project, make_project):
    """Return a bootstrapped project with two declared secrets."""
    root = copy_project(APP)
    (root / ".sandbox").symlink_to(sandbox.root / ".sandbox")
    shop = make_project(root)
    for number, env in enumerate(("staging", "production")):
        own = {"app": APP, "dns_zone": f"{APP}.test", "domains": [f"{env}.{APP}.test"]}
        shop.set(env, **own, vpc_cidr=f"10.{140 + number}.0.0/16", secrets=DECLARED)
    shop.step("bootstrap", "staging")
    yield shop
    for env in ("staging", "production"):
        for name in DECLARED:
            shop.succeed("secrets", "unset", name, "-e", env)


def client(sandbox, service: str):
    env = sandbox.env
    return boto3.client(
        service,
        endpoint_url=env["AWS_ENDPOINT_URL"],
        aws_access_key_id=env["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=env["AWS_SECRET_ACCESS_KEY"],
        region_name=env["AWS_REGION"],
    )


def value(sandbox, env: str, name: str) -> str:
    path = f"/{APP}/{env}/{name}"
    answer = client(sandbox, "ssm").get_parameter(Name=path, WithDecryption=True)
    return answer["Parameter"]["Value"]


def listed(shop, env: str) -> dict[str, dict]:
    secrets = json.loads(shop.succeed("secrets", "list", "-e", env, "--json"))
    return {secret["name"]: secret for secret in secrets}


def test_a_value_typed_at_a_terminal_is_not_shown(shop, sandbox):
    terminal = pexpect.spawn(
        str(Path(sys.executable).with_name("daybook")),
        ["secrets", "set", "DATABASE_URL", "-e", "staging"],
        env=os.environ | {"DAYBOOK_ROOT": str(shop.root)},
        encoding="utf-8",
        timeout=60,
    )
    output = ""
    for prompt in ("DATABASE_URL: ", "Repeat for confirmation: "):
        terminal.expect_exact(prompt)
        output += terminal.before
        terminal.waitnoecho()
        terminal.sendline(VALUE)
    output += terminal.read()
    assert terminal.wait() == 0, output
    assert "hunter" not in output
    assert value(sandbox, "staging", "DATABASE_URL") == VALUE


def test_no_file_contains_a_value(shop):
    file = shop.root / "shop.env"
    file.write_text(f"DATABASE_URL={VALUE}\nMAIL_TOKEN=x7hunterQ2\n")
    output = shop.succeed("secrets", "import", str(file), "-e", "staging")
    file.unlink()
    assert listed(shop, "staging")["MAIL_TOKEN"]["number"] == 1
    leaking = [
        path
        for path in shop.root.rglob("*")
        if path.is_file() and b"hunter" in path.read_bytes() and "tests" not in path.parts
    ]
    assert (leaking, "hunter" in output) == ([], False)


def test_diff_compares_both_environments(shop):
    difference = json.loads(shop.succeed("secrets", "diff", "staging", "production", "--json"))
    assert difference == dict.fromkeys(DECLARED, "in one only")


def test_no_secret_is_set_while_the_environment_is_locked(shop, sandbox):
    lock = Lock(client(sandbox, "s3"), BUCKET, "staging")
    lock.acquire(Holder(run="20261123T184500Z-provision-aaaaaa", operator="ann"))
    before = listed(shop, "staging")
    file = shop.root / "new.env"
    file.write_text("MAIL_TOKEN=another\n")
    done = shop.run("secrets", "import", str(file), "-e", "staging")
    lock.release()
    assert (done.returncode, "ann" in done.stdout) == (8, True)
    assert listed(shop, "staging") == before


@pytest.mark.parametrize("step", ["configure", "first-deploy"])
def test_preflight_names_missing_and_undeclared_secrets(shop, sandbox, step):
    ssm, path = client(sandbox, "ssm"), f"/{APP}/production/OLD_KEY"
    ssm.put_parameter(Name=path, Value="x", Type="SecureString")
    done = shop.run("run", step, "-p", "env", "production")
    ssm.delete_parameter(Name=path)
    assert done.returncode == 3
    for text in (
        "DATABASE_URL has no value; MAIL_TOKEN has no value; OLD_KEY is not declared",
        "fix: daybook secrets set DATABASE_URL -e production",
    ):
        assert text in done.stdout


def test_a_third_environment_is_created_with_one_command(shop, sandbox):
    output = shop.succeed("env", "new", "demo")
    assert f"daybook secrets set NAME -e demo, for {', '.join(DECLARED)}" in output
    settings = yaml.safe_load((shop.root / "environments/demo.yml").read_text())
    assert (settings["app"], settings["domains"]) == (APP, [f"demo.{APP}.test"])
    assert "daybook run bootstrap -p env demo" in output
    shop.step("bootstrap", "demo")
    done = shop.run("run", "provision", "-p", "env", "demo")
    assert done.returncode == 4, done.stdout
    assert f'aws_route53_record.app["demo.{APP}.test"]' in done.stdout
    assert shop.record("demo", "provision")["status"] == "waiting"
    playbook = ("--syntax-check", "-i", "demo,", "ansible/demo.yml")
    shop.succeed(*playbook, program="ansible-playbook")
