"""The session layer: opening, routing to and dismissing the sessions of one connection, sans-IO.

See docs/protocol.md, "Sessions". Session 1 is there from the start and is never negotiated.
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import islice, takewhile
from typing import TypeVar

from frontier_tx.errors import OperationTimeout, PayloadTooLarge, TooManyPending
from frontier_tx.wire import frame as f
from frontier_tx.wire.body import EMPTY_OBJECT, SessionData, decode_session, encode_data
from frontier_tx.wire.events import (
    CreditGranted,
    Event,
    SessionDismissed,
    SessionEnded,
    SessionFailed,
    SessionOpened,
    SessionRequested,
)
from frontier_tx.wire.fixed import ACQUIRE_SESSION_ID, CREDIT_FIXED, SESSION_ACK_FIXED, SESSION_FIXED
from frontier_tx.wire.ids import DEFAULT_SESSION, NO_ID
from frontier_tx.wire.session import Session

#: Places beyond the limit for sessions that are opened and dismissed at once: the way of this protocol to say no. The
#: other implementation takes an error in the acknowledgement for success.
REFUSALS = 64
#: How many sessions of a connection are worked on in one turn, where very many are due.
SLICE = 400
#: How many openings that timed out are remembered, so that a late acknowledgement can be dismissed.
REMEMBERED_EXPIRED = 64
#: Smaller stream windows are none: each frame would carry next to nothing.
LEAST_WINDOW = 4096
#: What a peer may write into a Dismiss, and reads of one, in characters.
REASON_LENGTH = 256
OVERRUN = "stream window exceeded"

_T = TypeVar("_T")


class Opening:
    """A session that was asked for and not yet answered."""

    __slots__ = ("packet_id", "meta", "peer", "give_up_at")

    def __init__(self, packet_id: int, meta: bytes, peer: str, give_up_at: float) -> None:
        self.packet_id = packet_id
        self.meta = meta
        self.peer = peer
        self.give_up_at = give_up_at


class SessionTable:
    """All sessions of a connection, and those that are being opened.

    :param is_server: the server chooses session ids, and holds back its first frames on a session that the
        client opened until the client has spoken or ``hold_seconds`` have passed: clients of the other
        implementation lose what comes right behind the acknowledgement.
    :param write: takes a finished frame.
    :param ids: the connection's ids, for packets and sessions.
    :param alarm: told the time at which ``advance`` has something to do.
    """

    def __init__(
        self,
        *,
        is_server: bool,
        write: Callable[[bytes], None],
        ids: Iterator[int],
        alarm: Callable[[float], None],
        limit: int,
        open_seconds: float,
        dismiss_seconds: float,
        hold_seconds: float,
    ) -> None:
        self._is_server = is_server
        self._write = write
        self._ids = ids
        self._alarm = alarm
        self._limit = limit
        self._open_seconds = open_seconds
        self._dismiss_seconds = dismiss_seconds
        self._hold_seconds = hold_seconds
        #: Bytes of a stream that may be under way to this end and to the peer; None where credit is not spoken.
        self.own_window: int | None = None
        self.peer_window: int | None = None
        #: Largest body that the peer takes.
        self.peer_frame_bytes = f.DEFAULT_BODY_LIMIT
        self.live: dict[int, Session] = {}
        self.opening: dict[int, Opening] = {}
        self._expired: dict[int, int] = {}
        #: Bytes that wait in all sessions together until their openers are ready.
        self.held_bytes = 0
        self._waiting = 0
        # Each in the order in which it is due, as all wait equally long.
        self._held: dict[int, Session] = {}
        self._parting: dict[int, Session] = {}

    def start(self) -> None:
        """The handshake is done: session 1 exists."""
        self.live[DEFAULT_SESSION] = Session(DEFAULT_SESSION)

    # -- opening ------------------------------------------------------------------------------------------

    def open(
        self, meta: bytes, peer: str, now: float, write: Callable[[bytes], None] | None = None, keep: bool = True
    ) -> int:
        """Ask the peer for a session; return the negotiate id that the outcome will carry.

        :param write: takes the frame, where the owner has a queue of its own for it.
        :param keep: whether the session shall know ``meta`` and ``peer``.
        :raises TooManyPending: the connection has as many sessions as it may have.
        :raises PayloadTooLarge: the peer would not take a frame with this meta.
        """
        if len(self.live) + len(self.opening) >= self._limit:
            raise TooManyPending
        negotiate_id = self._fresh_id()
        flags = 0 if self._is_server else ACQUIRE_SESSION_ID
        body = SESSION_FIXED.pack(0, flags, negotiate_id) + encode_data(SessionData(meta=meta, peer=peer))
        if len(body) > self.peer_frame_bytes:
            raise PayloadTooLarge
        packet_id = next(self._ids)
        if not keep:
            meta, peer = b"", ""
        self.opening[negotiate_id] = Opening(packet_id, meta, peer, now + self._open_seconds)
        write = write or self._write
        write(f.pack(f.SESSION, packet_id, body))
        self._alarm(now + self._open_seconds)
        return negotiate_id

    def got_session(self, frame: f.Frame, now: float) -> list[Event]:
        """The peer asks for a session."""
        _, flags, negotiate_id = SESSION_FIXED.unpack_from(frame.body)
        data = decode_session(frame.body[SESSION_FIXED.size :])
        acquire = bool(flags & ACQUIRE_SESSION_ID)
        count = len(self.live) + self._waiting
        if count >= self._limit + REFUSALS:
            self._answer(frame.packet_id, negotiate_id, NO_ID, TooManyPending.text)
        elif not acquire and (negotiate_id in (NO_ID, DEFAULT_SESSION) or negotiate_id in self.live):
            self._answer(frame.packet_id, negotiate_id, NO_ID, "session id in use")
        else:
            self._waiting += 1
            request = SessionRequested(frame.packet_id, negotiate_id, acquire, data.meta, data.peer)
            if count < self._limit:
                return [request]
            self.dismiss(self.accept(request, now), now, TooManyPending.text)
        return []

    def accept(self, request: SessionRequested, now: float) -> Session:
        """Open the session that the peer asked for, and tell it so."""
        self._waiting -= 1
        taken = request.negotiate_id in self.live
        session_id = self._fresh_id() if request.acquire or taken else request.negotiate_id
        session = self._session(session_id, request.meta, request.peer)
        self.live[session_id] = session
        self._answer(request.packet_id, request.negotiate_id, session_id)
        if self._is_server:
            session.held = []
            session.release_at = now + self._hold_seconds
            self._held[session_id] = session
            self._alarm(session.release_at)
        return session

    def _answer(self, packet_id: int, negotiate_id: int, session_id: int, error: str = "") -> None:
        fixed = SESSION_ACK_FIXED.pack(0, negotiate_id, session_id)
        self._write(f.pack(f.SESSION_ACK, packet_id, fixed + encode_data(SessionData(error=error))))

    def got_ack(self, frame: f.Frame, now: float) -> list[Event]:
        """The peer answers an opening."""
        _, negotiate_id, session_id = SESSION_ACK_FIXED.unpack_from(frame.body)
        data = decode_session(frame.body[SESSION_ACK_FIXED.size :])
        opening = self.opening.get(negotiate_id)
        if opening is None or opening.packet_id != frame.packet_id:
            if self._expired.get(negotiate_id) == frame.packet_id and not data.error:
                del self._expired[negotiate_id]
                self._write(f.pack_of_session(f.DISMISS, next(self._ids), session_id, EMPTY_OBJECT))
            return []
        del self.opening[negotiate_id]
        if data.error:
            return [SessionFailed(negotiate_id, data.error)]
        if session_id in (NO_ID, DEFAULT_SESSION) or session_id in self.live:
            return [SessionFailed(negotiate_id, "session id in use")]
        session = self._session(session_id, opening.meta, opening.peer, opened_here=True)
        self.live[session_id] = session
        return [SessionOpened(negotiate_id, session)]

    def _session(self, session_id: int, meta: bytes, peer: str, opened_here: bool = False) -> Session:
        return Session(session_id, meta, peer, opened_here, self.peer_window, self.own_window)

    def _fresh_id(self) -> int:
        while True:
            made = next(self._ids)
            if made not in self.live and made not in self.opening:
                return made

    # -- sending and closing ------------------------------------------------------------------------------

    def write(self, session: Session, frame: bytes) -> None:
        """Send a frame of the session, or hold it until the opener is ready for it."""
        if session.held is None:
            self._write(frame)
        else:
            session.held.append(frame)
            session.held_bytes += len(frame)
            self.held_bytes += len(frame)

    def release(self, session: Session) -> None:
        """The opener is ready: send what was held."""
        self.held_bytes -= session.held_bytes
        held, session.held, session.held_bytes = session.held, None, 0
        self._held.pop(session.id, None)
        for frame in held or ():
            self._write(frame)

    def dismiss(self, session: Session, now: float, error: str = "") -> None:
        """Begin to close a session; what was sent before goes out first.

        :param error: why, if what was sent is not all that was to be sent. Only peers that speak credit are told.
        """
        if session.closing.send():
            packet_id = next(self._ids)
            told = bool(error) and self.own_window is not None
            body = encode_data(SessionData(error=error[:REASON_LENGTH])) if told else EMPTY_OBJECT
            self.write(session, f.pack_of_session(f.DISMISS, packet_id, session.id, body))
            session.give_up_at = now + self._dismiss_seconds
            self._parting[session.id] = session
            self._alarm(session.give_up_at)

    def got_dismiss(self, frame: f.Frame, now: float) -> list[Event]:
        """The peer closes a session: acknowledge, and say goodbye from here too."""
        error = decode_session(frame.body).error[:REASON_LENGTH]
        session = self.live.get(frame.session_id)
        if session is None:
            return []
        if session.held is not None:
            self.release(session)
        self._write(f.pack_of_session(f.DISMISS_ACK, frame.packet_id, session.id, EMPTY_OBJECT))
        events: list[Event] = [] if session.closing.begun else [SessionDismissed(session, error)]
        session.closing.got_request()
        self.dismiss(session, now)
        return events + self._ended(session)

    def got_dismiss_ack(self, frame: f.Frame) -> list[Event]:
        """The peer acknowledges our goodbye."""
        decode_session(frame.body)
        session = self.live.get(frame.session_id)
        if session is None:
            return []
        session.closing.got_ack()
        return self._ended(session)

    def _ended(self, session: Session) -> list[Event]:
        if not session.closing.done:
            return []
        self._forget(session)
        return [SessionEnded(session)]

    def _forget(self, session: Session) -> None:
        del self.live[session.id]
        self.held_bytes -= session.held_bytes
        self._held.pop(session.id, None)
        self._parting.pop(session.id, None)

    def clear(self) -> list[Session]:
        """The connection is gone: forget everything, and return the sessions that were live."""
        sessions = list(self.live.values())
        for table in (self.live, self.opening, self._expired, self._held, self._parting):
            table.clear()
        self._waiting = self.held_bytes = 0
        self._write = self._alarm = _ignore
        return sessions

    # -- credit -------------------------------------------------------------------------------------------

    def send_stream(self, session: Session, data: bytes, most: int = f.DEFAULT_BODY_LIMIT - 8) -> int:
        """Send raw bytes, as far as the credit goes; return how many were taken.

        :param most: bytes in one frame.
        """
        size = len(data) if session.credit is None else min(len(data), session.credit)
        for start in range(0, size, most):
            piece = data[start : min(start + most, size)]
            self.write(session, f.pack_of_session(f.STREAM, next(self._ids), session.id, piece))
        if session.credit is not None:
            session.credit -= size
        return size

    def grant(self, session: Session, freed: int) -> None:
        """This end is done with ``freed`` bytes that came on the session; the peer is told by the quarter window."""
        allowance = session.allowance
        if allowance is None:
            return
        assert self.own_window is not None
        session.freed += freed
        if session.freed * 4 >= self.own_window and not session.closing.begun:
            session.allowance = allowance + session.freed
            body = CREDIT_FIXED.pack(session.freed)
            session.freed = 0
            self.write(session, f.pack_of_session(f.STREAM_CREDIT, next(self._ids), session.id, body))

    def overrun(self, session: Session, now: float) -> list[Event]:
        """More came on the session than its peer was allowed: the session is closed."""
        if session.closing.begun:
            return []
        self.dismiss(session, now, OVERRUN)
        return [SessionDismissed(session, OVERRUN)]

    def got_credit(self, frame: f.Frame) -> list[Event]:
        """The peer takes more; what it never got is not taken back."""
        (freed,) = CREDIT_FIXED.unpack_from(frame.body)
        session = self.live.get(frame.session_id)
        if session is None or session.credit is None:
            return []
        if session.held is not None:
            self.release(session)
        assert self.peer_window is not None
        session.credit = min(session.credit + freed, self.peer_window)
        return [] if session.closing.begun else [CreditGranted(session)]

    # -- time ---------------------------------------------------------------------------------------------

    def advance(self, now: float) -> list[Event]:
        """Release what was held long enough, and give up what took too long."""
        # Not all in one turn, where it is much: ``due`` then says that more is. A slice is looked up in one go, since
        # the first entry of a table gets dearer with each that was deleted before it.
        events: list[Event] = []
        for session in _due(self._held.values(), lambda session: session.release_at <= now):
            self.release(session)
        for session in _due(self._parting.values(), lambda session: session.give_up_at <= now):
            self._forget(session)
            events.append(SessionEnded(session))
        for negotiate_id, _ in _due(self.opening.items(), lambda item: item[1].give_up_at <= now):
            self._expired[negotiate_id] = self.opening.pop(negotiate_id).packet_id
            if len(self._expired) > REMEMBERED_EXPIRED:
                del self._expired[next(iter(self._expired))]
            events.append(SessionFailed(negotiate_id, OperationTimeout.text))
        return events

    def due(self) -> float:
        """When ``advance`` has something to do next."""
        held, parting, opening = _first(self._held), _first(self._parting), _first(self.opening)
        return min(
            held.release_at if held is not None else float("inf"),
            parting.give_up_at if parting is not None else float("inf"),
            opening.give_up_at if opening is not None else float("inf"),
        )


def _due(items: Iterable[_T], is_due: Callable[[_T], bool]) -> list[_T]:
    return list(takewhile(is_due, islice(items, SLICE)))


def _first(table: dict[int, _T]) -> _T | None:
    return next(iter(table.values()), None)


def _ignore(anything: object) -> None:
    pass
