"""Two people with two keys, on two computers: a plan is approved, declined, outdated, forged."""

from __future__ import annotations

import json
import re
import shutil
import subprocess

import pytest

pytestmark = pytest.mark.skipif(not shutil.which("terraform"), reason="terraform is not on PATH")
ENV = "guarded"


def git(root, *args):
    subprocess.run(["git", "-C", root, *args], check=True, capture_output=True)


@pytest.fixture(scope="module")
def keys(tmp_path_factory, aws):
    """Return each person's private key; Ann, the operator, has the one of the target."""
    found = {"ann": aws["DAYBOOK_SSH_KEY"]}
    for name in ("bob", "stranger"):
        found[name] = str(tmp_path_factory.mktemp(name) / "id_ed25519")
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", found[name]])
    return found


@pytest.fixture(scope="module")
def ann(here, keys):
    """Return the operator's computer, with an account prepared for an environment of its own."""
    here.set(ENV, app="guarded", zone="guarded.test", cidr="10.78.0.0/16", approvals=1)
    here.set(ENV, names=[f"{ENV}.guarded.test"])
    signers = ""
    for name in ("ann", "bob"):
        with open(f"{keys[name]}.pub") as public:
            kind, key, *_ = public.read().split()
        signers += f'{name}@example.com namespaces="daybook-approval" {kind} {key}\n'
    (here.root / "environments/signers").write_text(signers)
    git(here.root, "init", "-q")
    git(here.root, "config", "user.name", "Ann")
    git(here.root, "config", "user.email", "ann@home.example")
    git(here.root, "add", "-A")
    git(here.root, "commit", "-qm", "as it is")
    here.step("bootstrap", ENV)
    return here


@pytest.fixture(scope="module")
def bob(ann, make_project, tmp_path_factory):
    """Return another computer: the same commit, the same cloud, no runs."""
    root = tmp_path_factory.mktemp("bob") / "project"
    git(ann.root, "clone", "-q", ann.root, root)
    git(root, "config", "user.name", "Bob")
    for own in (".sandbox", ".cache"):
        if (ann.root / own).exists():
            shutil.copytree(ann.root / own, root / own, ignore=shutil.ignore_patterns("terraform"))
    return make_project(root)


@pytest.fixture
def one_approves(ann, bob):
    """Have the operator's own approval be enough, on both computers."""
    for each in (ann, bob):
        each.set(ENV, approvals=0)
    yield
    for each in (ann, bob):
        each.set(ENV, approvals=1)


@pytest.fixture
def change(ann, client):
    """Take away what bootstrap has made, so that its next plan has something to do."""
    where = {"repositoryName": "guarded"}
    policy = client("ecr").get_lifecycle_policy(**where)["lifecyclePolicyText"]
    client("ecr").delete_lifecycle_policy(**where)
    yield lambda: client("ecr").get_lifecycle_policy(**where)
    client("ecr").put_lifecycle_policy(**where, lifecyclePolicyText=policy)


def bootstrap(project, *args):
    return project.run("run", "bootstrap", "-p", "env", ENV, *args)


def plan(ann) -> tuple[str, str]:
    """Plan as far as the gate; return the digest and the run to approve."""
    done = bootstrap(ann)
    assert done.returncode == 4, done.stdout
    found = re.search(r"daybook approve (\S+)", done.stdout)
    return re.search(r"plan-[0-9a-f]{32}", done.stdout)[0], found[1]


def plan_files(project) -> list[str]:
    return sorted(path.suffix for path in (project.root / "runs" / ENV / ".plans").iterdir())


def test_the_operators_own_approval_is_not_enough_until_somebody_else_has_signed(
    ann, bob, keys, change
):
    assert "auto" in ann.record(ENV, "bootstrap")["approvals"][0]["how"], "it stands for everybody"
    digest, run = plan(ann)
    assert plan_files(ann) == [".json", ".tfplan"]
    for path in (ann.root / "runs" / ENV / ".plans").iterdir():
        assert path.stat().st_mode & 0o777 == 0o600

    alone = bootstrap(ann, "-p", "approve", digest)
    assert alone.returncode == 4
    assert f"{digest} waits for a second person" in alone.stdout
    assert ann.record(ENV, "bootstrap")["status"] == "waiting"

    own = ann.run("approve", run, "--key", keys["ann"])
    assert own.returncode == 4
    assert "ann@example.com is the operator of this plan" in own.stdout
    stranger = bob.run("approve", run, "--key", keys["stranger"])
    assert stranger.returncode == 4
    assert "is not in environments/signers" in stranger.stdout

    seen = bob.succeed("approve", run, "--key", keys["bob"])
    assert "create   aws_ecr_lifecycle_policy.this" in seen
    assert digest in seen
    assert "Ann <ann@home.example>" in seen

    done = bob.run("run", "bootstrap", "--resume", run)
    assert done.returncode == 2, "the run and its saved plan are on Ann's computer"
    resumed = ann.run("run", "bootstrap", "--resume", run, "-p", "approve", digest)
    assert resumed.returncode == 0, resumed.stdout
    change()
    assert plan_files(ann) == []

    record = ann.record(ENV, "bootstrap")
    (approval,) = record["approvals"]
    assert approval["how"] == "by its digest and by bob@example.com"
    assert json.loads(approval["by"][0]["statement"])["digest"] == digest
    assert approval["by"][0]["signature"].startswith("-----BEGIN SSH SIGNATURE-----")
    assert (record["plan"]["digest"], record["plan"]["made_by"]) == (digest, run)


def test_a_second_person_declines_with_a_reason(ann, bob, keys, change, client):
    digest, run = plan(ann)
    bob.succeed("approve", run, "--decline", "not on a Friday", "--key", keys["bob"])
    done = bootstrap(ann, "-p", "approve", digest)
    assert done.returncode == 4
    assert "bob@example.com declined this plan." in done.stdout
    assert "not on a Friday" in done.stdout
    assert plan_files(ann) == []
    record = ann.record(ENV, "bootstrap")
    assert record["status"] == "failed"
    assert "declined by bob@example.com: not on a Friday" in record["approvals"][0]["how"]
    with pytest.raises(client("ecr").exceptions.LifecyclePolicyNotFoundException):
        change()


@pytest.mark.usefixtures("one_approves")
def test_a_plan_is_applied_on_another_computer_where_it_is_the_same(ann, bob, change):
    """As two jobs of a workflow are: each on a machine that has nothing of the other's."""
    waits = bootstrap(ann)
    assert waits.returncode == 4, waits.stdout
    digest = re.search(r"plan-[0-9a-f]{32}", waits.stdout)[0]
    applied = bootstrap(bob, "-p", "approve", digest)
    assert applied.returncode == 0, applied.stdout
    change()
    record = bob.record(ENV, "bootstrap")
    assert record["plan"]["made_by"] == ann.record(ENV, "bootstrap")["run"]
    assert record["approvals"][0]["how"] == "by its digest"
    again = bootstrap(ann, "-p", "approve", digest)
    assert again.returncode == 4
    # The state has moved; where a change leaves it as it was, the bucket tells.
    assert re.search("state: was serial|another computer has taken it", again.stdout)
    gone = bootstrap(bob, "-p", "approve", digest)
    assert (gone.returncode, "No plan with this digest waits" in gone.stdout) == (4, True)


def test_an_approval_is_of_the_plan_that_was_shown(ann, change):
    digest, _run = plan(ann)
    ticket = next((ann.root / "runs" / ENV / ".plans").glob("*.json"))
    shown = json.loads(ticket.read_text())
    forged = shown | {"summary": "nothing to worry about"}
    ticket.write_text(json.dumps(forged))
    done = bootstrap(ann, "-p", "approve", digest)
    assert done.returncode == 4
    assert "The plan is not what it was when it was shown." in done.stdout
    assert "-nothing to worry about" in done.stdout
    assert plan_files(ann) == []


def test_all_that_has_changed_since_the_plan_is_named_together(ann, change, client):
    digest, run = plan(ann)
    git(ann.root, "commit", "-q", "--allow-empty", "-m", "another")
    where = {"Bucket": "guarded-state-123456789012", "Key": "account/terraform.tfstate"}
    body = client("s3").get_object(**where)["Body"].read()
    state = json.loads(body)
    client("s3").put_object(**where, Body=json.dumps(state | {"serial": state["serial"] + 1}))
    ticket = next((ann.root / "runs" / ENV / ".plans").glob("*.json"))
    waiting = json.loads(ticket.read_text()) | {"made": "2026-01-01T00:00:00Z"}
    waiting["basis"]["account"] = "210987654321"
    ticket.write_text(json.dumps(waiting))

    resumed = ann.run("run", "bootstrap", "--resume", run, "-p", "approve", digest)
    done = bootstrap(ann, "-p", "approve", digest)
    client("s3").put_object(**where, Body=body)
    assert resumed.returncode == 2
    assert "commit: was" in resumed.stdout
    assert done.returncode == 4
    for line in (
        "commit: was",
        "account: was 210987654321, is 123456789012",
        f"state: was serial {state['serial']} of",
        "age: made at 2026-01-01T00:00:00Z, and a plan may wait 24 hours",
    ):
        assert line in done.stdout
    assert plan_files(ann) == []


def press(front, description: str, text: str) -> None:
    """Type into the widget and press a button, with the messages that JupyterLab sends."""
    widgets = {}
    while "Decline" not in widgets:
        message = front.client.get_iopub_msg(timeout=30)
        if message["msg_type"] == "comm_open":
            state = message["content"]["data"]["state"]
            widgets[state.get("description")] = message["content"]["comm_id"]
    for name, data in (
        ("Type here", {"method": "update", "state": {"value": text}, "buffer_paths": []}),
        (description, {"method": "custom", "content": {"event": "click"}}),
    ):
        content = {"comm_id": widgets[name], "data": data}
        front.client.shell_channel.send(front.client.session.msg("comm_msg", content))


def until_the_gate(front) -> None:
    """Run bootstrap's cells as somebody in JupyterLab does, who then sees the widget."""
    for source in (
        f"from daybook.steps import Bootstrap; step = Bootstrap({ENV!r}); step.preflight()",
        "step.plan()",
    ):
        reply = front.execute(source)
        assert reply["status"] == "ok", reply
    assert front.execute("step.approve()")["ename"] == "ApprovalNeeded"


def test_in_a_notebook_typing_the_name_is_one_approval_of_two(ann, bob, keys, change, make_front):
    front = make_front(ann.root)
    until_the_gate(front)
    press(front, "Approve", ENV)
    assert front.execute("step.apply()")["ename"] == "SettingsError"
    waits = front.execute("step.approve()")
    assert "waits for a second person" in waits["evalue"]
    run = re.search(r"daybook approve (\S+);", waits["evalue"])[1]
    bob.succeed("approve", run, "--key", keys["bob"])
    for source in ("step.approve()", "step.apply()", "step.verify()", "step.record()"):
        reply = front.execute(source)
        assert reply["status"] == "ok", reply
    change()
    how = ann.record(ENV, "bootstrap")["approvals"][-1]["how"]
    assert how == f"by typing {ENV} and by bob@example.com"


def test_in_a_notebook_a_decline_ends_the_run_and_the_record_says_why(ann, change, make_front):
    front = make_front(ann.root)
    until_the_gate(front)
    press(front, "Decline", "not before the backup")
    assert front.execute("step.apply()")["ename"] == "ApprovalRefused"
    record = ann.record(ENV, "bootstrap")
    assert (record["status"], record["reason"]) == ("failed", "declined: not before the backup")
    assert plan_files(ann) == []
