"""Twisted's edge of a connection: a Protocol that feeds a ``Connection`` and writes what it has to say.

Subclass it for an end of your own: ``frame_received`` and ``event_received`` are where traffic arrives. The servers'
and the clients' protocols are subclasses of this one; nothing in it knows of edges or services.
"""

from twisted.internet.interfaces import IPullProducer, IPushProducer
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.tcp import Connection as TCPConnection
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from frontier_tx.runtime.loss_text import loss_text
from frontier_tx.timers import Alarms
from frontier_tx.wire.connection import Connection, Told
from frontier_tx.wire.errors import ProtocolError
from frontier_tx.wire.events import Closed, Event
from frontier_tx.wire.frame import Frame
from frontier_tx.wire.gojson import METER
from frontier_tx.wire.limits import Limits
from frontier_tx.wire.outlet import Outlet
from frontier_tx.wire.states import Role
from frontier_tx.wire.toll import Toll
from frontier_tx.wire.watch import NEVER

#: At most this much is handed to a transport at a time, so that progress of a slow peer can be seen.
CHUNK = 131_072
#: What is read from a socket at a time: much of a stream, and of small frames so much that one turn works on some
#: hundreds of them and not on thousands.
READ_LEAST, READ_MOST = 4096, 262_144
MANY_FRAMES, FEW_FRAMES = 400, 100
#: So many frames are worked on between two looks at the clock, and after so many seconds the rest waits for its turn.
SLICE = 64
TURN_SECONDS = 0.004


@implementer(IPullProducer, IPushProducer)
class WireProtocol(Protocol):
    """One connection of this wire.

    :param role: which end this is.
    :param alarms: the process's timer.
    :param outlet: the process's outlet.
    :param limits: what the connection may cost.
    :param write_stall_seconds: a peer that takes nothing for so long, while there is something for it, is dropped.
    """

    log = Logger()
    #: The slot of the process's timer that the connection sits in (``timers.Timed``).
    tick = 0

    def __init__(
        self,
        role: Role,
        alarms: Alarms,
        outlet: Outlet,
        limits: Limits | None = None,
        write_stall_seconds: float = 30.0,
    ) -> None:
        self.alarms = alarms
        self.outlet = outlet
        self._write_stall_seconds = write_stall_seconds
        self._armed_for = NEVER
        self._idle = True
        self._direct = False
        self._backlog: memoryview | None = None
        self._handed = 0
        self._blocked_since = 0.0
        #: How often reading was stopped and not resumed, and whether received bytes wait for another turn.
        self._pauses = 0
        self._behind = False
        self._queued = False
        #: Why the transport is gone, while what it brought before is still being worked on.
        self._lost: str | None = None
        self._gone = False
        self._resting = False
        self._finishing = False
        self._toll: Toll | None = None
        #: What came and what was handed to the transport, in bytes.
        self.bytes_in = self.bytes_out = 0
        #: Why this end closed the connection; empty where it did not, or did so in order.
        self.close_reason = ""
        self.connection = Connection(role, alarms.now(), limits, wake=self._has_output, alarm=self._set_alarm)

    # -- hooks --------------------------------------------------------------------------------------------

    def connection_ready(self) -> None:
        """The transport is there; a client introduces itself now."""

    def frame_received(self, frame: Frame) -> None:
        """An application frame of a live session came."""

    def event_received(self, event: Event) -> None:
        """Something happened on the connection or the session layer."""

    def connection_gone(self, reason: str) -> None:
        """The connection is over; called once. ``reason`` is empty after an orderly goodbye."""

    def transport_gone(self) -> None:
        """The transport is closed too; called once, after ``connection_gone`` or with it."""

    def slice_done(self) -> None:
        """Received bytes were worked on, all of them or a part; called at the end of each such piece of work."""

    def burst(self) -> int:
        """How many frames may be written at once; the next ones after ``outlet.PAUSE``. 0: all."""
        return 0

    # -- input --------------------------------------------------------------------------------------------

    def connectionMade(self) -> None:
        transport = self.transport
        assert transport is not None
        if isinstance(transport, TCPConnection):
            # A pull producer is told each time everything was sent; then this end may write to the
            # socket itself, without two rounds through the reactor for each write.
            self._direct = True
            transport.setTcpNoDelay(True)
            transport.setTcpKeepAlive(True)
            transport.registerProducer(self, False)  # type: ignore[no-untyped-call]
        elif hasattr(transport, "registerProducer"):
            transport.registerProducer(self, True)
        self.connection_ready()

    def dataReceived(self, data: bytes) -> None:
        outlet = self.outlet
        outlet.enter()
        METER.spent = 0
        self.bytes_in += len(data)
        try:
            connection = self.connection
            told = connection.receive(data, self.alarms.now(), SLICE)
            self._tell(told)
            self.slice_done()
            if connection.reader.busy or (self._direct and len(data) >= READ_LEAST):
                self._receive_more(len(data), len(told))
        finally:
            outlet.leave()

    def _receive_more(self, size: int, frames: int) -> None:
        """Go on with a read that may hold thousands of frames, for as long as others can wait."""
        if self._behind:
            # Reading was stopped, but a transport had more at hand: it is put behind the rest.
            return
        if self.connection.unread and not self._gone:
            stopwatch = self.outlet.stopwatch
            # Where others are behind already, each begins with one slice.
            until = 0.0 if self.outlet.crowded else stopwatch() + TURN_SECONDS
            while self.connection.unread and not self._gone:
                if self._pauses or stopwatch() >= until:
                    self._fall_behind()
                    break
                frames += self._receive_slice()
        if self._direct:
            self._adapt_reading(size, frames)

    def _receive_slice(self) -> int:
        METER.spent = 0
        told = self.connection.receive(b"", self.alarms.now(), SLICE)
        self._tell(told)
        self.slice_done()
        return len(told)

    def _fall_behind(self) -> None:
        self._behind = True
        if not self._pauses:
            self._read(False)
            self._queue()

    def _queue(self) -> None:
        if not self._queued:
            self._queued = True
            self.outlet.later(self)

    def go_on(self) -> bool:
        """Work on a slice of what is left (``outlet.Worker``)."""
        if not self._gone:
            if self._pauses and self._lost is None:
                self._queued = False
                return False
            try:
                self._receive_slice()
            except Exception:
                self.log.failure("received bytes could not be worked on; their connection is closed")
                self.abort("internal error")
            if self.connection.unread and not self._gone:
                return True
        self._queued = self._behind = False
        if self._lost is not None:
            self._end(self._lost)
            self.transport_gone()
        elif not self._pauses:
            self._read(True)
        return False

    def _adapt_reading(self, size: int, frames: int) -> None:
        """The next read is of another size, if this one was full or told too much."""
        transport = self.transport
        assert isinstance(transport, TCPConnection)
        if frames > MANY_FRAMES:
            transport.bufferSize = max(READ_LEAST, transport.bufferSize // 2)
        elif frames < FEW_FRAMES and size >= transport.bufferSize < READ_MOST:
            transport.bufferSize *= 2

    def _tell(self, told: list[Told]) -> None:
        frame_received = self.frame_received
        try:
            for item in told:
                if self._gone:
                    break
                if type(item) is Frame:
                    frame_received(item)
                else:
                    self._tell_event(item)  # type: ignore[arg-type]
        except ProtocolError as error:
            self.abort(str(error))
        except Exception:
            self.log.failure("a frame could not be worked on; its connection is closed")
            self.abort("internal error")
        if METER.spent:
            self._pay()

    def _pay(self) -> None:
        """What was read the slow way meanwhile came from this peer."""
        spent, METER.spent = METER.spent, 0
        if self._gone:
            return
        if self._toll is None:
            self._toll = Toll(self.alarms, self.pause_reading, self.resume_reading)
        self.outlet.odd_json_stops += self._toll.charge(spent)

    def _tell_event(self, event: Event) -> None:
        self.event_received(event)
        if isinstance(event, Closed):
            self._finish(event.reason)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.alarms.cancel(self)
        why = self.close_reason or loss_text(reason)
        if self._behind and not self._gone:
            # What came before is worked on before the end.
            self._lost = why
            self._queue()
            return
        self._end(why)
        self.transport_gone()

    def _end(self, reason: str) -> None:
        if self._gone:
            return
        self._gone = True
        self._backlog = None
        if self._toll is not None:
            self._toll.cancel()
        self.alarms.cancel(self)
        self.outlet.enter()
        try:
            try:
                self.connection_gone(reason)
            except Exception:
                self.log.failure("the end of a connection could not be worked on")
            self.connection.lost()
        finally:
            self.outlet.leave()

    # -- closing ------------------------------------------------------------------------------------------

    def close(self, reason: str = "") -> None:
        """Say goodbye in order, sessions first; it takes at most ``limits.close_seconds``.

        :param reason: why, for a peer that can read it.
        """
        self.outlet.enter()
        try:
            self._tell(self.connection.close(self.alarms.now(), reason=reason))
        finally:
            self.outlet.leave()

    def abort(self, reason: str) -> None:
        """End the connection at once."""
        if not self._gone:
            self.close_reason = reason
            transport = self.transport
            self._end(reason)
            if transport is not None:
                getattr(transport, "abortConnection", transport.loseConnection)()

    def _finish(self, reason: str) -> None:
        """The connection machine is done: write what is left and close."""
        self.close_reason = reason
        if reason and self.connection.outbox_bytes > CHUNK:
            self.abort(reason)
            return
        self._finishing, self._resting = True, False
        self.flush()
        if not self._idle:
            self.abort(reason)
            return
        transport = self.transport
        self._end(reason)
        if transport is not None:
            if hasattr(transport, "unregisterProducer"):
                transport.unregisterProducer()
            # TLS says a goodbye of its own, which the peer may never answer.
            self.alarms.schedule(self, self.alarms.now() + self.connection.limits.close_seconds)
            transport.loseConnection()

    # -- output -------------------------------------------------------------------------------------------

    def _has_output(self, connection: Connection) -> None:
        self.outlet.note(self)

    @property
    def idle(self) -> bool:
        """Whether the transport takes more."""
        return self._idle

    @property
    def unsent(self) -> int:
        """Bytes that wait here because the peer does not take them."""
        return self.connection.outbox_bytes + (len(self._backlog) if self._backlog is not None else 0)

    def flush(self) -> None:
        """Write what there is, as far as the transport takes it."""
        connection = self.connection
        while self._idle and not (self._gone or self._resting):
            if not connection.outbox and self._backlog is None:
                return
            self._write(self._next_chunk())

    def rested(self) -> None:
        """The next burst may be written (``outlet.Flushable``)."""
        self._resting = False

    def _next_chunk(self) -> bytes:
        if self._backlog is None:
            data = self.connection.take_output(0 if self._finishing else self.burst())
            if self.connection.outbox:
                self._resting = True
                self.outlet.rest(self)
            if len(data) <= CHUNK:
                return data
            self._backlog = memoryview(data)
        chunk = bytes(self._backlog[:CHUNK])
        self._backlog = self._backlog[CHUNK:] if len(self._backlog) > CHUNK else None
        return chunk

    def _write(self, data: bytes) -> None:
        transport = self.transport
        self.bytes_out += len(data)
        if self._direct:
            assert isinstance(transport, TCPConnection)
            sent = transport.writeSomeData(data) if transport.connected else len(data)
            if sent == len(data):
                return
            self._idle = False
            # A failed send is tried again by the reactor, which then reports the loss in the usual way.
            transport.write(data[sent:] if isinstance(sent, int) else data)
        else:
            assert transport is not None
            transport.write(data)
        if not self._idle:
            self._handed = len(data)
            self._blocked_since = self.alarms.now()
            self._set_alarm(self.connection)

    @property
    def handed(self) -> int:
        """Bytes that the transport holds, at most, because the peer does not take them."""
        return self._handed

    def resumeProducing(self) -> None:
        """The transport sent everything."""
        if self._idle:
            return
        self._idle = True
        self._handed = 0
        self.flush()

    def pauseProducing(self) -> None:
        """The transport is full."""
        self._idle = False
        self._blocked_since = self.alarms.now()
        self._set_alarm(self.connection)

    def stopProducing(self) -> None:
        """The transport is going away; ``connectionLost`` follows."""

    # -- reading ------------------------------------------------------------------------------------------

    def pause_reading(self) -> None:
        """Take no more bytes from the peer until as many ``resume_reading`` came."""
        self._pauses += 1
        if self._pauses == 1 and not self._behind:
            self._read(False)

    def resume_reading(self) -> None:
        """Undo one ``pause_reading``; what was received before comes first."""
        self._pauses -= 1
        if self._pauses:
            return
        if self._behind and not self._gone:
            self._queue()
        else:
            self._read(True)

    def _read(self, on: bool) -> None:
        transport = self.transport
        if transport is None or self._gone or self._lost is not None:
            return
        self.connection.reading(on, self.alarms.now())
        if on:
            transport.resumeProducing()  # type: ignore[attr-defined]
        else:
            transport.pauseProducing()  # type: ignore[attr-defined]

    # -- time ---------------------------------------------------------------------------------------------

    def _set_alarm(self, connection: Connection) -> None:
        due = connection.due
        if not self._idle:
            due = min(due, self._blocked_since + self._write_stall_seconds)
        # An alarm that comes too early is set again when it fires: cheaper than moving it at each change.
        if due != NEVER and not self._gone and not (self.tick and self._armed_for <= due):
            self._armed_for = due
            self.alarms.schedule(self, due)

    def fire(self, now: float) -> None:
        """The process's timer: something is due on this connection."""
        if self._gone:
            transport = self.transport
            getattr(transport, "abortConnection", transport.loseConnection)()  # type: ignore[union-attr]
            return
        self.outlet.enter()
        try:
            if not self._idle and self._blocked_since + self._write_stall_seconds <= now:
                self.abort("timeout: the peer does not take what is sent to it")
                return
            if self.connection.due <= now:
                self._tell(self.connection.advance(now))
            self._set_alarm(self.connection)
        finally:
            self.outlet.leave()
