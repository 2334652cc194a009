"""`daybook secrets`: values are never shown, undeclared names are refused."""

from __future__ import annotations

import json
from pathlib import Path

import click
import httpx
import pytest
import yaml
from botocore.client import BaseClient
from click.testing import CliRunner
from moto.server import ThreadedMotoServer

from daybook import aws
from daybook.cli import secrets as cli_secrets
from daybook.environment import Environment
from daybook.errors import CommandFailed, DaybookError, Locked, PreflightFailed, SettingsError
from daybook.lock import recovery
from daybook.lock.object_lock import Holder
from daybook.target import Target

CHECKOUT = Path(__file__).parents[3]
TARGET = """\
AWS_ENDPOINT_URL={endpoint}
AWS_REGION=us-east-1
AWS_DEFAULT_REGION=us-east-1
AWS_ACCESS_KEY_ID=test
AWS_SECRET_ACCESS_KEY=test
"""
DECLARED = {"DATABASE_URL": "where the orders are kept", "MAIL_TOKEN": "lets the shop send mail"}
VALUE = "postgres://shop:Zw9kQ4hunter@db/orders"


@pytest.fixture(scope="module")
def endpoint():
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    yield f"http://127.0.0.1:{server.get_host_and_port()[1]}"
    server.stop()


@pytest.fixture
def root(tmp_path, endpoint, monkeypatch):
    """Return a project with two environments that declare the same secrets, in empty AWS."""
    for env in ("staging", "production"):
        path = tmp_path / f"environments/{env}.yml"
        path.parent.mkdir(exist_ok=True)
        said = yaml.safe_load((CHECKOUT / f"environments/{env}.yml").read_text())
        path.write_text(yaml.safe_dump(said | {"secrets": DECLARED}, sort_keys=False))
    (tmp_path / ".sandbox").mkdir()
    (tmp_path / ".sandbox/target.env").write_text(TARGET.format(endpoint=endpoint))
    monkeypatch.setenv("DAYBOOK_ROOT", str(tmp_path))
    made: dict[str, BaseClient] = {}
    make = aws.client

    def kept(target: Target, service: str) -> BaseClient:
        """Return one client per service: creating one is slow."""
        made[service] = made.get(service) or make(target, service)
        return made[service]

    monkeypatch.setattr(aws, "client", kept)
    httpx.post(f"{endpoint}/moto-api/reset")
    environment(tmp_path).client("s3").create_bucket(Bucket="hello-state-123456789012")
    return tmp_path


def environment(root: Path) -> Environment:
    return Environment.load(root, "staging")


def run(*args: str, given: str = "") -> str:
    done = CliRunner().invoke(cli_secrets.secrets, args, input=given, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def value(root: Path, env: str, name: str) -> str:
    ssm = environment(root).client("ssm")
    answer = ssm.get_parameter(Name=f"/hello/{env}/{name}", WithDecryption=True)
    return answer["Parameter"]["Value"]


def records(root: Path) -> list[dict]:
    """Return the closed records, sorted by start time."""
    return [json.loads(p.read_text()) for p in sorted(root.glob("runs/*/*/record.json"))]


def everything_in(root: Path) -> bytes:
    return b"".join(path.read_bytes() for path in root.glob("runs/**/*") if path.is_file())


def test_set_reads_stdin_and_does_not_show_it(root):
    said = run("set", "DATABASE_URL", "-e", "staging", given=f"{VALUE}\n")
    assert value(root, "staging", "DATABASE_URL") == VALUE
    assert "✓ set    DATABASE_URL   1" in said
    [record] = records(root)
    assert (record["step"], record["status"]) == ("secrets-set", "succeeded")
    assert record["changes"][0]["what"] == "/hello/staging/DATABASE_URL version 1"
    assert "hunter" not in said
    assert b"hunter" not in everything_in(root)


def test_set_removes_one_line_break_from_the_end_of_a_file(root, tmp_path):
    file = tmp_path / "value"
    file.write_text("first\nsecond\n\n")
    run("set", "DATABASE_URL", "-e", "staging", "--file", str(file))
    assert value(root, "staging", "DATABASE_URL") == "first\nsecond\n"


def test_the_prompt_asks_twice_and_hides_the_value(root, monkeypatch):
    asked = []
    monkeypatch.setattr(cli_secrets.sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(click, "prompt", lambda *said, **how: asked.append((said, how)) or VALUE)
    assert cli_secrets._read_value("TOKEN", None) == VALUE
    assert asked == [(("TOKEN",), {"hide_input": True, "confirmation_prompt": True})]


def test_the_same_value_is_not_set_again(root):
    for _ in range(2):
        said = run("set", "DATABASE_URL", "-e", "staging", given=VALUE)
    assert "no change" in said
    assert sorted(len(record["changes"]) for record in records(root)) == [0, 1]


@pytest.mark.parametrize("words", [("DATABASE_URL", VALUE), (f"DATABASE_URL={VALUE}",)])
def test_a_value_as_an_argument_is_refused_and_not_repeated(root, words):
    with pytest.raises(SettingsError, match="cannot be passed as an argument") as caught:
        run("set", *words, "-e", "staging")
    assert "hunter" not in str(caught.value)


@pytest.mark.parametrize(
    ("command", "given"),
    [
        (("set", "DATABASE_URI"), VALUE),
        (("import", "-"), f"MAIL_TOKEN=x\nDATABASE_URI={VALUE}\nOTHER=x\n"),
    ],
)
def test_an_undeclared_name_prevents_every_change(root, command, given):
    with pytest.raises(SettingsError) as caught:
        run(*command, "-e", "staging", given=given)
    text = str(caught.value)
    assert "DATABASE_URI: did you mean DATABASE_URL?" in text
    assert "environments/staging.yml" in text
    assert "hunter" not in text
    assert "no value" in run("list", "-e", "staging")
    assert records(root) == []


def test_import_sets_each_value_that_differs(root, tmp_path):
    file = tmp_path / "shop.env"
    file.write_text(f"# the shop\nexport DATABASE_URL='{VALUE}'\nMAIL_TOKEN=one\n")
    run("import", str(file), "-e", "staging")
    file.write_text(file.read_text().replace("=one", "=two"))
    said = run("import", str(file), "-e", "staging").splitlines()
    assert any("no change" in line and "DATABASE_URL" in line for line in said)
    assert any("set" in line and "MAIL_TOKEN" in line and line.endswith("2") for line in said)
    assert value(root, "staging", "MAIL_TOKEN") == "two"
    assert b"hunter" not in everything_in(root)


def test_all_invalid_values_are_listed_before_any_is_set(root):
    with pytest.raises(SettingsError) as caught:
        run("import", "-", "-e", "staging", given=f"DATABASE_URL={'x' * 5000}\nMAIL_TOKEN=\n")
    assert caught.value.details == (
        "DATABASE_URL has 5000 bytes; Parameter Store allows at most 4096",
        "MAIL_TOKEN is empty",
    )
    assert records(root) == []


def test_a_failure_after_a_change_names_the_change_and_is_recorded(root, monkeypatch):
    put = cli_secrets.Store.put

    def refuse_mail(store, name, value, note):
        if name == "MAIL_TOKEN":
            raise CommandFailed("ssm:PutParameter failed.")
        return put(store, name, value, note)

    monkeypatch.setattr(cli_secrets.Store, "put", refuse_mail)
    with pytest.raises(CommandFailed) as caught:
        run("import", "-", "-e", "staging", given="DATABASE_URL=one\nMAIL_TOKEN=two\n")
    assert caught.value.changed == "Already set: DATABASE_URL."
    [record] = records(root)
    assert (record["status"], len(record["changes"])) == ("failed", 1)


def test_nothing_is_set_while_another_run_holds_the_environment(root):
    held = recovery.lock_of(environment(root))
    held.acquire(Holder(run="20261123T184500Z-provision-aaaaaa", step="provision"))
    with pytest.raises(Locked):
        run("set", "MAIL_TOKEN", "-e", "staging", given="one")
    assert "no value" in run("list", "-e", "staging")
    held.release()
    run("set", "MAIL_TOKEN", "-e", "staging", given="one")
    assert held.read() is None


def test_unset_removes_value_and_history(root):
    run("set", "MAIL_TOKEN", "-e", "staging", given="one")
    assert "MAIL_TOKEN has no value" in run("unset", "MAIL_TOKEN", "-e", "staging")
    assert "No changes" in run("unset", "MAIL_TOKEN", "-e", "staging")
    assert json.loads(run("history", "MAIL_TOKEN", "-e", "staging", "--json")) == []
    assert {record["step"] for record in records(root)} == {"secrets-set", "secrets-unset"}


def test_list_and_history_show_time_and_author(root):
    for given in ("one", "two"):
        run("set", "MAIL_TOKEN", "-e", "staging", given=given)
    [missing, found] = json.loads(run("list", "-e", "staging", "--json"))
    assert (missing["name"], missing["is_set"]) == ("DATABASE_URL", False)
    assert (found["number"], found["purpose"]) == (2, DECLARED["MAIL_TOKEN"])
    newest, oldest = json.loads(run("history", "MAIL_TOKEN", "-e", "staging", "--json"))
    assert (newest["number"], oldest["number"]) == (2, 1)
    runs = {version["note"].partition("; ")[2] for version in (newest, oldest)}
    assert runs == {record["run"] for record in records(root)}
    assert "2 versions" in run("history", "MAIL_TOKEN", "-e", "staging")


def test_list_shows_undeclared_values(root):
    ssm = environment(root).client("ssm")
    ssm.put_parameter(Name="/hello/staging/OLD", Value="x", Type="SecureString")
    assert "! not declared   OLD" in run("list", "-e", "staging")


def test_diff_shows_values_that_two_environments_share(root):
    for env, given in (
        ("staging", "DATABASE_URL=one\nMAIL_TOKEN=x\n"),
        ("production", "MAIL_TOKEN=x"),
    ):
        run("import", "-", "-e", env, given=given)
    assert json.loads(run("diff", "staging", "production", "--json")) == {
        "DATABASE_URL": "in one only",
        "MAIL_TOKEN": "same value",
    }
    run("set", "MAIL_TOKEN", "-e", "production", given="y")
    said = run("diff", "staging", "production")
    assert "✓ own values" in said
    assert "no value" in said


def test_no_command_reaches_another_account(root, monkeypatch):
    monkeypatch.setattr(aws, "caller", lambda _target: {"account": "999999999999", "arn": "x"})
    for command in (("list",), ("set", "MAIL_TOKEN"), ("unset", "MAIL_TOKEN")):
        with pytest.raises(PreflightFailed, match="999999999999"):
            run(*command, "-e", "staging", given="x")


def test_a_missing_environment(root):
    with pytest.raises(DaybookError, match="did you mean staging"):
        run("list", "-e", "stagin")
