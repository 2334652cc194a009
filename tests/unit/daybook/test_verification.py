"""Verification detects every edit, truncation, swap, removal and unknown signature."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import asdict
from pathlib import Path

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from daybook import signers
from daybook.record import journal, model, seal, signing, statement, verification

SCHEMA = model.json_schema()


def verdicts(root: Path) -> dict[str, verification.Verdict]:
    return {verdict.run: verdict for verdict in verification.verify_all(root)}


def edit(path: Path, before: str, after: str) -> None:
    """Change the text of a read-only file, as root or its owner can."""
    text = path.read_text()
    assert before in text
    path.chmod(0o644)
    path.write_text(text.replace(before, after))


def remove(folder: Path) -> None:
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o755)
    shutil.rmtree(folder)


def test_a_closed_record_is_intact_and_names_its_signer(closed_run):
    folder = closed_run()
    assert verification.verify(folder) == verification.Verdict(
        "staging", "r1", "intact", "ann@example.com"
    )
    jsonschema.validate(seal.load(folder), SCHEMA)


def test_a_closed_record_is_read_only_and_has_no_other_files(closed_run):
    folder = closed_run()
    assert {path.name for path in folder.iterdir()} == {
        *("journal.jsonl", "notebook.ipynb", "report.html", "record.json", "record.json.sig"),
        "attachments",
    }
    assert not any(path.stat().st_mode & 0o222 for path in [folder, *folder.rglob("*")])


def test_a_record_without_a_key_is_unsigned(closed_run):
    folder = closed_run(sign=False)
    assert verification.verify(folder).state == "unsigned"
    assert seal.load(folder)["signed"] is False


EDITS = {
    "an output in the journal": ("journal.jsonl", "one to create", "two to create"),
    "an output in the notebook": ("notebook.ipynb", "one to create", "two to create"),
    "an output in the report": ("report.html", "one to create", "two to create"),
    "an attachment": ("attachments/01-terraform.log", "complete", "failed"),
    "a parameter": ("record.json", '"size": 1', '"size": 2'),
    "the status": ("record.json", '"succeeded"', '"failed"'),
    "the operator": ("record.json", '"ann@example.com"', '"bob@example.com"'),
    "the duration of a cell": ("record.json", '"seconds": 0.5', '"seconds": 1.5'),
    "the state of a phase": ("record.json", '"ended"', '"failed"'),
    "the reason": ("record.json", '"reason": ""', '"reason": "a timeout"'),
}


@pytest.mark.parametrize("sign", [True, False], ids=["signed", "unsigned"])
@pytest.mark.parametrize("name", EDITS)
def test_an_edit_is_detected(closed_run, name, sign):
    folder = closed_run(sign=sign)
    file, before, after = EDITS[name]
    edit(folder / file, before, after)
    verdict = verification.verify(folder)
    assert verdict.is_broken
    assert any(file in problem for problem in verdict.problems)


def test_a_removed_cell_is_detected_by_line(closed_run):
    folder = closed_run()
    path = folder / journal.NAME
    lines = path.read_text().splitlines(keepends=True)
    path.chmod(0o644)
    path.write_text("".join(line for line in lines if '"cell_start"' not in line))
    assert "journal.jsonl line 5: does not follow line 4" in verification.verify(folder).problems


def test_a_truncated_journal_is_detected(closed_run):
    folder = closed_run()
    path = folder / journal.NAME
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-3])
    assert any(
        "not a complete entry" in problem for problem in verification.verify(folder).problems
    )


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=150
)
@given(data=st.data())
def test_any_change_of_any_file_is_detected(closed_run, tmp_path, data):
    folder = tmp_path / "runs/staging/r1"
    folder = folder if folder.exists() else closed_run()
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    path = data.draw(st.sampled_from(files))
    original = path.read_bytes()
    start = data.draw(st.integers(0, len(original) - 1))
    length = data.draw(st.integers(0, 40))
    new = data.draw(st.binary(max_size=40))
    changed = original[:start] + new + original[start + length :]
    path.chmod(0o644)
    path.write_bytes(changed)
    try:
        verdict = verification.verify(folder)
    finally:
        path.write_bytes(original)
    # White space in the armour of a signature may be insignificant or break the signature.
    if path.suffix != ".sig" or b"".join(changed.split()) != b"".join(original.split()):
        assert verdict.is_broken != (changed == original), verdict
    assert verification.verify(folder).state == verification.INTACT


def test_a_swapped_added_or_missing_file_is_detected(closed_run):
    first, second = closed_run("r1"), closed_run("r2")
    (second / "report.html").chmod(0o644)
    (second / "report.html").write_bytes((first / "report.html").read_bytes())
    first.chmod(0o755)
    (first / "extra.txt").write_text("x")
    (first / "notebook.ipynb").unlink()
    assert set(verification.verify(first).problems) == {
        "notebook.ipynb: missing",
        "extra.txt: not part of the record",
    }
    assert verification.verify(second).problems == ("report.html: changed",)


def test_a_copied_record_is_detected(closed_run):
    folder = closed_run("r1")
    shutil.copytree(folder, folder.with_name("r9"))
    assert verdicts(folder.parents[2])["r9"].is_broken


def test_a_signature_by_an_unknown_key_is_broken(closed_run, tmp_path):
    folder = closed_run()
    unknown = tmp_path / "unknown"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", unknown], check=True)
    content = (folder / seal.NAME).read_bytes()
    (folder / seal.SIGNATURE).chmod(0o644)
    (folder / seal.SIGNATURE).write_text(signing.sign(content, unknown, signing.RECORD)[0])
    assert any(
        "by an unknown key, SHA256:" in problem for problem in verification.verify(folder).problems
    )


def test_a_record_with_a_missing_signature_is_not_unsigned(closed_run):
    folder = closed_run()
    folder.chmod(0o755)
    (folder / seal.SIGNATURE).unlink()
    assert verification.verify(folder).problems == ("record.json.sig: missing",)


def test_the_key_of_rehearsals_counts_for_rehearsals_only(closed_run, key):
    folder = closed_run(target="sandbox")
    assert verification.verify(folder).signer == "sandbox"
    real = closed_run("r2")
    content = (real / seal.NAME).read_bytes()
    (real / seal.SIGNATURE).chmod(0o644)
    (real / seal.SIGNATURE).write_text(signing.sign(content, key, signing.REHEARSAL)[0])
    assert verification.verify(real).is_broken


@pytest.mark.parametrize("removed", ["r1", "r2", "r3"])
def test_a_removed_record_is_detected(closed_run, removed):
    folders = {run: closed_run(run) for run in ("r1", "r2", "r3")}
    root = folders["r1"].parents[2]
    assert {verdict.state for verdict in verdicts(root).values()} == {"intact"}
    remove(folders[removed])
    broken = [verdict for verdict in verdicts(root).values() if verdict.is_broken]
    assert len(broken) == 1
    assert any("missing" in problem for problem in broken[0].problems)


def test_a_replaced_record_is_detected(closed_run):
    folders = [closed_run(run) for run in ("r1", "r2", "r3")]
    head = folders[0].parent / seal.HEAD
    original = head.read_text()
    remove(folders[1])
    head.write_text(json.dumps(json.loads(original)["previous"] | {"previous": None}))
    closed_run("r2", parameters={"size": 9})
    head.write_text(original)
    problems = verdicts(folders[0].parents[2])["r3"].problems
    assert problems == ("link: the previous record, r2, was changed",)


def test_a_missing_head_is_detected(closed_run):
    folder = closed_run()
    (folder.parent / seal.HEAD).unlink()
    assert verdicts(folder.parents[2])[seal.HEAD].is_broken


def test_an_unclosed_run_is_open(open_run):
    folder = open_run().path.parent
    assert verification.verify(folder).state == "open"


def test_a_run_with_a_removed_record_json_is_not_open(closed_run):
    folder = closed_run()
    folder.chmod(0o755)
    (folder / seal.NAME).unlink()
    assert verification.verify(folder).is_broken


OLD, NEW = "plan-f86fd91c", "plan-7b630c2a"
HOW = "by typing uxlab"


def write(entries, writer) -> None:
    """Add entries to a journal: `("plan", {"digest": …})`."""
    for kind, data in entries:
        writer.write(kind, **data)


def planned(digest: str, **more) -> list:
    start, end = ({"name": "plan", "state": state} for state in ("started", "ended"))
    return [("phase", start), ("plan", {"digest": digest, "changes": []} | more), ("phase", end)]


def displayed(digest: str, summary: str = "s") -> list:
    return [("displayed", {"digest": digest, "summary": summary, "where": "plan"})]


def approved(digest: str, how: str = HOW, **more) -> list:
    return [("approval", {"digest": digest, "how": how, "by": []} | more)]


def applied(*entries, state: str = "ended", changes: int = 2) -> list:
    change = ("change", {"tool": "terraform", "action": "create", "what": "aws_vpc.this"})
    start, end = ({"name": "apply", "state": state} for state in ("started", state))
    return [("phase", start), *entries, *[change] * changes, ("phase", end)]


def apply(digest: str, summary: str = "s", **more) -> tuple:
    return ("apply", {"digest": digest, "summary": summary} | more)


@pytest.fixture
def verify(open_run, closed_run, key, tmp_path):
    """Return a function that makes a signed record of these entries and verifies it."""

    def run(*parts: list, lines: list[str] = (), **header: object) -> verification.Verdict:
        closed_run("before")
        if lines:
            (tmp_path / signers.FILE).write_text("\n".join(lines))
        writer = open_run("r2", **header)
        write([entry for part in parts for entry in part], writer)
        seal.close(writer.path.parent, "succeeded", open_journal=writer, key=key)
        return verification.verify(writer.path.parent)

    return run


@pytest.mark.attack("A1", "a record of an older version in which an old gate approved a newer plan")
@pytest.mark.parametrize("state", ["ended", "failed"])
def test_an_unapproved_plan_in_an_old_record_is_detected(verify, state):
    """As in record 20261127T123152Z-provision-96629f, which was reported as intact."""
    changes = applied(state=state)
    verdict = verify(planned(OLD), planned(NEW), approved(OLD), changes)
    problem = f"approval: {NEW} was applied, but {OLD} was approved"
    assert (verdict.state, verdict.problems) == ("unapproved", (problem,))
    assert verdict.signer == "ann@example.com"
    assert verdict.is_broken


OLD_AND_GOOD = {
    "approved by its digest": [planned(NEW), approved(NEW, "by its digest"), applied()],
    "planned again, and approved again": [
        *(planned(OLD), approved(OLD), planned(NEW), approved(NEW), applied()),
    ],
    "nothing to do": [planned(NEW), approved(NEW, "not needed"), applied(changes=0)],
    "declined": [planned(NEW), approved(NEW, "declined: no")],
    "refused at apply": [planned(NEW), approved(NEW), applied(state="failed", changes=0)],
    "planned only": [planned(NEW)],
}


@pytest.mark.parametrize("name", OLD_AND_GOOD)
def test_valid_records_of_an_older_version_are_intact(verify, name):
    assert verify(*OLD_AND_GOOD[name]).problems == ()


NEW_AND_GOOD = [planned(NEW), displayed(NEW), approved(NEW)]
UNAPPROVED = {
    "without an approval": (
        [planned(NEW), displayed(NEW), applied(apply(NEW))],
        "was applied without an approval",
    ),
    "approved before it was planned again": (
        [*NEW_AND_GOOD, planned(NEW), displayed(NEW), applied(apply(NEW))],
        "was applied without an approval",
    ),
    "after a decline": (
        [*NEW_AND_GOOD, approved(NEW, "declined by bob"), applied(apply(NEW))],
        "after it was declined",
    ),
    "another plan than the approved one": (
        [planned(NEW), displayed(NEW), approved(OLD), applied(apply(NEW))],
        f"{OLD} was approved",
    ),
    "another plan than the current one": (
        [planned(NEW), displayed(OLD), displayed(NEW), approved(OLD), applied(apply(OLD))],
        f"{OLD} was applied, but {OLD} was approved",
    ),
    "not displayed": ([planned(NEW), approved(NEW), applied(apply(NEW))], "had not been displayed"),
    "displayed with another text": (
        [*NEW_AND_GOOD, applied(apply(NEW, "t"))],
        "not been displayed",
    ),
    "without an apply entry": ([*NEW_AND_GOOD, applied()], "without an apply entry"),
}


@pytest.mark.attack("A1", "a record of a change that was not displayed or approved, by digest")
@pytest.mark.parametrize("name", UNAPPROVED)
def test_a_plan_not_approved_as_displayed_is_detected(verify, name):
    parts, problem = UNAPPROVED[name]
    verdict = verify(*parts)
    assert verdict.state == "unapproved"
    assert problem in "; ".join(verdict.problems)


def test_a_displayed_and_approved_plan_is_intact(verify):
    assert verify(*NEW_AND_GOOD, applied(apply(NEW))).state == "intact"


def test_a_journal_with_fields_of_wrong_types_is_judged(verify):
    invalid = [("approval", {"digest": [], "how": 7, "by": 7}), ("plan", {"digest": {}})]
    entry = ("apply", {"digest": None, "needs": 1, "planned": 7, "applying": [], "time": "x"})
    assert verify(invalid, applied(entry)).state == "unapproved"


SHOWN = [*planned(NEW), *displayed(NEW)]
GOOD = apply(NEW, needs=0)
LEFT = ("change", {"tool": "daybook", "action": "removed", "what": "lock 7, left by r1"})
RETIRED = ("change", {"tool": "daybook", "action": "retired", "what": "TOKEN version 1"})
CHANGE = ("change", {"tool": "terraform", "action": "create", "what": "aws_vpc.this"})


def phase(name: str, *entries) -> list:
    start, end = ({"name": name, "state": state} for state in ("started", "ended"))
    return [("phase", start), *entries, ("phase", end)]


NOW_AND_GOOD = {
    "by its digest": [SHOWN, approved(NEW, "by its digest"), applied(GOOD)],
    "by hand": [SHOWN, approved(NEW, "by typing staging"), applied(GOOD)],
    "failed": [SHOWN, approved(NEW, "by its digest"), applied(GOOD, state="failed")],
    "not needed": [SHOWN, approved(NEW, "not needed"), applied(apply(NEW), changes=0)],
    "the lock of a killed run": [phase("plan", LEFT), SHOWN],
    "a retired secret": [
        *(SHOWN, approved(NEW, "by its digest"), applied(GOOD), phase("verify", RETIRED)),
    ],
    "declined": [SHOWN, approved(NEW, "declined: no")],
    "approved twice": [SHOWN, *[approved(NEW, "by its digest")] * 2, applied(GOOD)],
    "planned and approved again": [
        *([*planned(OLD), *displayed(OLD)], approved(OLD, "by its digest")),
        *(SHOWN, approved(NEW, "by its digest"), applied(GOOD)),
    ],
}


@pytest.mark.parametrize("name", NOW_AND_GOOD)
def test_valid_records_of_this_version_are_intact(verify, name):
    assert verify(*NOW_AND_GOOD[name], format=2).problems == ()


BY_DIGEST = approved(NEW, "by its digest")
NOT_GOOD_NOW = {
    "no number of approvals": ([SHOWN, BY_DIGEST, applied(apply(NEW))], "by a second person"),
    "needs one": ([SHOWN, BY_DIGEST, applied(apply(NEW, needs=1))], "by a second person"),
    "two apply phases": ([SHOWN, BY_DIGEST, *[applied(GOOD)] * 2], "was already used"),
    "two apply entries": ([SHOWN, BY_DIGEST, applied(GOOD, GOOD)], "was already used"),
    "changed again without an entry": (
        [SHOWN, BY_DIGEST, applied(GOOD), applied()],
        "without an apply entry",
    ),
    "changed in verify": ([SHOWN, phase("verify", CHANGE)], "outside the apply phase, in verify"),
    "changed in no phase": ([SHOWN, [CHANGE]], "outside the apply phase, in no phase"),
    "a lock in verify": ([SHOWN, phase("verify", LEFT)], "outside the apply phase, in verify"),
    "in the oldest format": ([planned(NEW), BY_DIGEST, applied()], "without an apply entry"),
    "auto on AWS": (
        [SHOWN, approved(NEW, "by auto, in the sandbox"), applied(GOOD)],
        "valid only in the sandbox",
    ),
    "not needed, but changed": (
        [SHOWN, approved(NEW, "not needed"), applied(apply(NEW))],
        "a change was made",
    ),
    "not needed for changes": (
        [planned(NEW, changes=["create x"]), displayed(NEW), approved(NEW, "not needed")],
        "has changes, so it needed an approval",
    ),
    "in another way": ([SHOWN, approved(NEW, "by magic"), applied(GOOD)], "in an unknown way"),
    "for another environment": (
        [SHOWN, approved(NEW, "by typing production"), applied(GOOD)],
        "in an unknown way",
    ),
    "before it was displayed": (
        [planned(NEW), BY_DIGEST, displayed(NEW), applied(GOOD)],
        "before it was displayed",
    ),
    "an apply entry outside": ([SHOWN, BY_DIGEST, [GOOD]], "outside the apply phase"),
    **UNAPPROVED,
}


@pytest.mark.attack("F3", "a record that omits, repeats or reorders required entries")
@pytest.mark.parametrize("name", NOT_GOOD_NOW)
def test_a_journal_that_this_version_cannot_write_is_detected(verify, name):
    parts, problem = NOT_GOOD_NOW[name]
    verdict = verify(*parts, format=2)
    assert verdict.state == "unapproved"
    assert problem in "; ".join(verdict.problems)


@pytest.mark.attack("F3", "a record that claims that no other approval was needed")
@pytest.mark.parametrize("target", ["aws", "sandbox"])
def test_the_settings_of_the_commit_give_the_number_of_approvals(verify, tmp_path, target):
    text = (
        "app: hello\naccount: '123456789012'\nzone: x.test\nnames: [x.test]\noperators: []\n"
        "cidr: 10.0.0.0/16\napprovals: 1\ngit: pushed\n"
    )
    (tmp_path / "environments").mkdir(exist_ok=True)
    (tmp_path / "environments/staging.yml").write_text(text)
    author = ("-c", "user.name=Ann", "-c", "user.email=ann@example.test")
    for words in (("init",), ("add", "environments"), (*author, "commit", "-m", "One")):
        subprocess.run(["git", "-C", tmp_path, *words], check=True, capture_output=True)
    head = subprocess.run(["git", "-C", tmp_path, "rev-parse", "HEAD"], capture_output=True)
    git = {"commit": head.stdout.decode().strip(), "branch": "main", "dirty": []}
    verdict = verify(SHOWN, BY_DIGEST, applied(GOOD), format=2, git=git, target=target)
    assert ("not approved by a second person" in str(verdict.problems)) == (target == "aws")


@pytest.mark.attack("F3", "a record with the operator as second person, or with a forged signature")
@pytest.mark.parametrize("format", [{}, {"format": 2}], ids=["before", "now"])
@pytest.mark.parametrize(
    "name", ["good", "alone", "no approver", "forged", "not planned", "not applied"]
)
def test_the_signatures_of_a_change_are_verified(verify, tmp_path, key, name, format):
    header = {"environment": "staging", "step": "provision", "account": "123456789012"}
    header |= {"region": "us-east-1", "target": "aws", "commit": "0" * 40}
    about = {"run": "r2", "digest": NEW, "summary": "s", "made": "2026-11-27T12:00:00Z"} | header
    bob = tmp_path / "bob"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", bob], check=True)
    both = 'namespaces="daybook-record,daybook-approval"'
    lines = [f"ann@example.com {both} {signing.public_key(key)}"]
    lines += [f"bob@example.com {both} {signing.public_key(bob)}\n"]
    allowed = signers.parse("\n".join(lines), "signers")

    def signed(decision, by):
        return asdict(statement.sign(about, decision, by, allowed)[0])

    approver = {"alone": key}.get(name, bob)
    approval = signed("approved", approver) | {"name": "bob@example.com"}
    if name == "forged":
        approval["statement"] = approval["statement"].replace("approved", "approved ")
    facts = {"made": about["made"], "made_by": "r2", "needs": 1}
    facts |= {"planned": signed("planned", key), "applying": signed("applying", key)}
    if name in ("not planned", "not applied"):
        del facts["planned" if name == "not planned" else "applying"]
    by = [] if name == "no approver" else [approval]

    how = "by its digest and by bob@example.com"
    parts = [planned(NEW), displayed(NEW), approved(NEW, how, by=by)]
    change = applied(apply(NEW, **facts))
    verdict = verify(*parts, change, lines=lines, **format)
    assert verdict.state == ("intact" if name == "good" else "unapproved"), verdict
