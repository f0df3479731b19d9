"""A client's end of one connection, sans-IO: what comes is sorted into channels, one per session."""

from collections.abc import Callable
from typing import Protocol

from frontier_tx.clients.core.channel import Channel
from frontier_tx.clients.core.home import Home
from frontier_tx.clients.core.intake import Bounds, Done, Intake
from frontier_tx.clients.core.stream_channel import LINGER, StreamChannel
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
from frontier_tx.wire.connection import Connection
from frontier_tx.wire.frame import Frame
from frontier_tx.wire.ids import DEFAULT_SESSION
from frontier_tx.wire.session import Session

#: Largest frame that clients declare to take.
FRAME_LIMIT = 16_777_216


class Link(Protocol):
    """What carries the frames of an end."""

    @property
    def connection(self) -> Connection:
        """The machine of the connection."""

    @property
    def unsent(self) -> int:
        """Bytes that wait because the peer does not take them."""

    def pause_reading(self) -> None:
        """Take no more bytes until as many ``resume_reading`` came."""

    def resume_reading(self) -> None:
        """Undo one ``pause_reading``."""

    def close(self) -> None:
        """Say goodbye in order, in bounded time."""

    def abort(self, reason: str) -> None:
        """End at once."""


class Owner(Protocol):
    """Who wants to know how a connection fares."""

    def came_online(self, end: "End") -> None:
        """The server accepted."""

    def went_offline(self, end: "End", reason: str) -> None:
        """The connection is over; called once."""


class End:
    """One connection.

    :param tailed: a service's: ``custom`` of session 1 ends in an edge id.
    :param home: where it may be used.
    """

    #: The slot of the timer (``timers.Timed``).
    tick = 0

    def __init__(
        self,
        link: Link,
        owner: Owner,
        intake: Intake,
        alarms: Alarms,
        wall_clock: Callable[[], float],
        *,
        tailed: bool = False,
        home: Home | None = None,
    ) -> None:
        self.link = link
        self.owner = owner
        self.intake = intake
        self.bounds: Bounds = intake.bounds
        self.alarms = alarms
        self.wall_clock = wall_clock
        self.tailed = tailed
        self.connection = link.connection
        self.home = home or Home()
        self.main: Channel | None = None
        self.channels: dict[int, StreamChannel] = {}
        #: Operations under way, and handlers that run.
        self.pending = 0
        self.running = 0
        #: The server's reason when it turned this end away.
        self.refusal: ConnectionRefused | None = None
        #: The server's reason when it said goodbye, where it gave one.
        self.farewell = ""
        #: Streams on which somebody waits to write.
        self.drains: dict[StreamChannel, None] = {}
        self._opening: dict[int, Done] = {}
        self._congestions = 0
        self._leaving = False
        #: Whether the connection is over: what fails because of that is told meanwhile, and must find nothing to use.
        self.over = False

    # -- what the link tells ------------------------------------------------------------------------------

    def frame(self, frame: Frame) -> None:
        """An application frame of a live session came."""
        channel = self.channels.get(frame.session_id) if frame.session_id != DEFAULT_SESSION else self.main
        if channel is not None:
            channel.receive(frame)

    def event(self, event: e.Event) -> None:
        """Something happened on the connection or session layer."""
        match event:
            case e.ConnAccepted():
                session = self.connection.sessions.live[DEFAULT_SESSION]
                self.main = Channel(self, session, self.intake.methods, self.intake.messages, self.tailed)
                self.intake.messages.listeners.add(self.congested)
                if self.intake.messages.full:
                    self.congested(True)
                self.owner.came_online(self)
            case e.ConnRefused(error=error):
                self.refusal = ConnectionRefused(error)
            case e.SessionRequested():
                self._requested(event)
            case e.SessionOpened(negotiate_id, session):
                self._opened(negotiate_id, self._channel(session))
            case e.SessionFailed(negotiate_id, error):
                done = self._opening.pop(negotiate_id, None)
                if done is not None:
                    done(None, OperationTimeout() if error == "timeout" else from_answer(error))
            case e.SessionDismissed(session, error):
                if session.id == DEFAULT_SESSION:
                    self.farewell = error
                self._session_over(session.id, error or None)
            case e.SessionEnded(session):
                self._session_over(session.id, None)
            case e.CreditGranted(session):
                stream = self.channels.get(session.id)
                if stream is not None:
                    stream.credited()
            case _:
                pass

    def gone(self, reason: str) -> None:
        """The connection is over: everything pending fails."""
        self.over = True
        self.intake.messages.listeners.discard(self.congested)
        for channel in list(self.channels.values()):
            channel.over("")
        self.channels.clear()
        if self.main is not None:
            self.main.over("")
        opening, self._opening = self._opening, {}
        for done in opening.values():
            done(None, ForceClosed())
        self.owner.went_offline(self, reason or self.farewell)

    def drained(self) -> None:
        """The link sent something: whoever waits to write goes on when enough is gone."""
        if self.drains and self.link.unsent <= self.bounds.low_water:
            for channel in list(self.drains):
                channel.drained()

    def congested(self, full: bool) -> None:
        """A queue of this end is full, or no longer: while any is, nothing is read."""
        self._congestions += 1 if full else -1
        if not (self.over or self._leaving):
            if full and self._congestions == 1:
                self.link.pause_reading()
            elif not full and not self._congestions:
                self.link.resume_reading()

    # -- leaving ------------------------------------------------------------------------------------------

    def leave(self) -> None:
        """Say goodbye in order. What streams have still to send goes first, as long as anything of it is taken."""
        if self._leaving or self.over:
            return
        self._leaving = True
        if self._congestions:
            # The far side's part of the goodbye comes behind what was not read.
            self.link.resume_reading()
        if self._unsent_streams():
            self.alarms.schedule(self, self.alarms.now() + LINGER)
        else:
            self.link.close()

    def _unsent_streams(self) -> list[StreamChannel]:
        return [channel for channel in self.channels.values() if channel.writing.size]

    def stream_sent(self) -> None:
        """A stream has nothing more that waits."""
        if self._leaving and not self.over and not self._unsent_streams():
            self._go()

    def stream_moved(self) -> None:
        """A far side takes more."""
        if self._leaving and not self.over and self._unsent_streams():
            self.alarms.schedule(self, self.alarms.now() + LINGER)

    def fire(self, now: float) -> None:
        """The far sides did not take what streams had to send."""
        for channel in self._unsent_streams():
            channel.abort("timeout")
        self._go()

    def _go(self) -> None:
        self.alarms.cancel(self)
        self.link.close()

    # -- streams ------------------------------------------------------------------------------------------

    def open(self, peer: str, meta: bytes, done: Done) -> Callable[[], None]:
        """Open a session; ``done`` gets its channel. Returns what cancels: a late channel is then closed.

        :raises TypeError: a value of a wrong type. :raises MultiplexerClosed: the connection is not up.
        """
        meta, peer = octets(meta, "meta"), string(peer, "target")
        if self.over:
            raise MultiplexerClosed
        negotiate_id = self.connection.open_session(meta, peer, self.alarms.now())
        self._opening[negotiate_id] = done

        def cancel() -> None:
            self._opening.pop(negotiate_id, None)

        return cancel

    def streams(self) -> list[StreamChannel]:
        """All open streams."""
        return [channel for channel in self.channels.values() if channel.open]

    def _opened(self, negotiate_id: int, channel: StreamChannel) -> None:
        done = self._opening.pop(negotiate_id, None)
        if done is None:
            channel.abort()
        else:
            done(channel, None)

    def _requested(self, request: e.SessionRequested) -> None:
        intake = self.intake
        now = self.alarms.now()
        if intake.streams.closed or self._leaving:
            self.connection.refuse_session(request, now, EndClosed.text)
            return
        if intake.on_stream is None and len(intake.streams.items) >= self.bounds.accept:
            self.connection.refuse_session(request, now, ReceiverCongested.text)
            return
        channel = self._channel(self.connection.accept_session(request, now))
        if intake.on_stream is not None:
            intake.on_stream(channel)
        elif channel.offer():
            intake.streams.put(channel)
        else:
            channel.abort(ReceiverCongested.text)

    def _channel(self, session: Session) -> StreamChannel:
        channel = self.channels[session.id] = StreamChannel(self, session)
        return channel

    def forget(self, channel: StreamChannel) -> None:
        """A stream was given up: what still comes on it is for nobody."""
        self.channels.pop(channel.session.id, None)

    def _session_over(self, session_id: int, cut: str | None) -> None:
        if session_id == DEFAULT_SESSION:
            if self.main is not None:
                self.main.over(cut)
                # Nothing that a client is for works without session 1; the connection is of no use any more.
                self.link.close()
            return
        channel = self.channels.pop(session_id, None)
        if channel is not None:
            channel.over(cut)
            self.stream_sent()
