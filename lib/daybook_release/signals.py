"""End a command early, at SIGINT, SIGTERM or its time limit; the rollout is then undone.

A section that must complete is not interrupted before the last limit. Then the command ends
immediately, so that the lock is not held any longer; `repair` does the rest.
"""

from __future__ import annotations

import signal
from types import FrameType

from daybook_release import limits
from daybook_release.errors import Failed, Interrupted

NUMBERS = (signal.SIGINT, signal.SIGTERM)


class Signals:
    """Raise Interrupted at a signal and Failed at the time limit, until `hold` is called.

    within_s: the time limit until `hold`. limit_s: the time limit of the whole command.
    """

    def __init__(self, within_s: float = limits.RELEASE_S, limit_s: float = limits.LOCK_S) -> None:
        self.is_held = False
        self.within_s, self.grace_s = within_s, limit_s - within_s
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
        """Ignore signals from now on; only the last limit still ends the command."""
        self.is_held = True

    def _is_first(self) -> bool:
        """Tell whether this is the first signal; a second one must not interrupt the undo."""
        is_first, self.is_held = not self.is_held, True
        return is_first

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        if self._is_first():
            raise Interrupted(
                f"Interrupted by {signal.Signals(number).name}.", next="sudo release status"
            )

    def _expire(self, number: int, frame: FrameType | None) -> None:
        if self.is_last:
            raise Failed("Finishing or undoing the release timed out.", next="sudo release repair")
        self.is_last = True
        signal.setitimer(signal.ITIMER_REAL, self.grace_s)
        if self._is_first():
            raise Failed(
                f"The release exceeded its limit of {self.within_s / 60:.0f} minutes.",
                next="shorten the migration, start or health checks; docs/releases.md lists limits",
            )
