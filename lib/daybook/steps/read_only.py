"""A step that only looks: no approval, no apply, no turn; it ends well or with what it found."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

from daybook import ui
from daybook.approval import gate
from daybook.errors import SettingsError
from daybook.steps.base import Step


class ReadOnlyStep(Step):
    """Preflight, plan, verify, record: plan finds, verify judges what was found."""

    is_read_only: ClassVar[bool] = True

    def plan(self) -> ui.Shown:
        """Look, and show what was found; nothing is changed."""
        with self.run.phase("plan"):
            self._plan = self.make_plan()
            found = [f"{change.action} {change.address}" for change in self._plan.changes]
            self.run.write("plan", digest=self._plan.digest, changes=found)
            return self._plan

    @abstractmethod
    def make_plan(self) -> gate.Plan:
        """Return what was found."""

    def apply_plan(self, plan: gate.Plan) -> ui.Shown:
        """Refuse: there is nothing to apply."""
        raise SettingsError(f"{self.name} changes nothing.", next="daybook run provision")
