"""`daybook runs`: each command, for people and for programs."""

from __future__ import annotations

import json
import tarfile

import pytest
from click.testing import CliRunner

from daybook.cli.runs import runs
from daybook.errors import SettingsError, VerifyFailed


@pytest.fixture
def call(tmp_path, monkeypatch):
    """Return what calls `daybook runs …` here; an error comes out as it was raised."""
    monkeypatch.setenv("DAYBOOK_ROOT", str(tmp_path))

    def run(*args: str) -> str:
        return CliRunner().invoke(runs, args, catch_exceptions=False).output

    return run


def test_list_and_search_in_both_forms(call, closed_run):
    closed_run("r1")
    closed_run("r2", status="failed", target="sandbox")
    said = call("list")
    assert "✗ failed" in said
    assert "REHEARSAL" in said
    assert [row["run"] for row in json.loads(call("list", "--json"))] == ["r2", "r1"]
    assert [row["run"] for row in json.loads(call("list", "--json", "--status", "failed"))] == [
        "r2"
    ]
    assert "«one»" in json.loads(call("search", "one", "--json"))[0]["found"]
    assert "0 runs" in call("search", "nothing")


def test_show(call, closed_run):
    closed_run("r1")
    said = call("show", "r1")
    assert "plan-0123456789abcdef" in said
    assert "size" in said
    assert json.loads(call("show", "--json"))["run"] == "r1"


def test_show_of_an_open_run(call, open_run):
    open_run("r1")
    assert json.loads(call("show", "--json"))["status"] == "running"


def test_open_says_where_the_page_is(call, closed_run, monkeypatch):
    opened = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    folder = closed_run("r1")
    assert str(folder / "report.html") in call("open", "r1")
    assert opened == [(folder / "report.html").as_uri()]
    assert json.loads(call("open", "r1", "--json"))["report"] == str(folder / "report.html")


def test_open_of_a_run_that_is_not_closed(call, open_run):
    open_run("r1")
    with pytest.raises(SettingsError, match="no report"):
        call("open", "r1")


def test_diff(call, closed_run):
    closed_run("r1")
    closed_run("r2", parameters={"size": 7})
    assert "size" in call("diff", "r1", "r2")
    differences = json.loads(call("diff", "r1", "r2", "--json"))["differences"]
    assert differences == [{"section": "parameters", "name": "size", "before": 1, "after": 7}]


def test_verify(call, closed_run):
    folder = closed_run("r1")
    assert "ann@example.com" in call("verify")
    assert json.loads(call("verify", "--all", "--json"))[0]["state"] == "intact"
    (folder / "report.html").chmod(0o644)
    (folder / "report.html").write_text("x")
    with pytest.raises(VerifyFailed, match="1 of 1"):
        call("verify", "--all")


def test_settle_closes_what_was_left(call, open_run):
    open_run("r1", kernel={"pid": 2**22 + 1, "started": 1.0})
    assert "r1: interrupted" in call("settle")
    assert "No run was left open" in call("settle")
    assert json.loads(call("settle", "--json")) == []


def test_export(call, closed_run, tmp_path):
    closed_run("r1")
    closed_run("r2")
    assert "2 runs" in call("export", "-o", str(tmp_path / "all.tgz"))
    with tarfile.open(tmp_path / "all.tgz") as tar:
        names = tar.getnames()
    assert "runs/staging/r2/record.json" in names
    assert "environments/signers" in names
    chosen = json.loads(call("export", "r1", "-o", str(tmp_path / "one.tgz"), "--json"))
    assert chosen["runs"] == ["r1"]
