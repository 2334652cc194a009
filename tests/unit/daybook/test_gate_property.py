"""Plan, gate, press, apply, other tabs, restarts, in any order: only what was shown and approved.

A real step, approval, gate with its widgets, run and journal; what they change is a number.
"""

from __future__ import annotations

import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from daybook import signers, ui
from daybook.approval import gate
from daybook.errors import DaybookError
from daybook.plan import Change, Plan
from daybook.record import evidence, journal, provenance, recorder, seal
from daybook.steps.base import Step

RECENT = st.sampled_from([0, 0, 0, 0, 1, 2])
"""A tab: mostly the newest one."""
OFTEN = st.sampled_from([True, False, False, False])
CHECKOUT = Path(__file__).parents[3]
ENV = "staging"


class World:
    """The current number, and each change: the run and the plan that it applied."""

    def __init__(self) -> None:
        self.wanted, self.there = 1, 0
        self.applied: list[tuple[str, str]] = []


class Count(Step):
    """Set the world's number to the wanted one."""

    name = "provision"
    next = "nothing"
    lock_name = None
    world: World

    def preflight(self):
        self._require_unapplied()
        with self.run.phase("preflight"):
            return ui.Notice("fine")

    def can_publish_plans(self):
        return False

    def make_plan(self):
        there, wanted = self.world.there, self.world.wanted
        changes = tuple(Change("create", f"{n}") for n in range(there, wanted))
        return Plan("Count", changes, {"there": there})

    def apply_plan(self, plan):
        self.world.applied.append((self.run.id, plan.digest))
        self.world.there += len(plan.changes)
        return ui.Notice("counted")

    def look(self):
        return ui.Notice("seen")


@pytest.fixture(scope="module", autouse=True)
def alone():
    """Make every kernel interactive, and skip the tools' versions."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(provenance, "versions", lambda _root: {})
        patch.setattr(provenance, "git", lambda _root: {"commit": "c", "branch": "", "dirty": []})
        patch.setattr(gate, "is_interactive", lambda: True)
        patch.setattr(gate.Gate, "show", lambda _gate: None)
        yield


class Operators(RuleBasedStateMachine):
    """Operators with several tabs and kernels, who do anything in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp(prefix="daybook-"))
        shutil.copytree(CHECKOUT / "environments", self.root / "environments")
        self.patch = pytest.MonkeyPatch()
        self.patch.setenv("DAYBOOK_ROOT", str(self.root))
        self.patch.setattr(recorder, "_active", None)
        self.world = World()
        self.steps: list[Count] = []
        self.gates: list[tuple[Count, gate.Gate]] = []
        self.displayed: set[str] = set()
        self.approved: set[str] = set()
        self.open_tab("", is_new_kernel=True)

    def teardown(self) -> None:
        try:
            for step in self.steps:
                with suppress(DaybookError):
                    step.verify()
                    step.record()
                step.run.recorder.abandon("the test is over")
                self.check_record(step)
        finally:
            self.patch.undo()
            for path in [self.root, *self.root.rglob("*")]:
                path.chmod(0o755)
            shutil.rmtree(self.root)

    def check_record(self, step: Count) -> None:
        """The record has each change, its approval and its success."""
        entries = journal.read(step.run.folder / journal.NAME)
        assert list(evidence.problems(entries, signers.Signers)) == []
        applied = [entry["digest"] for entry in entries.of("apply")]
        assert applied == [digest for run, digest in self.world.applied if run == step.run.id]
        assert len(applied) <= 1
        if applied and step in (self.steps[-1], *self.finished):
            assert seal.load(step.run.folder)["status"] == "succeeded"

    @property
    def finished(self) -> list[Count]:
        return [step for step in self.steps if "record" in step.run._done]

    @property
    def step(self) -> Count:
        return self.steps[-1]

    def do(self, action) -> None:
        """Run one cell; after an error, the operator continues."""
        with suppress(DaybookError):
            action()

    def digests(self) -> list[str]:
        return [*sorted(self.displayed), "plan-0"]

    @precondition(lambda self: len(self.steps) < 4)
    @rule(approve=st.integers(0, 5), is_new_kernel=st.booleans(), is_done=OFTEN)
    def open_another_tab(self, approve, is_new_kernel, is_done):
        given = ["", "", "", *self.digests()]
        if is_done:
            self.open_tab(given[approve % len(given)], is_new_kernel=is_new_kernel)

    def open_tab(self, approve: str, *, is_new_kernel: bool) -> None:
        if is_new_kernel:
            recorder._active = None
        if approve:
            self.approved.add(approve)
        step = Count(ENV, approve=approve)
        step.world = self.world
        self.steps.append(step)
        self.do(step.preflight)

    @precondition(lambda self: len(self.steps) < 6)
    @rule(is_done=OFTEN)
    def restart_the_kernel(self, is_done):
        if is_done:
            self.step.run.recorder.abandon("the kernel exited")
            self.open_tab("", is_new_kernel=True)

    @rule(before=st.lists(st.sampled_from(["", "", "plan", "world, plan"]), min_size=1, max_size=6))
    def go_on(self, before):
        """Run the next cell as a careful operator does, or first plan once more."""
        for disturbance in before:
            self.world.wanted += "world" in disturbance
            if "plan" in disturbance and self.step._plan:
                self.plan(0)
                if self.gates:
                    self.press_approve(0, ENV)
            self.next_cell()

    def next_cell(self) -> None:
        step, shown = self.step, self.step.approval._gate
        if step.run.is_over:
            if len(self.steps) < 6:
                self.open_tab("", is_new_kernel=False)
        elif step._plan is None:
            self.plan(0)
        elif step._approval:
            self.apply(0)
        elif self.gates and self.gates[-1][1] is shown and not shown.closed:
            self.press_approve(0, ENV)
        else:
            self.show_the_gate(0)

    @rule(which=RECENT)
    def plan(self, which):
        step = self.steps[-1 - which % len(self.steps)]

        def cell():
            self.displayed.add(step.plan().digest)

        self.do(cell)

    @rule(which=RECENT)
    def show_the_gate(self, which):
        step = self.steps[-1 - which % len(self.steps)]
        self.do(step.approve)
        if step.approval._gate:
            self.gates.append((step, step.approval._gate))

    @precondition(lambda self: self.gates)
    @rule(which=RECENT, text=st.sampled_from([ENV, ENV, ENV, "", "stag", "no"]))
    def press_approve(self, which, text):
        _, shown = self.gates[-1 - which % len(self.gates)]
        shown.typed.value = text
        if text == ENV:
            self.approved.add(shown.digest)
        shown.approve.click()

    @precondition(lambda self: self.gates)
    @rule(which=RECENT, text=st.sampled_from(["", "stag", ENV, "", "stag", ENV, "not today"]))
    def press_decline(self, which, text):
        step, shown = self.gates[-1 - which % len(self.gates)]
        was_over, was_warned = step.run.is_over, shown._declined_once
        shown.typed.value = text
        shown.decline.click()
        if not was_over and text != "not today" and not was_warned:
            assert not step.run.is_over, "a part of the name does not decline"

    @rule(which=st.integers(0, 5), of=RECENT)
    def approve_by_digest(self, which, of):
        given = self.digests()[which % len(self.digests())]
        self.approved.add(given)
        step = self.steps[-1 - of % len(self.steps)]
        self.do(lambda: step.approve(given))

    @rule(which=RECENT)
    def apply(self, which):
        step = self.steps[-1 - which % len(self.steps)]
        was_applied = step._applied
        before = len(self.world.applied)
        self.do(step.apply)
        if was_applied:
            assert len(self.world.applied) == before
            assert step.run.is_over or isinstance(step.apply(), ui.Shown)

    @rule(more=st.integers(1, 3))
    def the_world_changes(self, more):
        """Change the wanted number, which mostly makes the next plan differ."""
        self.world.wanted = self.world.there + more

    @rule(which=RECENT)
    def plan_after_the_world_changed(self, which):
        self.world.wanted += 1
        self.plan(which)

    @precondition(lambda self: self.step._applied)
    @rule(is_done=OFTEN)
    def finish(self, is_done):
        if is_done:
            self.do(self.step.verify)
            self.do(self.step.record)

    @invariant()
    def what_was_applied_had_been_displayed_and_approved_by_digest(self):
        for _, digest in self.world.applied:
            assert digest in self.displayed
            assert digest in self.approved or self.is_empty(digest)

    def is_empty(self, digest: str) -> bool:
        """Tell whether a digest is that of a plan without changes, which needs no approval."""
        plans = (Plan("Count", (), {"there": there}) for there in range(self.world.there + 1))
        return digest in {plan.digest for plan in plans}


Operators.TestCase.settings = settings(
    max_examples=30,
    stateful_step_count=40,
    deadline=None,
    # A step takes long, and failing examples are short without shrinking.
    phases=(Phase.reuse, Phase.generate),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
TestOperators = pytest.mark.attack("A1", "any order of plan, gate, press, apply, tabs, restarts")(
    Operators.TestCase
)
