"""The connection layer: handshake, liveness and goodbye of one connection, sans-IO, either end.

Bytes and times go in; application frames and events come out of ``receive`` and ``advance``; frames to
send collect in ``outbox``. See docs/protocol.md, "Connections".
"""

from collections.abc import Callable, Iterator
from itertools import islice

from frontier_tx.errors import MultiplexerClosed
from frontier_tx.wire import frame as f
from frontier_tx.wire.body import EMPTY_OBJECT, ConnData, decode_conn, encode_data
from frontier_tx.wire.closing import ClosingHandshake
from frontier_tx.wire.errors import IllegalState, ProtocolError
from frontier_tx.wire.events import (
    Closed,
    Closing,
    ConnAccepted,
    ConnReceived,
    ConnRefused,
    Event,
    HeartbeatReceived,
    SessionOpened,
    SessionRequested,
)
from frontier_tx.wire.fixed import ACQUIRE_CLIENT_ID, CONN_ACK_FIXED, CONN_FIXED, heartbeat_seconds
from frontier_tx.wire.foreign import protocol_of
from frontier_tx.wire.ids import DEFAULT_SESSION, id_counter
from frontier_tx.wire.limits import Limits
from frontier_tx.wire.session import Session
from frontier_tx.wire.session_table import LEAST_WINDOW, SLICE, SessionTable
from frontier_tx.wire.states import CONNECTION, Action, Role, State
from frontier_tx.wire.trace_context import VERSION as TRACE_VERSION
from frontier_tx.wire.watch import NEVER, Watch

_OF_APPLICATION = f.OF_APPLICATION
_STREAM = f.STREAM

Told = f.Frame | Event


class Connection:
    """One end of a connection.

    :param wake: called with the connection when ``outbox`` gets its first frame.
    :param alarm: called with the connection when ``advance`` is wanted earlier than promised; see ``due``.
    """

    __slots__ = (
        "role", "limits", "state", "client_id", "meta", "outbox", "outbox_bytes", "peer_frame_bytes",
        "watch", "closing", "sessions", "reader", "due", "ids", "context",
        "offers_traces", "traces",
        "_wake", "_on_alarm", "_conn_packet_id", "_dismissing", "_leaving",
    )  # fmt: skip

    def __init__(
        self,
        role: Role,
        now: float,
        limits: Limits | None = None,
        *,
        ids: Iterator[int] | None = None,
        wake: Callable[["Connection"], None] | None = None,
        alarm: Callable[["Connection"], None] | None = None,
    ) -> None:
        limits = limits or Limits()
        self.role = role
        self.limits = limits
        self.state = State.INIT
        self.client_id = 0
        self.meta = b""
        #: Whether this end puts trace contexts into ``custom`` where the peer does so too, and whether both do.
        self.offers_traces = self.traces = False
        self.outbox: list[bytes] = []
        self.outbox_bytes = 0
        #: Largest body that the peer takes.
        self.peer_frame_bytes = f.DEFAULT_BODY_LIMIT
        self.watch = Watch(limits, now, role is Role.SERVER)
        self.closing = ClosingHandshake()
        self.ids = ids if ids is not None else id_counter()
        #: For the owner; the connection does not look at it.
        self.context: object = None
        self._wake = wake or _ignore
        self._on_alarm = alarm or _ignore
        self.due = NEVER
        self.sessions = SessionTable(
            is_server=role is Role.SERVER,
            write=self.write,
            ids=self.ids,
            alarm=self._alarm,
            limit=limits.sessions_per_connection,
            open_seconds=limits.open_seconds,
            dismiss_seconds=limits.dismiss_seconds,
            hold_seconds=limits.stream_hold_seconds,
        )
        self.reader = f.FrameReader(limits.handshake_bytes)
        self._conn_packet_id = 0
        self._dismissing = False
        #: Sessions that are still to be dismissed, and what their peer reads of it, while the connection closes.
        self._leaving: Iterator[tuple[Session, str, str]] | None = None
        self._alarm(self.watch.handshake_at)

    # -- output -------------------------------------------------------------------------------------------

    def write(self, frame: bytes) -> None:
        """Queue a finished frame."""
        if not self.outbox:
            self._wake(self)
        self.outbox.append(frame)
        self.outbox_bytes += len(frame)

    def take_output(self, most: int = 0) -> bytes:
        """Return all that is to be sent, or the first ``most`` frames of it, and forget it."""
        outbox = self.outbox
        if 0 < most < len(outbox):
            # Of a very long queue more is taken, as the rest of it has to be moved each time.
            most = max(most, len(outbox) >> 8)
            data = b"".join(outbox[:most])
            del outbox[:most]
            self.outbox_bytes -= len(data)
            return data
        data = b"".join(outbox)
        self.outbox.clear()
        self.outbox_bytes = 0
        return data

    @property
    def connected(self) -> bool:
        """Whether application frames may travel."""
        return self.state is State.CONNECTED

    @property
    def closed(self) -> bool:
        """Whether nothing more will come of it."""
        return self.state is State.CLOSED

    def fits(self, body_bytes: int) -> bool:
        """Whether the peer takes a body of this size (session id included)."""
        return body_bytes <= self.peer_frame_bytes

    # -- handshake ----------------------------------------------------------------------------------------

    def connect(self, meta: bytes = b"", wanted_id: int = 0, frame_limit: int = 0, kind: str = "") -> None:
        """Client: introduce yourself. Nothing else may be sent before the answer.

        :param frame_limit: largest body this end takes; 0 declares nothing.
        :param kind: what dials, ``edge`` or ``service``; a server for others refuses it then for sure.
        """
        self.meta = meta
        self.state = State.CONN_SENT
        self._conn_packet_id = next(self.ids)
        fixed = CONN_FIXED.pack(ACQUIRE_CLIENT_ID | 1 << 4, 0, wanted_id)
        trace_context = TRACE_VERSION if self.offers_traces else 0
        window = self.limits.stream_window_bytes
        data = encode_data(ConnData(meta, "", frame_limit, window, kind, trace_context))
        self.reader.limit = max(frame_limit, self.limits.frame_bytes)
        self.write(f.pack(f.CONN, self._conn_packet_id, fixed + data))

    def accept(self, client_id: int, now: float) -> None:
        """Server: let the client in under this id. The ConnAck is the first frame that it gets.

        Does nothing when the connection came to its end while the owner was making up its mind.
        """
        if self.state is not State.CONN_RECEIVED:
            return
        self.client_id = client_id
        self.state = State.CONNECTED
        declared = self.reader.limit if self.reader.limit > self.limits.frame_bytes else 0
        trace_context = TRACE_VERSION if self.traces else 0
        window = self.sessions.own_window or 0
        data = encode_data(ConnData(frame_limit=declared, stream_window=window, trace_context=trace_context))
        self.write(f.pack(f.CONN_ACK, self._conn_packet_id, CONN_ACK_FIXED.pack(0, client_id) + data))
        self.sessions.start()
        self._alarm(self.watch.up(now))

    def refuse(self, error: str, now: float, client_id: int = 0) -> list[Told]:
        """Server: turn the client away with this text, and close. See ``accept``."""
        if self.state is not State.CONN_RECEIVED:
            return []
        data = encode_data(ConnData(error=error or "refused"))
        self.write(f.pack(f.CONN_ACK, self._conn_packet_id, CONN_ACK_FIXED.pack(1, client_id) + data))
        return self._say_goodbye(now)

    # -- sessions -----------------------------------------------------------------------------------------

    def open_session(
        self, meta: bytes, peer: str, now: float, write: Callable[[bytes], None] | None = None, keep: bool = True
    ) -> int:
        """Ask for a session; SessionOpened or SessionFailed will carry the returned negotiate id.

        :param write: takes the frame, where the owner has a queue of its own for it.
        :param keep: whether the session shall know ``meta`` and ``peer``.
        :raises MultiplexerClosed: the connection is not up.
        :raises TooManyPending: it has as many sessions as it may have.
        :raises PayloadTooLarge: the peer would not take a frame with this meta.
        """
        if self.state is not State.CONNECTED or self._dismissing:
            raise MultiplexerClosed
        return self.sessions.open(meta, peer, now, write, keep)

    def accept_session(self, request: SessionRequested, now: float) -> Session:
        """Open the session that the peer asked for; one that is over already when the connection is closing."""
        if self.state is not State.CONNECTED:
            session = Session(request.negotiate_id, request.meta, request.peer)
            session.closing.send()
            return session
        session = self.sessions.accept(request, now)
        if self._dismissing:
            self.sessions.dismiss(session, now)
        return session

    def refuse_session(self, request: SessionRequested, now: float, error: str = "") -> None:
        """Open the session and dismiss it at once, with the reason: the way of this protocol to say no."""
        session = self.accept_session(request, now)
        if session.writable:
            self.sessions.dismiss(session, now, error)

    def dismiss(self, session: Session, now: float, error: str = "") -> None:
        """Begin to close a session.

        :param error: why, if what was sent on it is not all that was to be sent.
        """
        self.sessions.dismiss(session, now, error)

    def grant(self, session: Session, freed: int) -> None:
        """This end is done with so many bytes that came on a session; where credit is not spoken, nothing happens."""
        self.sessions.grant(session, freed)

    # -- goodbye ------------------------------------------------------------------------------------------

    def close(self, now: float, error: str = "", reason: str = "") -> list[Told]:
        """Close in order: dismiss every session, then the connection; all of it within ``close_seconds``.

        :param error: what the peer reads of each stream that is still open.
        :param reason: what it reads of session 1: why it is not wanted any more.
        """
        if self.state is State.CLOSED or self._dismissing or self.closing.begun:
            return []
        if self.state is not State.CONNECTED:
            return self._fail("closed before the handshake was done")
        self._dismissing = True
        self._leaving = ((session, error, reason) for session in list(self.sessions.live.values()))
        self._dismiss_some(now)
        self._alarm(self.watch.give_up(now + self.limits.close_seconds / 2))
        return self._proceed_to_goodbye(now)

    def _dismiss_some(self, now: float) -> None:
        """Dismiss the next sessions of a connection that is closing; where there are very many, not all in one turn."""
        assert self._leaving is not None
        count = 0
        for session, error, reason in islice(self._leaving, SLICE):
            count += 1
            self.sessions.release(session)
            why = reason if session.id == DEFAULT_SESSION else error or reason
            self.sessions.dismiss(session, now, why)
        if count < SLICE:
            self._leaving = None
        else:
            self._alarm(now)

    def _proceed_to_goodbye(self, now: float) -> list[Told]:
        if self._dismissing and not self.sessions.live and not self.closing.sent:
            return self._say_goodbye(now)
        return []

    def _say_goodbye(self, now: float) -> list[Told]:
        told: list[Told] = [] if self.closing.begun else [Closing()]
        if self.closing.send():
            self.write(f.pack(f.DIS_CONN, next(self.ids)))
            self._alarm(self.watch.give_up(now + self.limits.close_seconds / (2 if self._dismissing else 1)))
        self.state = State.CLOSING
        self.watch.down()
        return told

    def _fail(self, reason: str) -> list[Told]:
        if self.state is State.CLOSED:
            return []
        self.state = State.CLOSED
        self.due = NEVER
        return [Closed(reason)]

    def lost(self) -> list[Session]:
        """The transport is gone: forget everything, and return the sessions that were live."""
        self.state = State.CLOSED
        self.due = NEVER
        self.outbox.clear()
        self.outbox_bytes = 0
        # References back to the owner are let go, so that a connection is freed at once and not by the next
        # search for cycles, which a server with many objects cannot afford often.
        self._wake = self._on_alarm = _ignore
        self._leaving = None
        return self.sessions.clear()

    # -- input --------------------------------------------------------------------------------------------

    def receive(self, data: bytes, now: float, most: int = 0) -> list[Told]:
        """Take received bytes. After a Closed nothing more is told.

        :param most: work on no more frames than this; 0: on all. While ``unread`` says that some are left, call again
            with no bytes.
        """
        if self.state is State.CLOSED:
            return []
        self.watch.last_heard = now
        reader = self.reader
        told: list[Told] = []
        live = self.sessions.live
        try:
            for frame in reader.feed(data, most):
                if frame.type in _OF_APPLICATION:
                    if self.state is State.CONNECTED:
                        session = live.get(frame.session_id)
                        if session is not None:
                            if session.held is not None:
                                self.sessions.release(session)
                            if frame.type == _STREAM and session.allowance is not None:
                                session.allowance -= len(frame.body)
                                if session.allowance < 0:
                                    told += self.sessions.overrun(session, now)
                                    continue
                            told.append(frame)
                else:
                    told += self._control(frame, now)
        except ProtocolError as error:
            return told + self._fail(str(error))
        if reader.failure is not None:
            # Raised it would hold this frame of the stack, and that holds what was received.
            foreign = protocol_of(data) if self.state is State.INIT else ""
            return told + self._fail(f"it speaks {foreign}, this port does not" if foreign else str(reader.failure))
        if reader.busy and reader.in_frame:
            self._alarm(self.watch.in_frame(len(data), now))
        else:
            self.watch.stall_at = NEVER
        return told

    @property
    def unread(self) -> bool:
        """Whether frames are left that ``receive`` was told not to work on yet."""
        return self.reader.more and self.state is not State.CLOSED

    def _control(self, frame: f.Frame, now: float) -> list[Told]:
        handler = _CONTROL.get((self.role, self.state, frame.type))
        return [] if handler is None else handler(self, frame, now)

    def _got_conn(self, frame: f.Frame, now: float) -> list[Told]:
        flags, _, wanted_id = CONN_FIXED.unpack_from(frame.body)
        data = decode_conn(frame.body[CONN_FIXED.size :])
        self.state = State.CONN_RECEIVED
        self._conn_packet_id = frame.packet_id
        self.meta = data.meta
        self.watch.handshake_at = NEVER
        self.watch.interval = float(heartbeat_seconds(flags >> 4 & 3))
        self._declare(data.frame_limit)
        self.traces = self.offers_traces and data.trace_context == TRACE_VERSION
        self._speak_credit(data.stream_window)
        return [ConnReceived(wanted_id, bool(flags & ACQUIRE_CLIENT_ID), data.meta, data.kind)]

    def _declare(self, frame_limit: int) -> None:
        self.reader.limit = self.limits.frame_bytes
        if frame_limit > f.DEFAULT_BODY_LIMIT:
            self.peer_frame_bytes = self.sessions.peer_frame_bytes = frame_limit
            self.reader.limit = max(self.reader.limit, min(frame_limit, self.limits.peer_frame_bytes))

    def _speak_credit(self, peer_window: int) -> None:
        """Both ends must have declared a window."""
        own_window = self.limits.stream_window_bytes
        if min(own_window, peer_window) >= LEAST_WINDOW:
            self.sessions.own_window, self.sessions.peer_window = own_window, peer_window

    def _got_conn_ack(self, frame: f.Frame, now: float) -> list[Told]:
        data = decode_conn(frame.body[CONN_ACK_FIXED.size :])
        if frame.packet_id != self._conn_packet_id:
            return []
        _, self.client_id = CONN_ACK_FIXED.unpack_from(frame.body)
        self.watch.handshake_at = NEVER
        if data.error:
            return [ConnRefused(self.client_id, data.error), *self._say_goodbye(now)]
        self.peer_frame_bytes = self.sessions.peer_frame_bytes = max(f.DEFAULT_BODY_LIMIT, data.frame_limit)
        self._speak_credit(data.stream_window)
        self.traces = self.offers_traces and data.trace_context == TRACE_VERSION
        self.state = State.CONNECTED
        self.sessions.start()
        self._alarm(self.watch.up(now))
        return [ConnAccepted(self.client_id)]

    def _got_heartbeat(self, frame: f.Frame, now: float) -> list[Told]:
        self.write(f.pack(f.HEARTBEAT_ACK, frame.packet_id))
        return [HeartbeatReceived()]

    def _got_heartbeat_ack(self, frame: f.Frame, now: float) -> list[Told]:
        self.watch.unanswered = 0
        return []

    def _got_session(self, frame: f.Frame, now: float) -> list[Told]:
        if self._dismissing:
            return []
        return [*self.sessions.got_session(frame, now)]

    def _got_session_ack(self, frame: f.Frame, now: float) -> list[Told]:
        told: list[Told] = [*self.sessions.got_ack(frame, now)]
        if self._dismissing:
            for opened in told:
                if isinstance(opened, SessionOpened):
                    self.sessions.dismiss(opened.session, now)
        return told

    def _got_dismiss(self, frame: f.Frame, now: float) -> list[Told]:
        return [*self.sessions.got_dismiss(frame, now), *self._proceed_to_goodbye(now)]

    def _got_dismiss_ack(self, frame: f.Frame, now: float) -> list[Told]:
        return [*self.sessions.got_dismiss_ack(frame), *self._proceed_to_goodbye(now)]

    def _got_credit(self, frame: f.Frame, now: float) -> list[Told]:
        if self.sessions.own_window is None:
            self._illegal(frame, now)
        return [*self.sessions.got_credit(frame)]

    def _got_dis_conn(self, frame: f.Frame, now: float) -> list[Told]:
        told: list[Told] = [] if self.closing.begun else [Closing()]
        self.closing.got_request()
        self.write(f.pack(f.DIS_CONN_ACK, frame.packet_id, b"\0" + EMPTY_OBJECT))
        told += self._say_goodbye(now)
        return told + self._finish_if_done()

    def _got_dis_conn_ack(self, frame: f.Frame, now: float) -> list[Told]:
        decode_conn(frame.body[1:])
        self.closing.got_ack()
        return self._finish_if_done()

    def _got_stray_ack(self, frame: f.Frame, now: float) -> list[Told]:
        """Nobody asked for it, which changes nothing; what no end can read is still no frame."""
        decode_conn(frame.body[1:])
        return []

    def _finish_if_done(self) -> list[Told]:
        return self._fail("") if self.closing.done else []

    def _illegal(self, frame: f.Frame, now: float) -> list[Told]:
        raise IllegalState(f"{f.FrameType(frame.type).name} while {self.state.value}")

    # -- time ---------------------------------------------------------------------------------------------

    def reading(self, on: bool, now: float) -> None:
        """The owner stops or resumes taking bytes from the transport."""
        if self.state is not State.CLOSED:
            self._alarm(self.watch.reading(on, self.reader.in_frame, now))

    def _alarm(self, when: float) -> None:
        if when < self.due:
            self.due = when
            self._on_alarm(self)

    def advance(self, now: float) -> list[Told]:
        """Do what is due at ``now``; afterwards ``due`` is when to come back."""
        if self.state is State.CLOSED:
            return []
        if self._leaving is not None:
            self._dismiss_some(now)
        told: list[Told] = [*self.sessions.advance(now), *self._proceed_to_goodbye(now)]
        overdue = self.watch.overdue(now)
        if overdue:
            return told + self._fail(overdue)
        if self.state is State.CONNECTED:
            told += self._liveness(now)
            if self.closed:
                return told
        if self._dismissing and not self.closing.sent and self.watch.give_up_at <= now:
            told += self._say_goodbye(now)
        elif self.watch.give_up_at <= now:
            return told + self._fail("goodbye was not answered")
        self.due = min(self.watch.due(), self.sessions.due(), NEVER if self._leaving is None else now)
        return told

    def _liveness(self, now: float) -> list[Told]:
        watch = self.watch
        if watch.silent_at() <= now:
            watch.lapsed = True
            return self._say_goodbye(now)
        if watch.heartbeat_at <= now:
            if not watch.next_heartbeat(now):
                return self._fail("timeout: two heartbeats were not answered")
            self.write(f.pack(f.HEARTBEAT, next(self.ids)))
        return []


def _ignore(connection: Connection) -> None:
    pass


_Handler = Callable[[Connection, f.Frame, float], list[Told]]
_HANDLERS: dict[Action, _Handler] = {
    Action.ILLEGAL: Connection._illegal,
    Action.GOT_CONN: Connection._got_conn,
    Action.GOT_CONN_ACK: Connection._got_conn_ack,
    Action.GOT_HEARTBEAT: Connection._got_heartbeat,
    Action.GOT_HEARTBEAT_ACK: Connection._got_heartbeat_ack,
    Action.GOT_SESSION: Connection._got_session,
    Action.GOT_SESSION_ACK: Connection._got_session_ack,
    Action.GOT_DISMISS: Connection._got_dismiss,
    Action.GOT_DISMISS_ACK: Connection._got_dismiss_ack,
    Action.GOT_CREDIT: Connection._got_credit,
    Action.GOT_DIS_CONN: Connection._got_dis_conn,
    Action.GOT_DIS_CONN_ACK: Connection._got_dis_conn_ack,
    Action.GOT_STRAY_ACK: Connection._got_stray_ack,
}
#: The rows of the table that are more than dropping a frame or passing it on.
_CONTROL: dict[tuple[Role, State, int], _Handler] = {
    key: _HANDLERS[row.action] for key, row in CONNECTION.items() if row.action in _HANDLERS
}
