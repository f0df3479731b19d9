"""What a connection tells its owner. Frames of the application layer are told as they are (``frame.Frame``)."""

from dataclasses import dataclass

from frontier_tx.wire.session import Session


@dataclass(slots=True)
class ConnReceived:
    """Server: a client introduced itself; answer with ``accept`` or ``refuse``.

    ``wanted_id`` is 0 where it has no wish; with ``acquire`` unset the wish is not a wish but its id. ``kind`` is
    what it says that it is, empty where it says nothing.
    """

    wanted_id: int
    acquire: bool
    meta: bytes
    kind: str = ""


@dataclass(slots=True)
class ConnAccepted:
    """Client: the server accepted; session 1 is usable."""

    client_id: int


@dataclass(slots=True)
class ConnRefused:
    """Client: the server refused with this text."""

    client_id: int
    error: str


@dataclass(slots=True)
class HeartbeatReceived:
    """Server: the client sent a heartbeat, which is already answered."""


@dataclass(slots=True)
class SessionRequested:
    """The peer wants to open a session; answer with ``accept_session`` or ``refuse_session``."""

    packet_id: int
    negotiate_id: int
    acquire: bool
    meta: bytes
    peer: str


@dataclass(slots=True)
class SessionOpened:
    """A session that this end asked for is open; ``negotiate_id`` is what ``open_session`` returned."""

    negotiate_id: int
    session: Session


@dataclass(slots=True)
class SessionFailed:
    """A session that this end asked for did not come about: the peer's error text, or ``timeout``."""

    negotiate_id: int
    error: str


@dataclass(slots=True)
class SessionDismissed:
    """The peer closes the session, first, or broke its rules; nothing more can be sent on it.

    ``error`` is empty where the far side closed the session itself; else what came on it is not all that was to
    come, and this is why.
    """

    session: Session
    error: str = ""


@dataclass(slots=True)
class CreditGranted:
    """The peer takes more bytes of a session: ``session.credit`` has grown."""

    session: Session


@dataclass(slots=True)
class SessionEnded:
    """A session is over on both sides, or given up after an unanswered goodbye."""

    session: Session


@dataclass(slots=True)
class Closing:
    """The goodbye of the whole connection began, by either side; application frames are no longer taken."""


@dataclass(slots=True)
class Closed:
    """The connection is to be closed now; ``reason`` is empty after a complete goodbye."""

    reason: str


Event = (
    ConnReceived
    | ConnAccepted
    | ConnRefused
    | HeartbeatReceived
    | SessionRequested
    | SessionOpened
    | SessionFailed
    | SessionDismissed
    | CreditGranted
    | SessionEnded
    | Closing
    | Closed
)
