"""SIGINT and SIGTERM: they undo what was begun, but do not cut short what must be finished."""

from __future__ import annotations

import signal
from types import FrameType

from daybook_release.errors import Interrupted

NUMBERS = (signal.SIGINT, signal.SIGTERM)


class Signals:
    """Raise Interrupted at a signal, until `hold`; nothing is ignored in commands started."""

    def __init__(self) -> None:
        self.is_held = False

    def __enter__(self) -> Signals:
        self._before = {number: signal.signal(number, self._come) for number in NUMBERS}
        return self

    def __exit__(self, *how: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def hold(self) -> None:
        """Let no signal stop what comes now."""
        self.is_held = True

    def _come(self, number: int, frame: FrameType | None) -> None:
        if not self.is_held:
            raise Interrupted(
                f"Interrupted by {signal.Signals(number).name}.", next="sudo release status"
            )
