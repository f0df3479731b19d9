"""How fast frames of a stream go to an end that speaks no credit (docs/decisions/stream-pace.md).

Ends of the Go library keep some dozens of unread frames per stream, whatever is in them; at the next one their whole
connection stops, for good where the stream is never read. They answer a Register on a stream behind what came before
it, so such an answer shows that what was sent is on its way to the application. The gateway asks in this way now and
then, and sends an end that has answered once no more than ``MOST`` frames that it did not answer for.

An end that never answers gets the first ``MOST`` frames at once. After that it gets full frames at once and small ones
slowly; what waits meanwhile is joined.
"""

from collections.abc import Callable

#: Frames on their way without a sign that the application takes them.
MOST = 32
#: Frames after which the end is asked.
ASK = 12
#: A frame of so many bytes is full.
FULL = 32_768
#: Seconds between small frames to an end that gives no sign, and how many it gets in that rhythm before it is slower.
SLOW, SLOWER = 0.1, 1.0
_PATIENT = 24


class Pace:
    """Frames of raw bytes on their way to one end of a stream."""

    __slots__ = ("sent", "asked", "_asked_at", "_next_at", "_now")

    def __init__(self, now: Callable[[], float]) -> None:
        #: How many were sent since the last sign.
        self.sent = 0
        #: Packet id of the Register that is not answered yet, or 0; and how many had been sent by then.
        self.asked = 0
        self._asked_at = 0
        self._next_at = 0.0
        self._now = now

    def wait(self, size: int, answers: bool) -> float:
        """When a frame of ``size`` bytes may be sent: 0 for at once, infinity for at the next sign.

        :param answers: whether this peer is known to answer, and is listened to.
        """
        if self.sent < MOST:
            return 0.0
        if answers:
            return float("inf")
        return 0.0 if size >= FULL or self._next_at <= self._now() else self._next_at

    def count(self) -> bool:
        """A frame is sent; return whether the end is to be asked behind it."""
        self.sent += 1
        if self.sent >= MOST:
            self._next_at = self._now() + (SLOW if self.sent < MOST + _PATIENT else SLOWER)
        return self.asks

    @property
    def asks(self) -> bool:
        """Whether the end is to be asked."""
        return self.sent >= ASK and not self.asked

    def ask(self, packet_id: int) -> None:
        """The end is asked."""
        self.asked = packet_id
        self._asked_at = self.sent

    def answered(self, packet_id: int) -> bool:
        """An answer came; return whether it was to the question."""
        if packet_id != self.asked or not packet_id:
            return False
        self.asked = 0
        self.sent = max(0, self.sent - self._asked_at)
        return True
