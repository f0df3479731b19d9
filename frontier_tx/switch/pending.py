"""Calls and messages that were forwarded and wait for their answer."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from frontier_tx.errors import OperationTimeout

if TYPE_CHECKING:
    from frontier_tx.switch.leg import Leg
    from frontier_tx.switch.streams import StreamEnd
    from frontier_tx.switch.window import Queue, Window

#: Told the value and the error text (empty for success) of a control function.
Done = Callable[[bytes, str], None]


class Pending:
    """One forwarded Request or Message.

    It sits in the table of the leg that must answer, in that of the leg that asked, in the timer, with a stream in
    the set of that stream, and in a window; ``Exchange.settle`` takes it out of all of them at once.
    """

    __slots__ = (
        "request", "target", "target_packet", "target_session", "source", "source_packet", "source_session", "key",
        "method", "overdue_text", "done", "sender", "end", "window", "queue", "frame", "tick", "on_overdue",
    )  # fmt: skip

    def __init__(
        self,
        request: bool,
        target: "Leg",
        target_packet: int,
        target_session: int,
        sender: "Leg",
        source: "Leg | None",
        source_packet: int,
        source_session: int,
        method: bytes,
        on_overdue: "Callable[[Pending], None]",
    ) -> None:
        self.request = request
        self.target = target
        self.target_packet = target_packet
        self.target_session = target_session
        #: Because of whom it goes out; and who is answered, as long as there is anybody.
        self.sender = sender
        self.source = source
        self.source_packet = source_packet
        self.source_session = source_session
        self.key = source_packet
        self.method = method
        self.on_overdue = on_overdue
        self.overdue_text = OperationTimeout.text
        self.done: Done | None = None
        #: The receiver's end of the stream; None for session 1.
        self.end: StreamEnd | None = None
        #: Where it counts while it is not answered; as long as it waits to be sent, among what, and its frame.
        self.window: Window | None = None
        self.queue: Queue | None = None
        self.frame: bytes | None = None
        self.tick = 0

    def fire(self, now: float) -> None:
        """The deadline passed (``timers.Timed``)."""
        self.on_overdue(self)
