"""A run's phases: in their order, and none after a failure."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from daybook.environment import Environment
from daybook.errors import ApplyFailed, ApprovalNeeded, SettingsError
from daybook.record import seal
from daybook.run import RUN_ID, Run, new_id

CHECKOUT = Path(__file__).parents[3]


@pytest.fixture
def begin(tmp_path):
    """Return a function that begins a run in a project without a sandbox."""
    shutil.copytree(CHECKOUT / "environments", tmp_path / "environments")
    started = []

    def call(**parameters) -> Run:
        environment = Environment.load(tmp_path, "staging")
        given, defaults = {"approve": "", **parameters}, {"approve": "", "reason": ""}
        run = Run.begin("provision", environment, parameters=given, defaults=defaults)
        started.append(run)
        return run

    yield call
    for run in started:
        run.recorder.abandon("the test is over")


def pass_phases(run: Run, *names: str) -> None:
    for name in names:
        with run.phase(name):
            pass


def test_an_id_sorts_by_time_and_names_the_step():
    assert re.fullmatch(r"\d{8}T\d{6}Z-provision-[0-9a-f]{6}", new_id("provision"))


def test_the_command_line_sets_the_id_once(begin, monkeypatch):
    chosen = new_id("provision")
    monkeypatch.setenv(RUN_ID, chosen)
    assert begin().id == chosen
    assert begin().id != chosen


@pytest.mark.attack("A1", "a run's id that puts its record outside runs/")
@pytest.mark.parametrize(
    "given",
    [
        *("../../../../elsewhere", "x/y", "..", ".plans", "-x", "a" * 300, "chosen"),
        *("20261123T184500Z-configure-3fa9c2", "20261123T184500Z-provision-3fa9c2/../x"),
        *("20261123T184500Z-provision-3fa9c2\n", "taken"),
    ],
)
def test_an_invalid_id_begins_no_run(begin, monkeypatch, tmp_path, given):
    if given == "taken":
        given = begin().id
    before = sorted(tmp_path.rglob("*"))
    monkeypatch.setenv(RUN_ID, given)
    with pytest.raises(SettingsError, match=r"is not the id of a run|already exists"):
        begin()
    assert sorted(tmp_path.rglob("*")) == before


def test_phases_run_in_order(begin):
    run = begin()
    with pytest.raises(SettingsError, match="apply cannot run yet") as caught, run.phase("apply"):
        pytest.fail("it ran")
    assert caught.value.next == "run the preflight cell"
    pass_phases(run, "preflight", "plan", "approve", "apply", "verify", "record")


def test_repeating_a_phase_requires_the_later_phases_again(begin):
    run = begin()
    pass_phases(run, "preflight", "plan", "approve")
    pass_phases(run, "plan")
    with pytest.raises(SettingsError, match="apply cannot run yet"), run.phase("apply"):
        pytest.fail("it ran")


def test_after_a_failure_every_phase_raises_its_error(begin):
    run = begin()
    pass_phases(run, "preflight", "plan", "approve")
    with pytest.raises(ApplyFailed), run.phase("apply"):
        raise ApplyFailed("terraform apply was not completed")
    for name in ("verify", "preflight", "plan"):
        with pytest.raises(ApplyFailed, match="not completed"), run.phase(name):
            pytest.fail("it ran")


def test_waiting_is_not_a_failure(begin):
    run = begin()
    pass_phases(run, "preflight", "plan")
    with pytest.raises(ApprovalNeeded), run.phase("approve"):
        raise ApprovalNeeded("Not approved")
    pass_phases(run, "approve", "apply")


def test_the_command_that_repeats_the_run_has_its_parameters(begin):
    run = begin(reason="it's late")
    command = "daybook run provision -p env staging -p reason 'it'\"'\"'s late' -p approve plan-1"
    assert sorted(run.command(approve="plan-1").split(" -p ")) == sorted(command.split(" -p "))


def test_the_journal_has_the_phases_and_the_record_the_status(begin):
    run = begin()
    pass_phases(run, "preflight")
    run.finish("go on")
    said = seal.load(run.folder)
    assert (said["status"], said["target"], said["environment"]) == (
        "succeeded",
        "sandbox",
        "staging",
    )
    lines = map(json.loads, (run.folder / "journal.jsonl").read_text().splitlines())
    phases = [(line["name"], line["state"]) for line in lines if line["kind"] == "phase"]
    assert phases == [("preflight", "started"), ("preflight", "ended")]


def test_no_phase_runs_after_the_record_is_closed(begin):
    run = begin()
    pass_phases(run, "preflight", "plan")
    run.finish("go on")
    with pytest.raises(SettingsError, match="This run has ended"), run.phase("approve"):
        pytest.fail("it ran")


def test_a_finished_run_reports_its_end_and_not_an_earlier_wait(begin):
    run = begin()
    pass_phases(run, "preflight", "plan")
    with pytest.raises(ApprovalNeeded), run.phase("approve"):
        raise ApprovalNeeded("Waiting for approval of plan-1.")
    pass_phases(run, "approve", "apply")
    assert not run.is_over
    run.finish("go on")
    assert run.is_over
    with pytest.raises(SettingsError, match="This run has ended") as caught:
        run.require_open()
    assert "Nothing was changed" not in str(caught.value)


def test_a_run_closed_while_waiting_still_reports_the_approval(begin):
    run = begin()
    pass_phases(run, "preflight", "plan")
    with pytest.raises(ApprovalNeeded), run.phase("approve"):
        raise ApprovalNeeded("Waiting for approval of plan-1.")
    run.recorder.close("waiting")
    with pytest.raises(ApprovalNeeded, match="Waiting for approval"), run.phase("approve"):
        pytest.fail("it ran")


def test_shows_a_command_with_its_folder_and_its_log_once_a_phase(begin, capsys):
    run = begin()
    pass_phases(run, "preflight")
    with run.phase("plan"):
        for _ in range(2):
            run.start(["echo", "one", str(run.root / "plan.file")], cwd=run.root / "environments")
        run.start(["echo", "two"], shown="show two", cwd=run.root)
        run.start(["echo", "three"], private=True)
    record = f"runs/staging/{run.id}/attachments"
    assert capsys.readouterr().out.splitlines() == [
        "$ cd environments && echo one ../plan.file",
        f"  log: {record}/01-echo.log",
        "$ show two",
        f"  log: {record}/03-echo.log",
    ]
    assert (run.root / record / "01-echo.log").read_text().startswith("one ")


def test_a_preflight_shows_no_commands(begin, capsys):
    run = begin()
    with run.phase("preflight"):
        run.start(["echo", "one"])
    assert capsys.readouterr().out == ""
