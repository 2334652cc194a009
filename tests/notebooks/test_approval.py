"""Two people with two keys, on two computers: approving, declining and forging plans."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import replace

import pytest

pytestmark = pytest.mark.skipif(not shutil.which("terraform"), reason="terraform is not on PATH")
ENV = "guarded"


def git(root, *args):
    subprocess.run(["git", "-C", root, *args], check=True, capture_output=True)


@pytest.fixture(scope="module")
def keys(tmp_path_factory, aws):
    """Return each person's private key; the operator, Ann, has the target's key."""
    found = {"ann": aws["DAYBOOK_SSH_KEY"]}
    for name in ("bob", "eve", "hello-workflows"):
        found[name] = str(tmp_path_factory.mktemp(name) / "id_ed25519")
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", found[name]])
    return found


def line(keys, name, who="", options='namespaces="daybook-record,daybook-approval"') -> str:
    """Return a person's line of environments/signers."""
    with open(f"{keys[name]}.pub") as public:
        kind, key, *_ = public.read().split()
    return f"{who or name + '@example.com'} {options} {kind} {key}\n"


def register(root, *lines: str) -> None:
    (root / "environments/signers").write_text("".join(lines))


@pytest.fixture(scope="module")
def ann(here, keys):
    """Return the operator's computer, with an account prepared for one environment."""
    here.set(ENV, app="guarded", dns_zone="guarded.test", vpc_cidr="10.78.0.0/16", approvals=1)
    here.set(ENV, domains=[f"{ENV}.guarded.test"])
    register(here.root, line(keys, "ann"), line(keys, "bob"))
    git(here.root, "init", "-q")
    git(here.root, "config", "user.name", "Ann")
    git(here.root, "config", "user.email", "ann@home.example")
    git(here.root, "add", "-A")
    git(here.root, "commit", "-qm", "as it is")
    here.step("bootstrap", ENV)
    return here


@pytest.fixture(scope="module")
def bob(ann, make_project, tmp_path_factory):
    """Return another computer with the same commit and cloud, and without runs."""
    root = tmp_path_factory.mktemp("bob") / "project"
    git(ann.root, "clone", "-q", ann.root, root)
    git(root, "config", "user.name", "Bob")
    for own in (".sandbox", ".cache"):
        if (ann.root / own).exists():
            shutil.copytree(ann.root / own, root / own, ignore=shutil.ignore_patterns("terraform"))
    return make_project(root)


@pytest.fixture
def one_approves(ann, bob, client):
    """Require only the operator's approval, on both computers and in the account."""
    note, ssm = {"Name": "/guarded/account/review"}, client("ssm")
    noted = ssm.get_parameter(**note)["Parameter"]["Value"]
    less = json.dumps(json.loads(noted) | {"approvals": {ENV: 0}})
    for approvals, value in ((0, less), (1, noted)):
        for each in (ann, bob):
            each.set(ENV, approvals=approvals)
        ssm.put_parameter(**note, Value=value, Overwrite=True)
        if not approvals:
            yield


@pytest.fixture
def change(ann, client):
    """Delete a resource of bootstrap, so that its next plan has a change."""
    where = {"repositoryName": "guarded"}
    policy = client("ecr").get_lifecycle_policy(**where)["lifecyclePolicyText"]
    client("ecr").delete_lifecycle_policy(**where)
    yield lambda: client("ecr").get_lifecycle_policy(**where)
    client("ecr").put_lifecycle_policy(**where, lifecyclePolicyText=policy)


def bootstrap(project, *args):
    return project.run("run", "bootstrap", "-p", "env", ENV, *args)


def plan(ann) -> tuple[str, str]:
    """Run bootstrap up to its gate; return the digest and the run to approve."""
    done = bootstrap(ann)
    assert done.returncode == 4, done.stdout
    found = re.search(r"daybook approve (\S+)", done.stdout)
    return re.search(r"plan-[0-9a-f]{32}", done.stdout)[0], found[1]


def plan_files(project) -> list[str]:
    return sorted(path.suffix for path in (project.root / "runs" / ENV / ".plans").iterdir())


def test_the_operators_approval_requires_the_signature_of_another_person(ann, bob, keys, change):
    assert "auto" in ann.record(ENV, "bootstrap")["approvals"][0]["how"], (
        "auto replaces every approval"
    )
    digest, run = plan(ann)
    assert plan_files(ann) == [".json", ".tfplan"]
    for path in (ann.root / "runs" / ENV / ".plans").iterdir():
        assert path.stat().st_mode & 0o777 == 0o600

    alone = bootstrap(ann, "-p", "approve", digest)
    assert alone.returncode == 4
    assert f"{digest} is waiting for the approval of a second person" in alone.stdout
    assert ann.record(ENV, "bootstrap")["status"] == "waiting"

    git(ann.root, "config", "user.email", "eve@elsewhere")
    own = ann.run("approve", run, "--key", keys["ann"])
    git(ann.root, "config", "user.email", "ann@home.example")
    assert own.returncode == 4
    assert "ann@example.com is the operator of this plan" in own.stdout
    unknown = bob.run("approve", run, "--key", keys["eve"])
    assert unknown.returncode == 4
    assert "is not in environments/signers" in unknown.stdout

    seen = bob.succeed("approve", run, "--key", keys["bob"])
    assert "create   aws_ecr_lifecycle_policy.this" in seen
    assert digest in seen
    assert "ann@example.com" in seen

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
    assert "intact" in ann.succeed("runs", "verify", record["run"])


UNKNOWN = {
    "no line": ("", "is not in environments/signers"),
    "no namespaces": (("ann", "", ""), "has no namespaces"),
    "approvals alone": (
        ("ann", "", 'namespaces="daybook-approval"'),
        "do not include daybook-record",
    ),
    "a wildcard": (("ann", "*@example.com"), "a pattern instead of a name"),
    "expired": (
        ("ann", "", 'namespaces="daybook-record",valid-before="20260101"'),
        "not valid at this time",
    ),
    "a workflow's": (("ann", "guarded-workflows"), "no OIDC token"),
}


@pytest.mark.attack("F3", "plan with approvals: 1 and a key that proves no name")
@pytest.mark.parametrize("name", UNKNOWN)
def test_an_unregistered_person_cannot_plan(ann, keys, name):
    given, observed = UNKNOWN[name]
    kept = (ann.root / "environments/signers").read_text()
    register(ann.root, line(keys, "bob"), line(keys, *given) if given else "")
    try:
        done = bootstrap(ann)
    finally:
        (ann.root / "environments/signers").write_text(kept)
    assert done.returncode == 3, done.stdout
    assert " ".join(observed.split()) in " ".join(done.stdout.split())
    assert not (ann.root / "runs" / ENV / ".plans").exists() or plan_files(ann) == []


@pytest.mark.attack("F3", "one person with two keys and two addresses plans and approves")
def test_another_key_of_the_same_name_is_the_same_person(ann, keys, change):
    kept = (ann.root / "environments/signers").read_text()
    own = (line(keys, "ann"), line(keys, "eve", "Ann@Example.com"), line(keys, "bob"))
    register(ann.root, *own)
    try:
        digest, run = plan(ann)
        second = ann.run("approve", run, "--key", keys["eve"])
        applied = bootstrap(ann, "-p", "approve", digest)
    finally:
        (ann.root / "environments/signers").write_text(kept)
    assert second.returncode == 4
    assert "ann@example.com is the operator of this plan" in second.stdout
    assert applied.returncode == 4
    assert "is waiting for the approval of a second person" in applied.stdout


@pytest.mark.attack("F3", "the approver applies the plan of another person")
def test_the_approver_cannot_apply(ann, bob, keys, change):
    digest, run = plan(ann)
    bob.succeed("approve", run, "--key", keys["bob"])
    own = bob.extra | {"DAYBOOK_SSH_KEY": keys["bob"]}
    # On Bob's computer his key precedes the sandbox's.
    applied = replace(bob, extra=own).run(
        "run", "bootstrap", "-p", "env", ENV, "-p", "approve", digest
    )
    # It is still pending there, and would hide a plan of Ann's with the same digest.
    shutil.rmtree(bob.root / "runs" / ENV / ".plans")
    assert applied.returncode == 4, applied.stdout
    assert "bob@example.com is the operator of this plan" in applied.stdout
    with pytest.raises(Exception, match="LifecyclePolicyNotFound"):
        change()


@pytest.mark.attack("F3", "a plan in the bucket that names another author")
def test_a_signature_proves_the_author_of_a_plan(ann, bob, keys, change, client):
    _digest, run = plan(ann)
    where = {"Bucket": "guarded-state-123456789012", "Key": f"approvals/{ENV}/{run}/request.json"}
    asked = json.loads(client("s3").get_object(**where)["Body"].read())
    content = json.loads(asked["planned"]["statement"])
    for statement in (json.dumps(content | {"name": "eve"}), "{}", ""):
        planned = asked["planned"] | {"statement": statement}
        client("s3").put_object(**where, Body=json.dumps(asked | {"planned": planned}))
        refused = bob.run("approve", run, "--key", keys["bob"])
        assert refused.returncode == 4
        assert "The author of this plan is unknown." in refused.stdout


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
def test_another_computer_applies_the_same_plan(ann, bob, change):
    """Like two jobs of a workflow: each on a machine without the files of the other."""
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
    # Either the state has changed, or the plan's entry in the bucket is gone.
    assert re.search("state: was serial|another run has applied or discarded it", again.stdout)
    gone = bootstrap(bob, "-p", "approve", digest)
    assert (gone.returncode, "No plan with this digest is pending" in gone.stdout) == (4, True)


def test_an_approval_is_for_the_plan_that_was_shown(ann, change):
    digest, _run = plan(ann)
    path = next((ann.root / "runs" / ENV / ".plans").glob("*.json"))
    shown = json.loads(path.read_text())
    forged = shown | {"summary": "nothing to worry about"}
    path.write_text(json.dumps(forged))
    done = bootstrap(ann, "-p", "approve", digest)
    assert done.returncode == 4
    assert "The plan changed after it was shown." in done.stdout
    assert "-nothing to worry about" in done.stdout
    assert plan_files(ann) == []


def test_all_changes_since_the_plan_are_listed(ann, change, client):
    digest, run = plan(ann)
    git(ann.root, "commit", "-q", "--allow-empty", "-m", "another")
    where = {"Bucket": "guarded-state-123456789012", "Key": "account/terraform.tfstate"}
    body = client("s3").get_object(**where)["Body"].read()
    state = json.loads(body)
    client("s3").put_object(**where, Body=json.dumps(state | {"serial": state["serial"] + 1}))
    path = next((ann.root / "runs" / ENV / ".plans").glob("*.json"))
    pending = json.loads(path.read_text()) | {"made": "2026-01-01T00:00:00Z"}
    pending["basis"]["account"] = "210987654321"
    path.write_text(json.dumps(pending))

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
        "age: made at 2026-01-01T00:00:00Z; a plan expires after 24 hours",
    ):
        assert line in done.stdout
    assert plan_files(ann) == []


def widgets_of(front) -> dict[str, str]:
    """Return the comms of the next gate, by the descriptions of its widgets."""
    widgets = {}
    while "Decline" not in widgets:
        message = front.client.get_iopub_msg(timeout=30)
        if message["msg_type"] == "comm_open":
            state = message["content"]["data"]["state"]
            widgets[state.get("description")] = message["content"]["comm_id"]
    return widgets


def press(front, description: str, text: str, widgets: dict[str, str] | None = None) -> None:
    """Type into the widget and press a button, with the messages that JupyterLab sends."""
    widgets = widgets or widgets_of(front)
    for name, data in (
        ("Type here", {"method": "update", "state": {"value": text}, "buffer_paths": []}),
        (description, {"method": "custom", "content": {"event": "click"}}),
    ):
        content = {"comm_id": widgets[name], "data": data}
        front.client.shell_channel.send(front.client.session.msg("comm_msg", content))


def until_the_gate(front) -> None:
    """Run bootstrap's cells up to the gate's widget, as in JupyterLab."""
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
    assert "is waiting for the approval of a second person" in waits["evalue"]
    run = re.search(r"daybook approve (\S+);", waits["evalue"])[1]
    bob.succeed("approve", run, "--key", keys["bob"])
    for source in ("step.approve()", "step.apply()", "step.verify()", "step.record()"):
        reply = front.execute(source)
        assert reply["status"] == "ok", reply
    change()
    how = ann.record(ENV, "bootstrap")["approvals"][-1]["how"]
    assert how == f"by typing {ENV} and by bob@example.com"


def test_in_a_notebook_a_decline_ends_the_run_and_records_the_reason(ann, change, make_front):
    front = make_front(ann.root)
    until_the_gate(front)
    press(front, "Decline", "not before the backup")
    assert front.execute("step.apply()")["ename"] == "ApprovalRefused"
    record = ann.record(ENV, "bootstrap")
    assert (record["status"], record["reason"]) == ("failed", "declined: not before the backup")
    assert plan_files(ann) == []


def digest_of(front) -> str:
    """Run the plan cell and return its digest."""
    reply = front.execute("step.plan()")
    assert reply["status"] == "ok", reply
    return front.value("step._plan.digest")


@pytest.fixture
def more(client):
    """Return a function that makes one more difference."""
    where = {"repositoryName": "guarded"}
    scan = {"imageScanningConfiguration": {"scanOnPush": False}}
    done = []

    def change_it():
        done.append(client("ecr").put_image_scanning_configuration(**where, **scan))

    yield change_it
    if done:
        scan["imageScanningConfiguration"]["scanOnPush"] = True
        client("ecr").put_image_scanning_configuration(**where, **scan)


@pytest.mark.attack("A1", "an old gate approves a newer plan")
@pytest.mark.usefixtures("one_approves")
def test_a_gate_approves_only_the_plan_that_it_shows(ann, change, more, make_front):
    front = make_front(ann.root)
    until_the_gate(front)
    gate = widgets_of(front)
    shown = front.value("step._plan.digest")
    more()
    newer = digest_of(front)
    assert newer != shown
    press(front, "Approve", ENV, gate)
    assert front.execute("step.apply()")["ename"] == "SettingsError"
    assert front.value("step._approval") == "None"
    with pytest.raises(Exception, match="LifecyclePolicyNotFound"):
        change()
    assert front.execute("step.approve()")["ename"] == "ApprovalNeeded"
    press(front, "Approve", ENV)
    for source in ("step.apply()", "step.verify()", "step.record()"):
        reply = front.execute(source)
        assert reply["status"] == "ok", reply
    change()
    record = ann.record(ENV, "bootstrap")
    assert [each["digest"] for each in record["approvals"]] == [newer]
    assert "intact" in ann.run("runs", "verify", record["run"]).stdout


@pytest.mark.attack("A2", "apply, approve and plan again after the plan was applied")
@pytest.mark.usefixtures("one_approves")
def test_repeating_any_cell_after_apply_keeps_the_run_successful(ann, change, make_front):
    front = make_front(ann.root)
    until_the_gate(front)
    gate = widgets_of(front)
    press(front, "Approve", ENV, gate)
    assert front.execute("step.apply()")["status"] == "ok"
    change()
    for source in ("step.apply()", "step.approve()"):
        reply = front.execute(source)
        assert reply["status"] == "ok", reply
    assert "Already applied at" in front.value("step.apply()")
    for source in ("step.plan()", "step.preflight()", "step.approve('plan-1')"):
        refused = front.execute(source)
        assert refused["ename"] == "AlreadyApplied"
        assert "has applied" in refused["evalue"]
        assert "Nothing was changed" not in refused["evalue"]
    for button in ("Approve", "Decline", "Decline"):
        press(front, button, "", gate)
    for source in ("step.verify()", "step.record()"):
        reply = front.execute(source)
        assert reply["status"] == "ok", reply
    record = ann.record(ENV, "bootstrap")
    assert record["status"] == "succeeded"
    for source in ("step.apply()", "step.plan()", "step.approve()", "step.record()"):
        over = front.execute(source)
        assert "This run has ended: its record is closed." in over["evalue"]
        assert "Nothing was changed" not in over["evalue"]


@pytest.mark.attack("A1", "the gate of a run that another tab of the kernel has closed")
@pytest.mark.usefixtures("one_approves")
def test_a_second_tab_closes_the_gate_of_the_first(ann, change, make_front):
    front = make_front(ann.root)
    until_the_gate(front)
    gate = widgets_of(front)
    front.execute("first, gate = step, step.approval._gate")
    until_the_gate(front)
    press(front, "Approve", ENV, gate)
    assert "This run has ended" in front.value("gate.answer.value")
    for source in ("first.apply()", "step.apply()"):
        assert front.execute(source)["ename"] == "SettingsError"
    front.execute("step.lock.release()")
    with pytest.raises(Exception, match="LifecyclePolicyNotFound"):
        change()


@pytest.mark.attack("A1", "the gate of a kernel that was restarted")
@pytest.mark.usefixtures("one_approves")
def test_a_gate_of_a_restarted_kernel_approves_nothing(ann, change, make_front):
    front = make_front(ann.root)
    until_the_gate(front)
    gate = widgets_of(front)
    front.manager.restart_kernel()
    front.client.wait_for_ready(timeout=60)
    press(front, "Approve", ENV, gate)
    assert front.execute("step.apply()")["ename"] == "NameError"
    until_the_gate(front)
    press(front, "Approve", ENV, gate)
    assert front.execute("step.apply()")["ename"] == "SettingsError"
    front.execute("step.lock.release()")
    with pytest.raises(Exception, match="LifecyclePolicyNotFound"):
        change()
