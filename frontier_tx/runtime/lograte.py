"""Limits on log lines, so that nobody can flood the log."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

#: Lines are counted over so many seconds.
PERIOD = 10.0
#: Kinds of lines that are told apart; texts of a program's own are few.
KINDS = 4096


class LogRate:
    """Lets so many lines through in each period, and counts the rest.

    :param lines: for one period.
    :param now: seconds of a clock that never steps back.
    """

    __slots__ = ("untold", "ends", "_lines", "_seconds", "_now", "_left")

    def __init__(self, lines: int, seconds: float = PERIOD, now: Callable[[], float] = monotonic) -> None:
        self._lines = lines
        self._seconds = seconds
        self._now = now
        self._left = 0
        #: Lines that were left out and not spoken of yet, and when the period ends.
        self.untold = 0
        self.ends = float("-inf")

    def allows(self) -> bool:
        """Whether a line may be logged now; one that may not is counted."""
        now = self._now()
        if now >= self.ends:
            self.ends = now + self._seconds
            self._left = self._lines
        if self._left:
            self._left -= 1
            return True
        self.untold += 1
        return False

    def due(self) -> str | None:
        """What is to stand in a line about those left out before it, maybe nothing; None: log no line now."""
        return self.before() if self.allows() else None

    def before(self) -> str:
        """What is to stand in a line that was allowed: how many were left out before it."""
        untold, self.untold = self.untold, 0
        return f" ({untold} more before it)" if untold else ""


class Troubles:
    """Names each trouble once, until all is well again."""

    __slots__ = ("_named",)

    def __init__(self) -> None:
        self._named: dict[object, str] = {}

    def is_new(self, what: object, why: str = "") -> bool:
        """Whether this was not named for this reason; of more than ``KINDS`` troubles the oldest may be named again."""
        if self._named.get(what) == why:
            return False
        if len(self._named) >= KINDS:
            del self._named[next(iter(self._named))]
        self._named[what] = why
        return True

    def over(self, what: object = None) -> None:
        """All is well again, or with one that was in trouble."""
        if what is None:
            self._named.clear()
        else:
            self._named.pop(what, None)


class LogRates:
    """One ``LogRate`` for each kind of line.

    :param lines: of one kind for one period; 0 lets everything through.
    :param seconds: the period.
    """

    def __init__(self, lines: int, seconds: float = PERIOD, now: Callable[[], float] = monotonic) -> None:
        self._lines = lines
        self._seconds = seconds
        self._now = now
        self._kinds: dict[object, LogRate] = {}
        self._over: dict[object, LogRate] = {}
        self._look_at = float("inf")

    def allows(self, kind: object) -> bool:
        """Whether a line of this kind may be logged now."""
        if not self._lines:
            return True
        rate = self._rate(kind)
        if rate.allows():
            return True
        if kind not in self._over:
            self._over[kind] = rate
            self._look_at = min(self._look_at, rate.ends)
        return False

    def due(self, kind: object) -> str | None:
        """What is to stand in a line of this kind about those left out before it; None: log no line now."""
        return self._rate(kind).due()

    def _rate(self, kind: object) -> LogRate:
        rate = self._kinds.get(kind)
        if rate is None:
            if len(self._kinds) >= KINDS:
                self._kinds.clear()
            rate = self._kinds[kind] = LogRate(self._lines, self._seconds, self._now)
        return rate

    def left_out(self) -> list[tuple[object, int]]:
        """Kinds of which lines were left out in a period that is over, and how many; each is told once."""
        now = self._now()
        if now < self._look_at:
            return []
        found = [(kind, rate) for kind, rate in self._over.items() if rate.ends <= now]
        told = []
        for kind, rate in found:
            del self._over[kind]
            told.append((kind, rate.untold))
            rate.untold = 0
        self._look_at = min((rate.ends for rate in self._over.values()), default=float("inf"))
        return told
