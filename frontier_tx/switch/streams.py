"""Pairs of sessions: a stream crosses the gateway as one session on each leg."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from frontier_tx.wire.events import SessionRequested
from frontier_tx.wire.sessions import Session

if TYPE_CHECKING:
    from frontier_tx.switch.doors import Lane
    from frontier_tx.switch.leg import Leg
    from frontier_tx.switch.opening import Linger
    from frontier_tx.switch.pace import Pace
    from frontier_tx.switch.pending import Pending
    from frontier_tx.switch.raw import RawLane
    from frontier_tx.switch.window import Queue

#: Messages that an end which speaks no credit may have on one stream. Before it says anything it may have fewer, and as
#: few calls: with ``pace.MOST`` frames of raw bytes all of them are what ends of the Go library keep of a stream that
#: nobody accepts.
MOST_MESSAGES = 28
MOST_UNHEARD = 12


class StreamEnd:
    """One leg's end of a stream; ``other`` is where its frames go.

    While the second leg has not answered, the opener's end has a ``request`` instead of a ``session``. An end whose
    other side has closed the stream stays without ``other`` until what waits for it has left.
    """

    __slots__ = (
        "leg", "session", "request", "other", "pending", "lane", "raw", "pace", "fresh", "stops", "queued", "out",
        "parked", "parked_calls", "heard", "payer", "linger", "on_drained",
    )  # fmt: skip

    def __init__(self, leg: "Leg", request: SessionRequested | None = None, session: Session | None = None) -> None:
        self.leg = leg
        self.session = session
        self.request = request
        self.other: StreamEnd | None = None
        #: Who pays for what this end costs (``budget``), as long as it is there.
        self.payer: Leg | None = None
        #: Calls and messages under way on the stream, shared by both ends.
        self.pending: set[Pending] = set()
        #: Frames and raw bytes that wait to be sent to this end.
        self.lane: Lane | None = None
        self.raw: RawLane | None = None
        #: Frames of raw bytes to this end, if it speaks no credit; made with the first.
        self.pace: Pace | None = None
        #: Whether raw bytes came from this end lately, and who is not read from because this end takes none.
        self.fresh = False
        self.stops: Leg | None = None
        #: How many of those two there are, and calls and messages that wait for a place in a window.
        self.queued = 0
        #: Messages that this end has and did not acknowledge, and those that wait because these are as many as may be.
        self.out = 0
        self.parked: Queue | None = None
        #: Calls that wait because nobody may be there to answer them, and whether anything ever came from this end.
        self.parked_calls: Queue | None = None
        self.heard = False
        #: Runs while raw bytes wait here whose sender has gone.
        self.linger: Linger | None = None
        #: Called once, when nothing waits any more.
        self.on_drained: Callable[[], None] | None = None

    def pair(self, other: "StreamEnd") -> None:
        """Join two ends into one stream."""
        self.other = other
        other.other = self
        other.pending = self.pending

    @property
    def full(self) -> bool:
        """Whether this end shall get no more messages before it acknowledges one."""
        if self.out < (MOST_MESSAGES if self.heard else MOST_UNHEARD):
            return False
        return self.session is not None and self.session.credit is None

    @property
    def mute(self) -> bool:
        """Whether this end shall get no more calls before it says anything: it may not have accepted the stream."""
        if self.heard or len(self.pending) < MOST_UNHEARD:
            return False
        return self.session is not None and self.session.credit is None

    def left(self) -> None:
        """One of those that were ``queued`` is not any more."""
        self.queued -= 1
        if not self.queued and self.on_drained is not None:
            drained, self.on_drained = self.on_drained, None
            drained()
