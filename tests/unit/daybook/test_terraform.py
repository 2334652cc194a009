"""Terraform: commands, messages as events, and the real tool with a state bucket in moto."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import boto3
import psutil
import pytest
from tenacity import retry, retry_if_result, stop_after_delay, wait_fixed

from daybook import process, ui
from daybook.errors import ApplyFailed, CommandFailed, Interrupted, Locked
from daybook.plan import Change
from daybook.target import resolve
from daybook.terraform import (
    SavedPlan,
    Terraform,
    mirror_config,
    runner,
    show_progress,
    state_lock,
)
from daybook.terraform import plan as plans
from daybook.terraform.events import Diagnostic, parse
from daybook_sandbox import atomic_writes

# Only the built-in resource of Terraform, so that no provider is installed or started.
MAIN = """
terraform {
  backend "s3" {}
}
variable "names" {
  type = list(string)
}
variable "command" {
  type    = string
  default = "true"
}
resource "terraform_data" "this" {
  for_each = toset(var.names)
  input    = "${terraform.workspace} ${each.key}"
}
resource "terraform_data" "last" {
  depends_on       = [terraform_data.this]
  triggers_replace = var.command
  provisioner "local-exec" {
    command = var.command
  }
}
output "names" {
  value = var.names
}
output "password" {
  value     = "hunter2"
  sensitive = true
}
"""
APPLY = """
import json, os, sys
from pathlib import Path
from daybook.terraform import Terraform
folder, data, plan = sys.argv[1:]
tool = Terraform(Path(folder), workspace="staging", env=dict(os.environ), data_dir=Path(data))
tool.apply(tool.saved(Path(plan)))
"""


# ---- outputs


def test_every_string_in_a_sensitive_output_is_a_secret():
    outputs = runner.Outputs(
        {
            "names": {"value": ["a"], "sensitive": False},
            "login": {"value": {"user": "ann", "keys": ["k1", 7]}, "sensitive": True},
        }
    )
    assert outputs.secrets() == [("login", "ann"), ("login", "k1")]
    assert "ann" not in repr(outputs)


# ---- commands


def test_init_sets_the_whole_backend_and_ignores_the_previous_one():
    assert runner.init_command({"bucket": "b", "use_path_style": True}) == [
        *("terraform", "init", "-json", "-input=false", "-reconfigure"),
        *("-backend-config=bucket=b", "-backend-config=use_path_style=true"),
    ]


def test_plan_and_apply_do_not_prompt_and_wait_for_the_lock():
    wait = ("-json", "-input=false", "-lock-timeout=30s")
    assert runner.plan_command(Path("/p")) == ["terraform", "plan", *wait, "-out=/p"]
    assert runner.plan_command(Path("/p"), destroy=True)[-2:] == ["-destroy", "-out=/p"]
    assert runner.apply_command(Path("/p")) == ["terraform", "apply", *wait, "/p"]


def test_commands_ignore_a_broken_state_file_in_the_current_folder(tmp_path, monkeypatch):
    (tmp_path / "terraform.tfstate").write_text("not JSON")
    monkeypatch.chdir(tmp_path)
    assert runner.command("validate") == ["terraform", "validate"]


def test_variables_are_passed_as_environment_variables():
    assert runner.variables_environment({"names": ["a"], "app": "hello", "disk": 20}) == {
        "TF_VAR_names": '["a"]',
        "TF_VAR_app": "hello",
        "TF_VAR_disk": "20",
    }


def test_the_mirror_is_used_only_without_another_configuration(tmp_path):
    assert mirror_config(tmp_path, {}) == {}
    mirror = tmp_path / ".cache/terraform.rc"
    mirror.parent.mkdir()
    mirror.touch()
    expected = {"TF_CLI_CONFIG_FILE": str(mirror)}
    assert mirror_config(tmp_path, {}) == expected
    assert mirror_config(tmp_path, {"TF_CLI_CONFIG_FILE": "/nonexistent"}) == expected
    own = tmp_path / "own.rc"
    own.touch()
    assert mirror_config(tmp_path, {"TF_CLI_CONFIG_FILE": str(own)}) == {}


# ---- messages


def test_a_message_becomes_an_event():
    resource = {"addr": "aws_vpc.this"}
    message = {"type": "apply_progress", "@message": "aws_vpc.this: Still creating…"}
    message["hook"] = {"resource": resource, "action": "create", "elapsed_seconds": 10}
    event = parse(json.dumps(message))
    assert (event.kind, event.resource, event.action) == (
        "apply_progress",
        "aws_vpc.this",
        "create",
    )
    assert event.elapsed_s == 10


@pytest.mark.parametrize("line", ["", "Successfully configured!", "[]", "{}", "3", '{"type":'])
def test_other_lines_are_text(line):
    assert parse(line).kind == "text"
    assert parse(line).message == line


def test_a_diagnostic_has_its_summary_origin_and_detail():
    diagnostic = Diagnostic("error", "Bad", "because\n\nof this", "aws_vpc.this", "main.tf:3")
    assert diagnostic.lines() == ["Bad (aws_vpc.this, main.tf:3)", "because", "of this"]


# ---- plans


def change(address: str, *actions: str, **inner) -> dict:
    kind = "terraform_data"
    return {"address": address, "type": kind, "change": {"actions": list(actions), **inner}}


def read(tmp_path: Path, *changes: dict, workspace: str = "staging", **context: str) -> SavedPlan:
    path = tmp_path / "p"
    path.touch()
    return plans.read_plan({"resource_changes": changes}, path, workspace, context)


def addresses(plan: SavedPlan, action: str) -> tuple[str, ...]:
    return tuple(change.address for change in plan.of(action))


def test_every_kind_of_change_is_recognized(tmp_path):
    plan = read(
        tmp_path,
        change("a", "create"),
        change("b", "update", before={"x": 1, "y": 1}, after={"x": 2, "y": 1}),
        change("c", "delete", "create", before={"x": 1}, after={"x": 2}, replace_paths=[["x"]]),
        change("d", "create", "delete"),
        change("e", "delete"),
        change("f", "no-op"),
        change("g", "no-op", importing={"id": "i"}),
        {**change("h", "no-op"), "previous_address": "i"},
        change("j", "read"),
        change("k", "forget"),
    )
    assert addresses(plan, "create") == ("a",)
    assert addresses(plan, "update") == ("b",)
    assert plan.destroys == addresses(plan, "destroy") == ("e",)
    assert addresses(plan, "replace") == ("c", "d")
    expected = {"create": 1, "update": 1, "replace": 2, "destroy": 1}
    assert plan.counts == {**expected, "import": 1, "move": 1, "forget": 1}
    assert plan.changes[1] == Change("update", "b", "x", ("x",))
    assert plan.changes[2].attributes == ("x",)


def test_the_digest_covers_the_changes_and_their_target(tmp_path):
    create = change("a", "create", after={"x": 1})
    digest = read(tmp_path, create, account="1").digest
    assert digest == read(tmp_path, create, change("b", "no-op"), account="1").digest
    different = [
        read(tmp_path, change("a", "create", after={"x": 2}), account="1"),
        read(tmp_path, create, account="2"),
        read(tmp_path, create, account="1", workspace="production"),
        read(tmp_path, account="1"),
    ]
    digests = {plan.digest for plan in different}
    assert digest not in digests
    assert len(digests) == len(different)


def test_a_plan_shows_every_destroy_by_name_first_and_its_digest(tmp_path):
    plan = read(tmp_path, change("a.new", "create"), change("z.old", "delete"))
    shown = ui.text(plan)
    assert "1 to create" in shown
    assert "1 to destroy" in shown
    assert shown.index("z.old") < shown.index("a.new")
    assert plan.digest in shown
    assert "No changes" in ui.text(read(tmp_path))


def test_a_plan_shows_its_monthly_cost(tmp_path):
    machine = {"instance_type": "t3.small", "root_block_device": []}
    host = change("aws_instance.host", "create", before=None, after=machine)
    plan = read(tmp_path, host | {"type": "aws_instance"}, region="us-east-1")
    assert "about 15.18 USD per month after the apply, 0.00 before" in str(plan)


def test_values_are_never_shown(tmp_path):
    secret = change("a", "update", before={"password": "hunter1"}, after={"password": "hunter2"})
    shown = read(tmp_path, secret)
    assert "password" in ui.text(shown)
    assert "hunter" not in ui.text(shown) + shown.html()


def test_progress_has_one_row_per_resource(capsys):
    hook = {"resource": {"addr": "aws_vpc.this"}, "action": "create"}
    with ui.Progress("Apply") as progress:
        on_event = show_progress(progress)
        on_event(parse(json.dumps({"type": "apply_start", "hook": hook})))
        on_event(parse(json.dumps({"type": "apply_complete", "hook": hook})))
    rows = progress.view().rows
    assert [row[:2] for row in rows] == [(ui.good("created"), "aws_vpc.this")]
    assert "✓ created aws_vpc.this" in capsys.readouterr().out


# ---- the real tool


def require(tool: str) -> None:
    if shutil.which(tool) is None:
        verdict = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
        verdict(f"{tool} is not installed")


@pytest.fixture(scope="module")
def aws():
    """Serve the AWS API on loopback; return the environment variables for it."""
    require("terraform")
    from moto.server import ThreadedMotoServer

    atomic_writes.patch()
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    environ = {"AWS_ENDPOINT_URL": f"http://{host}:{port}", "AWS_REGION": "us-east-1"}
    environ |= {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
    yield {**os.environ, **environ}
    server.stop()


@pytest.fixture
def s3(aws):
    client = boto3.client(
        "s3",
        endpoint_url=aws["AWS_ENDPOINT_URL"],
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )
    client.create_bucket(Bucket="hello-state")
    yield client
    for key in keys(client):
        client.delete_object(Bucket="hello-state", Key=key)
    client.delete_bucket(Bucket="hello-state")


@pytest.fixture
def make(tmp_path, aws, s3):
    """Return a function that creates and initializes Terraform in a workspace of one folder."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/main.tf").write_text(MAIN)

    def make(workspace: str = "staging", **options: object) -> Terraform:
        tool = Terraform(
            tmp_path / "folder",
            workspace=workspace,
            env=aws,
            data_dir=tmp_path / f"data-{workspace}",
            **options,
        )
        backend = {"bucket": "hello-state", "key": "environment/terraform.tfstate"}
        tool.init({**backend, "region": "us-east-1", "use_path_style": True, "use_lockfile": True})
        return tool

    return make


@pytest.fixture
def overridden(tmp_path, monkeypatch, aws) -> None:
    """Replace a locked provider in the configuration of this computer."""
    config = 'provider_installation {\n  dev_overrides {\n    "hashicorp/aws" = "/tmp"\n  }\n}\n'
    (tmp_path / "own.rc").write_text(config)
    monkeypatch.setitem(aws, "TF_CLI_CONFIG_FILE", str(tmp_path / "own.rc"))


@pytest.mark.attack("A1", "a provider of the operator's takes the place of the locked one")
def test_providers_are_the_locked_ones(tmp_path, make, aws, request):
    tool = make()
    plan = tool.plan(tmp_path / "p", variables={"names": ["a"]})
    request.getfixturevalue("overridden")
    late = Terraform(tool.folder, workspace="staging", env=aws, data_dir=tmp_path / "data-staging")
    for attempt in (
        make,
        lambda: late.plan(tmp_path / "q", variables={"names": ["a"]}),
        lambda: late.apply(plan),
    ):
        with pytest.raises(CommandFailed, match="overridden") as caught:
            attempt()
        assert caught.value.lines()[-1].endswith("run this step again")
    assert not (tmp_path / "q").exists()
    assert tool.outputs() == {}


@pytest.mark.attack("A1", "a variable of the operator's overrides a reviewed setting")
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TF_CLI_ARGS_plan", "-var='names=[\"evil\"]'"),
        ("TF_CLI_ARGS", "-destroy"),
        ("TF_VAR_command", "touch evil"),
        ("TF_WORKSPACE", "production"),
    ],
)
def test_the_operators_variables_change_no_plan(tmp_path, aws, make, monkeypatch, name, value):
    expected = make().plan(tmp_path / "p", variables={"names": ["a"]})
    settings = SimpleNamespace(account="sandbox", region="us-east-1")
    (tmp_path / ".sandbox").mkdir()
    lines = [f"{key}={text}\n" for key, text in aws.items() if key.startswith("AWS_")]
    (tmp_path / ".sandbox/target.env").write_text("".join(lines))
    target = resolve(settings, tmp_path, rehearse=True, environ={**os.environ, name: value})
    data_dir = tmp_path / "data-staging"
    tool = Terraform(
        tmp_path / "folder", workspace="staging", env=target.environ, data_dir=data_dir
    )
    assert tool.plan(tmp_path / "q", variables={"names": ["a"]}).digest == expected.digest


def keys(s3) -> list[str]:
    objects = s3.list_objects_v2(Bucket="hello-state").get("Contents", ())
    return [object["Key"] for object in objects]


def test_plans_and_applies_in_two_new_workspaces(tmp_path, make, s3):
    staging, production = make("staging"), make("production")
    plan = staging.plan(tmp_path / "secret/p", variables={"names": ["a", "b"]})
    assert plan.path.stat().st_mode & 0o777 == 0o600
    assert len(plan.of("create")) == 3
    assert plan.outputs == ("names", "password")
    again = staging.plan(tmp_path / "again", variables={"names": ["a", "b"]})
    assert again.digest == plan.digest
    elsewhere = production.plan(tmp_path / "elsewhere", variables={"names": ["a", "b"]})
    assert elsewhere.digest != plan.digest
    with pytest.raises(CommandFailed, match="not the one that was shown"):
        production.apply(plan)

    events = []
    applied = staging.apply(plan, on_event=events.append)
    assert set(applied.created) == set(addresses(plan, "create"))
    assert not plan.path.exists()
    assert {event.kind for event in events} >= {"apply_start", "apply_complete"}
    assert staging.outputs() == {"names": ["a", "b"], "password": "hunter2"}
    assert "hunter2" not in repr(staging.outputs())
    assert production.outputs() == {}
    with pytest.raises(CommandFailed, match="Saved plan is stale"):
        staging.apply(again)

    empty = staging.plan(tmp_path / "p", variables={"names": ["a", "b"]})
    assert empty.is_empty
    assert empty.file_sha256
    staging.apply(empty, on_event=lambda event: pytest.fail(f"Terraform was started: {event}"))
    assert not empty.path.exists()
    gone = staging.plan(tmp_path / "p", variables={"names": []}, destroy=True)
    assert set(gone.destroys) == set(addresses(plan, "create"))
    assert set(staging.apply(gone).destroyed) == set(gone.destroys)
    assert keys(s3) == [
        f"env:/{name}/environment/terraform.tfstate" for name in ("production", "staging")
    ]


def test_an_edited_plan_is_not_applied(tmp_path, make):
    plan = make().plan(tmp_path / "p", variables={"names": []})
    plan.path.write_bytes(plan.path.read_bytes() + b"x")
    with pytest.raises(CommandFailed, match="not the one that was shown"):
        make().apply(plan)


def test_a_bad_configuration_names_file_and_line(tmp_path, make):
    tool = make()
    assert tool.validate() is None
    with pytest.raises(CommandFailed, match=r"No value for required variable \(main.tf:5\)"):
        tool.plan(tmp_path / "p", variables={})
    assert not (tmp_path / "p").exists()
    (tool.folder / "bad.tf").write_text("output x {\n  value = nothing.there\n}\n")
    with pytest.raises(CommandFailed, match=r"undeclared resource .*bad.tf:2"):
        tool.validate()


def test_a_held_lock_is_an_error_with_its_holder(tmp_path, make, s3, monkeypatch):
    monkeypatch.setattr(runner, "LOCK_TIMEOUT", "0s")
    held = {"ID": "lock-7", "Operation": "OperationTypeApply", "Who": "ann@laptop"}
    held |= {"Version": "1.11.4", "Created": "2026-01-01T00:00:00Z", "Info": "", "Path": ""}
    body = json.dumps(held).encode()
    key = "env:/staging/environment/terraform.tfstate.tflock"
    s3.put_object(Bucket="hello-state", Key=key, Body=body)
    with pytest.raises(Locked) as in_new_workspace:
        make().plan(tmp_path / "p", variables={"names": []})
    s3.delete_object(Bucket="hello-state", Key=key)
    make().plan(tmp_path / "p", variables={"names": []})
    s3.put_object(Bucket="hello-state", Key=key, Body=body)
    with pytest.raises(Locked) as in_old_workspace:
        make().plan(tmp_path / "p", variables={"names": []})
    for caught in (in_new_workspace, in_old_workspace):
        lines = [" ".join(line.split()) for line in caught.value.details]
        assert lines[:3] == ["ID: lock-7", "Operation: OperationTypeApply", "Who: ann@laptop"]
        assert caught.value.next.endswith(": terraform force-unlock lock-7")


def test_a_killed_terraform_has_logged_its_lock_before_requesting_it(
    tmp_path, make, s3, monkeypatch
):
    monkeypatch.setattr(runner, "LOCK_TIMEOUT", "0s")
    log, ids = tmp_path / "terraform.log", []
    tool = make(log=log, on_lock=ids.append, unlock="daybook lock break x --terraform {id}")
    plan = tool.plan(tmp_path / "p", variables={"names": [], "command": "sleep 30"})
    assert len(ids) == 2  # One for the new workspace, one for the plan.
    before = len(ids)

    def on_event(event) -> None:
        if event.kind == "provision_start":
            # A forked child has the same name until it executes the shell of the provisioner.
            terraform = next(
                child
                for child in psutil.Process().children(recursive=True)
                if child.name() == "terraform" and child.parent().name() != "terraform"
            )
            terraform.kill()

    with pytest.raises(ApplyFailed):
        tool.apply(plan, on_event=on_event)
    [left] = [key for key in keys(s3) if key.endswith(".tflock")]
    lock = state_lock.read(s3, "hello-state", left.removesuffix(".tflock"))
    assert lock.id == ids[before]
    assert lock.id in state_lock.attempts(log)
    assert log.stat().st_mode & 0o777 == 0o600
    with pytest.raises(Locked, match=f"daybook lock break x --terraform {lock.id}"):
        tool.plan(tmp_path / "p", variables={"names": []})
    assert lock.id not in state_lock.attempts(log)[state_lock.attempts(log).index(lock.id) + 2 :]
    assert not state_lock.remove(s3, "hello-state", replace(lock, etag='"another"'))
    assert state_lock.remove(s3, "hello-state", lock)
    assert state_lock.read(s3, "hello-state", left.removesuffix(".tflock")) is None
    tool.plan(tmp_path / "p", variables={"names": []})


def test_only_requested_locks_belong_to_a_run(tmp_path):
    log = tmp_path / "terraform.log"
    message = (
        "[INFO]  backend-s3: Attempting to lock: tf_backend.lock.id={} tf_backend.operation={}"
    )
    lines = [message.format("a-1", "Lock"), message.format("a-2", "Unlock"), "ID: a-3", "\0\xff"]
    log.write_text("\n".join(lines))
    assert state_lock.attempts(log) == ["a-1"]
    assert state_lock.attempts(tmp_path / "missing") == []


@pytest.mark.parametrize("body", [b"", b"7", b"not JSON", b'{"ID": 7, "Who": ["x"]}'])
def test_an_unreadable_lock_is_identified_by_its_etag(s3, body):
    s3.put_object(Bucket="hello-state", Key="x.tflock", Body=body)
    lock = state_lock.read(s3, "hello-state", "x")
    assert lock.id == lock.etag.strip('"')
    assert lock.holder == ""


def test_a_lock_is_printed_without_control_characters(s3):
    body = json.dumps({"ID": "i", "Who": "ann\x1b[2J\n\u202e" + "x" * 999}).encode()
    s3.put_object(Bucket="hello-state", Key="x.tflock", Body=body)
    lock = state_lock.read(s3, "hello-state", "x")
    assert lock.holder.startswith("ann[2Jxxx")
    assert len(lock.holder) == 200


def test_a_failure_lists_the_completed_changes(tmp_path, make):
    tool = make()
    plan = tool.plan(tmp_path / "p", variables={"names": ["a"], "command": "echo oops; exit 3"})
    with pytest.raises(ApplyFailed) as caught:
        tool.apply(plan)
    assert caught.value.applied.created == ('terraform_data.this["a"]',)
    assert caught.value.applied.failed == ("terraform_data.last",)
    text = str(caught.value)
    assert 'Changed by then: created: terraform_data.this["a"]' in text
    assert "main.tf:19" in text
    assert "oops" in text


@pytest.mark.attack("F11", "credentials that expire in the middle of an apply")
def test_an_apply_with_expired_credentials_asks_for_a_new_sign_in(tmp_path, make):
    tool, command = make(), "echo api error ExpiredToken: the token has expired; exit 3"
    plan = tool.plan(tmp_path / "p", variables={"names": ["a"], "command": command})
    with pytest.raises(ApplyFailed) as caught:
        tool.apply(plan)
    assert caught.value.next.startswith("sign in again (aws sso login")
    assert "then run this step again" in caught.value.next


def test_ctrl_c_saves_the_state_releases_the_lock_and_lists_the_changes(tmp_path, make, s3):
    tool = make()
    plan = tool.plan(tmp_path / "p", variables={"names": ["a"], "command": "sleep 30"})

    def on_event(event) -> None:
        if (event.kind, event.resource) == ("provision_start", "terraform_data.last"):
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Interrupted) as caught:
        tool.apply(plan, on_event=on_event)
    assert caught.value.applied.created == ('terraform_data.this["a"]',)
    assert keys(s3) == ["env:/staging/environment/terraform.tfstate"]
    rest = tool.plan(tmp_path / "p", variables={"names": ["a"], "command": "true"})
    assert "terraform_data.last" in addresses(rest, "replace")
    assert not rest.of("create")


@retry(wait=wait_fixed(0.1), stop=stop_after_delay(30), retry=retry_if_result(lambda r: not r))
def until(condition):
    return condition()


def test_kill_9_saves_the_state_and_releases_the_lock(tmp_path, make, s3, aws):
    tool, mark = make(), tmp_path / "mark"
    variables = {"names": ["a"], "command": f"touch {mark}; sleep 30"}
    plan = tool.plan(tmp_path / "p", variables=variables)
    args = [str(tool.folder), str(tmp_path / "data-staging"), str(plan.path)]
    kernel = subprocess.Popen([sys.executable, "-c", APPLY, *args], env=aws)
    until(mark.exists)
    kernel.kill()
    kernel.wait()
    until(lambda: keys(s3) == ["env:/staging/environment/terraform.tfstate"])
    rest = tool.plan(tmp_path / "p", variables=variables)
    assert not rest.of("create")


def test_output_with_secrets_is_read_in_private(tmp_path, make):
    assert make().version()["terraform"][0] == "1"
    started = []

    def start(args, **options) -> process.Result:
        started.append((args[1], options.get("private", False)))
        return process.run(args, **options)

    tool = make()
    tool._start = start
    tool.plan(tmp_path / "p", variables={"names": []})
    tool.outputs()
    assert started == [("plan", False), ("show", True), ("output", True)]


# ---- a state that could not be saved


LOSING_ITS_STATE = """
import json, pathlib, sys
if sys.argv[1] == "validate":
    sys.exit(print(json.dumps({"valid": True, "diagnostics": []})))
if sys.argv[1] == "state":
    sys.exit(int(pathlib.Path("push").read_text()))
hook = {"resource": {"addr": "aws_vpc.this"}, "action": "create"}
print(json.dumps({"type": "apply_complete", "@message": "", "hook": hook}))
pathlib.Path("errored.tfstate").write_text("{}")
sys.exit(1)
"""


def lose_state(tmp_path: Path, push: int) -> ApplyFailed:
    """Apply with a Terraform that cannot save its state. push: exit code of the state push."""
    (tmp_path / "push").write_text(str(push))
    (tmp_path / "plan").touch()

    def start(args, **options):
        return process.run([sys.executable, "-c", LOSING_ITS_STATE, *args[1:]], **options)

    tool = Terraform(
        tmp_path, workspace="staging", env=dict(os.environ), data_dir=tmp_path, start=start
    )
    path = tmp_path / "plan"
    creates = (Change("create", "aws_vpc.this"),)
    saved = {"path": path, "workspace": "staging", "file_sha256": plans.sha256(path)}
    with pytest.raises(ApplyFailed) as caught:
        tool.apply(SavedPlan("Plan for staging", creates, {}, **saved))
    return caught.value


def test_a_state_that_could_not_be_saved_is_pushed(tmp_path):
    error = lose_state(tmp_path, push=0)
    assert error.next.startswith("run this step again")
    assert not list(tmp_path.glob("*.tfstate"))


def test_a_state_that_cannot_be_pushed_is_kept_with_its_workspace_in_the_name(tmp_path):
    error = lose_state(tmp_path, push=1)
    assert "keep errored.staging.tfstate" in error.next
    kept = tmp_path / "errored.staging.tfstate"
    assert (kept.read_text(), kept.stat().st_mode & 0o777) == ("{}", 0o600)
