"""Pairs of sessions: a stream crosses the gateway as one session on each leg."""

from typing import TYPE_CHECKING

from frontier_tx.wire.events import SessionRequested
from frontier_tx.wire.sessions import Session

if TYPE_CHECKING:
    from frontier_tx.switch.leg import Leg
    from frontier_tx.switch.pending import Pending
    from frontier_tx.switch.window import Lane


class StreamEnd:
    """One leg's end of a stream; ``other`` is where its frames go.

    While the second leg has not answered, the opener's end has a ``request`` instead of a ``session``. An end whose
    other side has closed the stream stays without ``other`` until the messages that wait for it have left.
    """

    __slots__ = ("leg", "session", "request", "other", "pending", "lane")

    def __init__(self, leg: "Leg", request: SessionRequested | None = None, session: Session | None = None) -> None:
        self.leg = leg
        self.session = session
        self.request = request
        self.other: StreamEnd | None = None
        #: Calls and messages under way on the stream, shared by both ends.
        self.pending: set[Pending] = set()
        #: Messages on their way to this end; made with the first.
        self.lane: Lane | None = None

    def pair(self, other: "StreamEnd") -> None:
        """Join two ends into one stream."""
        self.other = other
        other.other = self
        other.pending = self.pending
