"""Records of earlier versions stay readable, and their bytes do not change."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from daybook.cli import runs_tables
from daybook.record import journal, model, seal, summary, verification
from daybook.record.search import Archive

FILES = json.loads((Path(__file__).parents[2] / "fixtures/records.json").read_text())
"""The files of records of Daybook 0.1.0, by path: succeeded, failed and unsigned, killed and
closed later, waiting, approved by a second person, of the first journal format, rehearsal."""
FOLDERS = sorted({path.split("/")[1] for path in FILES if path.endswith("/record.json")})
FROM_SEALING = ("files", "previous", "signed")
SIGNERS = ["ann@example.com", "", *["ann@example.com"] * 4, "sandbox"]
STATUSES = ["succeeded", "failed", "interrupted", "waiting", *["succeeded"] * 3]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Return a project with these records."""
    for path, text in FILES.items():
        file = tmp_path / ("environments" if path == "signers" else "runs") / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(text.encode())
    return tmp_path


def test_old_records_verify(project):
    verdicts = list(verification.verify_all(project))
    assert [verdict.problems for verdict in verdicts] == [()] * len(FOLDERS)
    assert [verdict.signer for verdict in verdicts] == SIGNERS


def test_old_records_are_listed(project):
    rows = Archive(project).list()
    assert [row.status for row in reversed(rows)] == STATUSES


@pytest.mark.parametrize("name", FOLDERS)
def test_the_bytes_of_a_record_follow_from_its_journal(name, project):
    folder = project / "runs/staging" / name
    content = (folder / seal.NAME).read_bytes()
    record = json.loads(content)
    derived = summary.summarise(journal.read(folder / journal.NAME))
    derived |= {name: record[name] for name in FROM_SEALING}
    assert seal.encode(derived) == content


@pytest.mark.parametrize("name", FOLDERS)
def test_a_record_matches_the_schema_and_the_schema_names_all_its_fields(name, project):
    folder = project / "runs/staging" / name
    record = json.loads((folder / seal.NAME).read_bytes())
    schema = model.json_schema()
    jsonschema.validate(record, schema)
    assert record.keys() == schema["properties"].keys() == set(schema["required"])


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("target", "gcp"),
        ("account", "12"),
        ("status", "running"),
        ("start", "2026-11-23"),
        ("operator", {"user": "ann"}),
        ("files", {"report.html": {"sha256": "0", "bytes": 1}}),
        ("extra", 1),
    ],
)
def test_the_schema_is_stricter_than_reading(field, value):
    record = json.loads(FILES[f"staging/{FOLDERS[0]}/{seal.NAME}"]) | {field: value}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(record, model.json_schema())


@pytest.mark.parametrize("name", runs_tables.SECTIONS)
def test_the_columns_of_a_table_are_fields_of_the_model(name):
    (part,) = model.Record.model_fields[name].annotation.__args__
    fields = model.json_schema()["$defs"][part.__name__]["properties"]
    assert set(runs_tables.SECTIONS[name]) <= fields.keys()
