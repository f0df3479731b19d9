"""The four-way goodbye that closes a connection (DisConn) and a session (Dismiss) alike.

::

    say ──────────────┐         both sides may say it first, acks and counter-requests come in any order;
    hear: ack, and    ├──> done    an ack that nobody asked for changes nothing
          say if not  │
          said yet    │
    acked ────────────┘
"""

from enum import Enum


class Stage(Enum):
    """Where a goodbye stands; the names are those of docs/protocol.md."""

    OPEN = "open"
    SENT = "sent"
    RECEIVED = "received"
    HALF = "half"
    DONE = "done"


class Input(Enum):
    """What can happen to it."""

    SAY = "say"
    HEAR = "hear"
    ACKED = "acked"


class Farewell:
    """State of one goodbye: what was said, heard and acknowledged."""

    __slots__ = ("said", "heard", "acked")

    def __init__(self) -> None:
        self.said = False
        self.heard = False
        self.acked = False

    @property
    def begun(self) -> bool:
        """Whether either side has said it."""
        return self.said or self.heard

    @property
    def done(self) -> bool:
        """Whether ours was acknowledged and theirs was acknowledged by us."""
        return self.heard and self.acked

    @property
    def stage(self) -> Stage:
        """The state in the protocol's own words."""
        if self.done:
            return Stage.DONE
        if self.acked or (self.said and self.heard):
            return Stage.HALF
        if self.said:
            return Stage.SENT
        return Stage.RECEIVED if self.heard else Stage.OPEN

    def say(self) -> bool:
        """Return whether the request is to be sent: it is not said twice."""
        if self.said:
            return False
        self.said = True
        return True

    def hear(self) -> None:
        """The peer's request came and is acknowledged."""
        self.heard = True

    def got_ack(self) -> None:
        """The peer's ack came; without a request of ours it means nothing."""
        if self.said:
            self.acked = True
