"""What ends a command early: SIGINT, SIGTERM and its time limit, which undo what was begun.

They do not cut short what must be finished, until the last limit: then the command ends as it is,
so that nothing holds the lock for longer, and `repair` has the rest to do.
"""

from __future__ import annotations

import signal
from types import FrameType

from daybook_release import limits
from daybook_release.errors import Failed, Interrupted

NUMBERS = (signal.SIGINT, signal.SIGTERM)


class Signals:
    """Raise Interrupted at a signal and Failed after a time, until `hold`.

    within_s: how long the command may take until `hold`; at_most_s: until its end.
    """

    def __init__(
        self, within_s: float = limits.RELEASE_S, at_most_s: float = limits.LOCK_S
    ) -> None:
        self.is_held = False
        self.within_s, self.more_s = within_s, at_most_s - within_s
        self.is_last = False

    def __enter__(self) -> Signals:
        self._before = {number: signal.signal(number, self._interrupt) for number in NUMBERS}
        self._before[signal.SIGALRM] = signal.signal(signal.SIGALRM, self._expire)
        signal.setitimer(signal.ITIMER_REAL, self.within_s)
        return self

    def __exit__(self, *how: object) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def hold(self) -> None:
        """Let no signal stop what comes now, but the last limit."""
        self.is_held = True

    def _is_first(self) -> bool:
        """Tell whether this ends the command; a second one would cut short what the first began."""
        is_first, self.is_held = not self.is_held, True
        return is_first

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        if self._is_first():
            raise Interrupted(
                f"Interrupted by {signal.Signals(number).name}.", next="sudo release status"
            )

    def _expire(self, number: int, frame: FrameType | None) -> None:
        if self.is_last:
            raise Failed("This took too long to be finished or undone.", next="sudo release repair")
        self.is_last = True
        signal.setitimer(signal.ITIMER_REAL, self.more_s)
        if self._is_first():
            raise Failed(
                f"This took longer than the limit of {self.within_s / 60:.0f} minutes.",
                next="make migration, start and health checks faster; docs/releases.md has limits",
            )
