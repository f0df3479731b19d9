"""A client's end of one connection, sans-IO: what comes is sorted into channels, one per session."""

from collections.abc import Callable
from typing import Any, Protocol

from frontier_tx.clients.channel import Channel
from frontier_tx.clients.errors import remote_error
from frontier_tx.clients.intake import Bounds, Done, Inbox, Intake, ignore
from frontier_tx.clients.values import octets, string
from frontier_tx.timers import Alarms
from frontier_tx.wire import events as e
from frontier_tx.wire.connection import Connection
from frontier_tx.wire.errors import (
    ConnectionRefused,
    ForceClosed,
    MultiplexerClosed,
    OperationTimeout,
)
from frontier_tx.wire.frame import Frame
from frontier_tx.wire.ids import DEFAULT_SESSION

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
    """

    def __init__(
        self,
        link: Link,
        owner: Owner,
        intake: Intake,
        alarms: Alarms,
        wall_clock: Callable[[], float],
        *,
        tailed: bool = False,
    ) -> None:
        self.link = link
        self.owner = owner
        self.intake = intake
        self.bounds: Bounds = intake.bounds
        self.alarms = alarms
        self.wall_clock = wall_clock
        self.tailed = tailed
        self.connection = link.connection
        self.main: Channel | None = None
        self.channels: dict[int, Channel] = {}
        #: Operations under way, and handlers that run.
        self.pending = 0
        self.running = 0
        #: The server's reason when it turned this end away.
        self.refusal: ConnectionRefused | None = None
        self.drains: list[Done] = []
        self._opening: dict[int, Done] = {}
        self._congestions = 0
        #: Whether the connection is over: what fails because of that is told meanwhile, and must find nothing to use.
        self.over = False

    # -- what the link tells ------------------------------------------------------------------------------

    def frame(self, frame: Frame) -> None:
        """An application frame of a live session came."""
        channel = self.channels.get(frame.session_id)
        if channel is not None:
            channel.receive(frame)

    def event(self, event: e.Event) -> None:
        """Something happened on the connection or session layer."""
        match event:
            case e.ConnAccepted():
                session = self.connection.sessions.live[DEFAULT_SESSION]
                self.main = Channel(self, session, self.intake.methods, self.intake.messages, self.tailed)
                self.channels[DEFAULT_SESSION] = self.main
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
                    done(None, OperationTimeout() if error == "timeout" else remote_error(error))
            case e.SessionDismissed(session) | e.SessionEnded(session):
                self._session_over(session.id)
            case _:
                pass

    def gone(self, reason: str) -> None:
        """The connection is over: everything pending fails."""
        self.over = True
        for channel in list(self.channels.values()):
            channel.ended(lost=True)
        self.channels.clear()
        opening, self._opening = self._opening, {}
        for done in opening.values():
            done(None, ForceClosed())
        self._tell_drained(ForceClosed())
        self.owner.went_offline(self, reason)

    def drained(self) -> None:
        """The link sent something: whoever waits to write goes on when enough is gone."""
        if self.link.unsent > self.bounds.low_water:
            return
        if self.drains:
            self._tell_drained(None)
        for channel in list(self.channels.values()):
            if channel.on_drained is not None:
                channel.on_drained()

    def _tell_drained(self, error: Exception | None) -> None:
        drains, self.drains = self.drains, []
        for done in drains:
            done(None, error)

    def congested(self, full: bool) -> None:
        """A queue of this end is full, or no longer: while any is, nothing is read."""
        self._congestions += 1 if full else -1
        if not self.over:
            if full and self._congestions == 1:
                self.link.pause_reading()
            elif not self._congestions:
                self.link.resume_reading()

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

    def streams(self) -> list[Channel]:
        """All open channels but session 1's."""
        return [channel for channel in self.channels.values() if channel is not self.main and channel.open]

    def _opened(self, negotiate_id: int, channel: Channel) -> None:
        done = self._opening.pop(negotiate_id, None)
        if done is None:
            channel.close(ignore)
        else:
            done(channel, None)

    def _requested(self, request: e.SessionRequested) -> None:
        intake = self.intake
        now = self.alarms.now()
        if intake.streams.closed or (intake.on_stream is None and len(intake.streams.items) >= self.bounds.accept):
            self.connection.refuse_session(request, now)
            return
        channel = self._channel(self.connection.accept_session(request, now))
        if intake.on_stream is not None:
            intake.on_stream(channel)
        else:
            intake.streams.put(channel)

    def _channel(self, session: Any) -> Channel:
        channel = Channel(self, session, {}, Inbox(self.bounds.messages))
        self.channels[session.id] = channel
        return channel

    def _session_over(self, session_id: int) -> None:
        channel = self.channels.pop(session_id, None)
        if channel is not None:
            channel.ended()
            if channel is self.main:
                # Nothing that a client is for works without session 1; the connection is of no use any more.
                self.link.close()
