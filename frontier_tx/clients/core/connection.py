"""A client's end of one connection, sans-IO: what comes is sorted into streams, one per session."""

from collections.abc import Callable
from typing import Protocol

from frontier_tx.clients.core.home import Home
from frontier_tx.clients.core.hosts import FrameTransport
from frontier_tx.clients.core.intake import Bounds, Done, Intake
from frontier_tx.clients.core.session import ClientSession
from frontier_tx.clients.core.stream import LINGER, StreamSession
from frontier_tx.clients.core.values import octets, string
from frontier_tx.errors import (
    ConnectionRefused,
    EndClosed,
    ForceClosed,
    MultiplexerClosed,
    OperationTimeout,
    ReceiverCongested,
    from_answer,
)
from frontier_tx.timers import Alarms
from frontier_tx.wire import events as e
from frontier_tx.wire.frame import Frame
from frontier_tx.wire.ids import DEFAULT_SESSION
from frontier_tx.wire.session import Session

#: Largest frame that clients declare to take.
FRAME_LIMIT = 16_777_216


class ConnectionOwner(Protocol):
    """Is told how a connection fares."""

    def came_online(self, connection: "ClientConnection") -> None:
        """The server accepted."""

    def went_offline(self, connection: "ClientConnection", reason: str) -> None:
        """The connection is over; called once."""


class ClientConnection:
    """One connection.

    :param tailed: a service's: ``custom`` of session 1 ends in an edge id.
    :param home: where it may be used.
    """

    #: The slot of the timer (``timers.Timed``).
    tick = 0

    def __init__(
        self,
        transport: FrameTransport,
        owner: ConnectionOwner,
        intake: Intake,
        alarms: Alarms,
        wall_clock: Callable[[], float],
        *,
        tailed: bool = False,
        home: Home | None = None,
    ) -> None:
        self.transport = transport
        self.owner = owner
        self.intake = intake
        self.bounds: Bounds = intake.bounds
        self.alarms = alarms
        self.wall_clock = wall_clock
        self.tailed = tailed
        self.wire = transport.connection
        self.home = home or Home()
        self.main: ClientSession | None = None
        self.streams: dict[int, StreamSession] = {}
        #: Operations under way, and handlers that run.
        self.pending = 0
        self.running = 0
        #: The server's reason when it turned this end away.
        self.refusal: ConnectionRefused | None = None
        #: The server's reason when it said goodbye, where it gave one.
        self.farewell = ""
        #: Streams on which somebody waits to write.
        self.drains: dict[StreamSession, None] = {}
        self._opening: dict[int, Done] = {}
        self._congestions = 0
        self._leaving = False
        #: Whether the connection is over. Set before pending operations fail: their callers must start nothing on it.
        self.over = False

    # -- what the transport tells -------------------------------------------------------------------------

    def frame(self, frame: Frame) -> None:
        """An application frame of a live session came."""
        stream = self.streams.get(frame.session_id) if frame.session_id != DEFAULT_SESSION else self.main
        if stream is not None:
            stream.receive(frame)

    def event(self, event: e.Event) -> None:
        """Something happened on the connection or session layer."""
        match event:
            case e.ConnAccepted():
                session = self.wire.sessions.live[DEFAULT_SESSION]
                self.main = ClientSession(self, session, self.intake.methods, self.intake.messages, self.tailed)
                self.intake.messages.listeners.add(self.congested)
                if self.intake.messages.full:
                    self.congested(True)
                self.owner.came_online(self)
            case e.ConnRefused(error=error):
                self.refusal = ConnectionRefused(error)
            case e.SessionRequested():
                self._requested(event)
            case e.SessionOpened(negotiate_id, session):
                self._opened(negotiate_id, self._stream(session))
            case e.SessionFailed(negotiate_id, error):
                done = self._opening.pop(negotiate_id, None)
                if done is not None:
                    done(None, OperationTimeout() if error == OperationTimeout.text else from_answer(error))
            case e.SessionDismissed(session, error):
                if session.id == DEFAULT_SESSION:
                    self.farewell = error
                self._session_over(session.id, error or None)
            case e.SessionEnded(session):
                self._session_over(session.id, None)
            case e.CreditGranted(session):
                stream = self.streams.get(session.id)
                if stream is not None:
                    stream.credited()
            case _:
                pass

    def gone(self, reason: str) -> None:
        """The connection is over: everything pending fails."""
        self.over = True
        self.intake.messages.listeners.discard(self.congested)
        for stream in list(self.streams.values()):
            stream.over("")
        self.streams.clear()
        if self.main is not None:
            self.main.over("")
        opening, self._opening = self._opening, {}
        for done in opening.values():
            done(None, ForceClosed())
        self.owner.went_offline(self, reason or self.farewell)

    def drained(self) -> None:
        """The transport sent something: writers that wait go on when enough is sent."""
        if self.drains and self.transport.unsent <= self.bounds.low_water:
            for stream in list(self.drains):
                stream.drained()

    def congested(self, full: bool) -> None:
        """A queue of this end became full, or no longer is. While any is full, nothing is read."""
        self._congestions += 1 if full else -1
        if not (self.over or self._leaving):
            if full and self._congestions == 1:
                self.transport.pause_reading()
            elif not full and not self._congestions:
                self.transport.resume_reading()

    # -- leaving ------------------------------------------------------------------------------------------

    def leave(self) -> None:
        """Say goodbye. Streams first send what they have, as long as the far side takes anything.

        A stream on which somebody is still writing is cut: its reader must not take what came for all of it.
        """
        if self._leaving or self.over:
            return
        self._leaving = True
        for stream in list(self.streams.values()):
            if stream.unfinished:
                stream.abort()
        if self._congestions:
            # The far side's goodbye comes after what was not read.
            self.transport.resume_reading()
        if self._unsent_streams():
            self.alarms.schedule(self, self.alarms.now() + LINGER)
        else:
            self.transport.close()

    def _unsent_streams(self) -> list[StreamSession]:
        return [stream for stream in self.streams.values() if stream.writing.size]

    def stream_sent(self) -> None:
        """A stream has sent all it had."""
        if self._leaving and not self.over and not self._unsent_streams():
            self._go()

    def stream_moved(self) -> None:
        """A far side takes more."""
        if self._leaving and not self.over and self._unsent_streams():
            self.alarms.schedule(self, self.alarms.now() + LINGER)

    def fire(self, now: float) -> None:
        """The far sides took nothing for too long: cut the streams."""
        for stream in self._unsent_streams():
            stream.abort(OperationTimeout.text)
        self._go()

    def _go(self) -> None:
        self.alarms.cancel(self)
        self.transport.close()

    # -- streams ------------------------------------------------------------------------------------------

    def open(self, peer: str, meta: bytes, done: Done) -> Callable[[], None]:
        """Open a session; ``done`` gets its stream. Returns what cancels: a late stream is then closed.

        :raises TypeError: a value of a wrong type. :raises MultiplexerClosed: the connection is not up.
        """
        meta, peer = octets(meta, "meta"), string(peer, "target")
        if self.over:
            raise MultiplexerClosed
        negotiate_id = self.wire.open_session(meta, peer, self.alarms.now())
        self._opening[negotiate_id] = done

        def cancel() -> None:
            self._opening.pop(negotiate_id, None)

        return cancel

    def open_streams(self) -> list[StreamSession]:
        """All open streams."""
        return [stream for stream in self.streams.values() if stream.open]

    def _opened(self, negotiate_id: int, stream: StreamSession) -> None:
        done = self._opening.pop(negotiate_id, None)
        if done is None:
            stream.abort()
        else:
            done(stream, None)

    def _requested(self, request: e.SessionRequested) -> None:
        intake = self.intake
        now = self.alarms.now()
        if intake.streams.closed or self._leaving:
            self.wire.refuse_session(request, now, EndClosed.text)
            return
        if intake.on_stream is None and len(intake.streams.items) >= self.bounds.accept:
            self.wire.refuse_session(request, now, ReceiverCongested.text)
            return
        stream = self._stream(self.wire.accept_session(request, now))
        if intake.on_stream is not None:
            intake.on_stream(stream)
        elif stream.offer():
            intake.streams.put(stream)
        else:
            stream.abort(ReceiverCongested.text)

    def _stream(self, session: Session) -> StreamSession:
        stream = self.streams[session.id] = StreamSession(self, session)
        return stream

    def forget(self, stream: StreamSession) -> None:
        """A stream was aborted: drop what still comes on it."""
        self.streams.pop(stream.wire.id, None)

    def _session_over(self, session_id: int, cut: str | None) -> None:
        if session_id == DEFAULT_SESSION:
            if self.main is not None:
                self.main.over(cut)
                # Nothing works without session 1.
                self.transport.close()
            return
        stream = self.streams.pop(session_id, None)
        if stream is not None:
            stream.over(cut)
            self.stream_sent()
