"""The closing handshake: four frames that close a connection (DisConn) and a session (Dismiss) alike.

Both sides may ask first; requests and acknowledgements come in any order. An acknowledgement that nobody asked for
changes nothing.
"""

from enum import Enum


class Stage(Enum):
    """Where a closing handshake stands; the names are those of docs/protocol.md."""

    OPEN = "open"
    #: This side asked, or the other did.
    SENT = "sent"
    RECEIVED = "received"
    #: Half done: both asked, or this side's request was acknowledged.
    CROSSED = "crossed"
    ACKED = "acked"
    DONE = "done"


class Input(Enum):
    """What can happen to it."""

    SEND = "send request"
    REQUEST = "got request"
    ACK = "got ack"


#: Where each input leads; it is complete.
CLOSING: dict[tuple[Stage, Input], Stage] = {
    (Stage.OPEN, Input.SEND): Stage.SENT,
    (Stage.OPEN, Input.REQUEST): Stage.RECEIVED,
    (Stage.OPEN, Input.ACK): Stage.OPEN,
    (Stage.SENT, Input.SEND): Stage.SENT,
    (Stage.SENT, Input.REQUEST): Stage.CROSSED,
    (Stage.SENT, Input.ACK): Stage.ACKED,
    (Stage.RECEIVED, Input.SEND): Stage.CROSSED,
    (Stage.RECEIVED, Input.REQUEST): Stage.RECEIVED,
    (Stage.RECEIVED, Input.ACK): Stage.RECEIVED,
    (Stage.CROSSED, Input.SEND): Stage.CROSSED,
    (Stage.CROSSED, Input.REQUEST): Stage.CROSSED,
    (Stage.CROSSED, Input.ACK): Stage.DONE,
    (Stage.ACKED, Input.SEND): Stage.ACKED,
    (Stage.ACKED, Input.REQUEST): Stage.DONE,
    (Stage.ACKED, Input.ACK): Stage.ACKED,
    (Stage.DONE, Input.SEND): Stage.DONE,
    (Stage.DONE, Input.REQUEST): Stage.DONE,
    (Stage.DONE, Input.ACK): Stage.DONE,
}
#: This side has not asked yet.
_UNSENT = (Stage.OPEN, Stage.RECEIVED)


class ClosingHandshake:
    """State of one closing handshake."""

    __slots__ = ("stage",)

    def __init__(self) -> None:
        self.stage = Stage.OPEN

    @property
    def begun(self) -> bool:
        """Whether either side has asked."""
        return self.stage is not Stage.OPEN

    @property
    def sent(self) -> bool:
        """Whether this side has asked."""
        return self.stage not in _UNSENT

    @property
    def done(self) -> bool:
        """Whether both requests were sent and acknowledged."""
        return self.stage is Stage.DONE

    def send(self) -> bool:
        """Return whether this side's request is to be sent: it is not sent twice."""
        if self.sent:
            return False
        self.stage = CLOSING[self.stage, Input.SEND]
        return True

    def got_request(self) -> None:
        """The peer's request came, and is acknowledged."""
        self.stage = CLOSING[self.stage, Input.REQUEST]

    def got_ack(self) -> None:
        """The peer's acknowledgement came."""
        self.stage = CLOSING[self.stage, Input.ACK]
