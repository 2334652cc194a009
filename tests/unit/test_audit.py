"""What verify finds: every edit, cut, exchange, removal and strange signature."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from daybook.record import audit, journal, record, signing

SCHEMA = json.loads((Path(record.__file__).parent / "schemas/record.json").read_text())


def verdicts(root: Path) -> dict[str, audit.Verdict]:
    return {verdict.run: verdict for verdict in audit.verify_all(root)}


def edit(path: Path, before: str, after: str) -> None:
    """Change a text in a read-only file, as root or its owner can."""
    text = path.read_text()
    assert before in text
    path.chmod(0o644)
    path.write_text(text.replace(before, after))


def remove(folder: Path) -> None:
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o755)
    shutil.rmtree(folder)


def test_a_closed_record_is_intact_by_its_signer(closed_run):
    folder = closed_run()
    assert audit.verify(folder) == audit.Verdict("staging", "r1", "intact", "ann@example.com")
    jsonschema.validate(record.load(folder), SCHEMA)


def test_a_record_is_read_only_and_leaves_nothing_beside_it(closed_run):
    folder = closed_run()
    assert {path.name for path in folder.iterdir()} == {
        *("journal.jsonl", "notebook.ipynb", "report.html", "record.json", "record.json.sig"),
        "attachments",
    }
    assert not any(path.stat().st_mode & 0o222 for path in [folder, *folder.rglob("*")])


def test_a_record_without_a_key_is_unsigned(closed_run):
    folder = closed_run(sign=False)
    assert audit.verify(folder).state == "unsigned"
    assert record.load(folder)["signed"] is False


EDITS = {
    "an output in the journal": ("journal.jsonl", "one to create", "two to create"),
    "an output in the notebook": ("notebook.ipynb", "one to create", "two to create"),
    "an output in the report": ("report.html", "one to create", "two to create"),
    "an attachment": ("attachments/01-terraform.log", "complete", "failed"),
    "a parameter": ("record.json", '"size": 1', '"size": 2'),
    "the status": ("record.json", '"succeeded"', '"failed"'),
    "the operator": ("record.json", '"ann@example.com"', '"bob@example.com"'),
}


@pytest.mark.parametrize("sign", [True, False], ids=["signed", "unsigned"])
@pytest.mark.parametrize("name", EDITS)
def test_an_edit_is_found(closed_run, name, sign):
    folder = closed_run(sign=sign)
    file, before, after = EDITS[name]
    edit(folder / file, before, after)
    verdict = audit.verify(folder)
    assert verdict.is_broken
    assert any(file in problem for problem in verdict.problems)


def test_a_removed_cell_is_found_and_the_line_named(closed_run):
    folder = closed_run()
    path = folder / journal.NAME
    lines = path.read_text().splitlines(keepends=True)
    path.chmod(0o644)
    path.write_text("".join(line for line in lines if '"cell_start"' not in line))
    assert "journal.jsonl line 5: does not follow from line 4" in audit.verify(folder).problems


def test_a_cut_tail_is_found(closed_run):
    folder = closed_run()
    path = folder / journal.NAME
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-3])
    assert any("not a whole entry" in problem for problem in audit.verify(folder).problems)


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=150
)
@given(data=st.data())
def test_no_change_of_any_file_goes_unnoticed(closed_run, tmp_path, data):
    folder = tmp_path / "runs/staging/r1"
    folder = folder if folder.exists() else closed_run()
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    path = data.draw(st.sampled_from(files))
    whole = path.read_bytes()
    start = data.draw(st.integers(0, len(whole) - 1))
    length = data.draw(st.integers(0, 40))
    new = data.draw(st.binary(max_size=40))
    changed = whole[:start] + new + whole[start + length :]
    path.chmod(0o644)
    path.write_bytes(changed)
    try:
        verdict = audit.verify(folder)
    finally:
        path.write_bytes(whole)
    # White space in a signature's armour may mean nothing, or break it.
    if path.suffix != ".sig" or b"".join(changed.split()) != b"".join(whole.split()):
        assert verdict.is_broken != (changed == whole), verdict
    assert audit.verify(folder).state == audit.INTACT


def test_a_swapped_added_or_missing_file_is_found(closed_run):
    one, two = closed_run("r1"), closed_run("r2")
    (two / "report.html").chmod(0o644)
    (two / "report.html").write_bytes((one / "report.html").read_bytes())
    one.chmod(0o755)
    (one / "extra.txt").write_text("x")
    (one / "notebook.ipynb").unlink()
    assert set(audit.verify(one).problems) == {
        "notebook.ipynb: missing",
        "extra.txt: not part of the record",
    }
    assert audit.verify(two).problems == ("report.html: changed",)


def test_a_copied_record_is_found(closed_run):
    folder = closed_run("r1")
    shutil.copytree(folder, folder.with_name("r9"))
    assert verdicts(folder.parents[2])["r9"].is_broken


def test_a_signature_by_a_stranger(closed_run, tmp_path):
    folder = closed_run()
    stranger = tmp_path / "stranger"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", stranger], check=True)
    content = (folder / record.NAME).read_bytes()
    (folder / record.SIGNATURE).chmod(0o644)
    (folder / record.SIGNATURE).write_text(signing.sign(content, stranger, signing.RECORD)[0])
    assert any("by a stranger, SHA256:" in problem for problem in audit.verify(folder).problems)


def test_a_missing_signature_is_not_taken_for_an_unsigned_record(closed_run):
    folder = closed_run()
    folder.chmod(0o755)
    (folder / record.SIGNATURE).unlink()
    assert audit.verify(folder).problems == ("record.json.sig: missing",)


def test_a_rehearsal_s_key_counts_for_rehearsals_alone(closed_run, key):
    folder = closed_run(target="sandbox")
    assert audit.verify(folder).signer == "sandbox"
    real = closed_run("r2")
    content = (real / record.NAME).read_bytes()
    (real / record.SIGNATURE).chmod(0o644)
    (real / record.SIGNATURE).write_text(signing.sign(content, key, signing.REHEARSAL)[0])
    assert audit.verify(real).is_broken


@pytest.mark.parametrize("gone", ["r1", "r2", "r3"])
def test_a_removed_record_shows(closed_run, gone):
    folders = {run: closed_run(run) for run in ("r1", "r2", "r3")}
    root = folders["r1"].parents[2]
    assert {verdict.state for verdict in verdicts(root).values()} == {"intact"}
    remove(folders[gone])
    broken = [verdict for verdict in verdicts(root).values() if verdict.is_broken]
    assert len(broken) == 1
    assert any("gone" in problem for problem in broken[0].problems)


def test_a_record_put_in_the_place_of_another_shows(closed_run):
    folders = [closed_run(run) for run in ("r1", "r2", "r3")]
    head = folders[0].parent / record.HEAD
    kept = head.read_text()
    remove(folders[1])
    head.write_text(json.dumps(json.loads(kept)["previous"] | {"previous": None}))
    closed_run("r2", parameters={"size": 9})
    head.write_text(kept)
    problems = verdicts(folders[0].parents[2])["r3"].problems
    assert problems == ("link: the record before, r2, was changed",)


def test_a_lost_head_shows(closed_run):
    folder = closed_run()
    (folder.parent / record.HEAD).unlink()
    assert verdicts(folder.parents[2])[record.HEAD].is_broken


def test_a_run_that_is_not_closed_is_open(open_run):
    folder = open_run().path.parent
    assert audit.verify(folder).state == "open"


def test_a_removed_record_json_is_not_an_open_run(closed_run):
    folder = closed_run()
    folder.chmod(0o755)
    (folder / record.NAME).unlink()
    assert audit.verify(folder).is_broken
