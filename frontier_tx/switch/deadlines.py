"""The two deadlines of a forwarded call or message (docs/gateway.md, "Time")."""

from collections.abc import Callable

from frontier_tx.wire.body import NO_CONTEXT, Context, MessageData
from frontier_tx.wire.times import format_time, parse_time

#: For so long the text of the gateway's deadline is written into frames before it is made anew, in seconds.
_TEXT_LIFE = 0.05


class Deadlines:
    """Reads callers' deadlines and makes the gateway's own.

    :param wall_clock: Unix seconds.
    :param seconds: what the gateway allows.
    """

    def __init__(self, wall_clock: Callable[[], float], seconds: float) -> None:
        self._wall_clock = wall_clock
        self._seconds = seconds
        self._text = ""
        self._text_until = float("-inf")

    def own(self, now: float) -> str:
        """The gateway's deadline for what is forwarded now, as text; ``now`` is of a clock that never steps back."""
        if now >= self._text_until:
            self._text = format_time(self._wall_clock() + self._seconds)
            self._text_until = now + _TEXT_LIFE
        return self._text

    def fold(self, data: MessageData) -> float:
        """Put the earlier of the caller's deadlines into ``context``; return the seconds left of it."""
        given = [
            (when, text) for text in (data.deadline, data.context.deadline) if (when := parse_time(text)) is not None
        ]
        if not given:
            data.context = NO_CONTEXT
            return float("inf")
        when, text = min(given)
        data.context = Context(text)
        return when - self._wall_clock()
