"""asyncio's link: a Protocol that feeds a connection and writes what it has to say."""

import asyncio
import logging

from frontier_tx.clients.end import End
from frontier_tx.clients.keeper import Keeper
from frontier_tx.timers import Alarms
from frontier_tx.wire.connection import NEVER, Connection, Limits, Role, State, Told
from frontier_tx.wire.errors import ProtocolError
from frontier_tx.wire.events import Closed
from frontier_tx.wire.frame import Frame
from frontier_tx.wire.outlet import Outlet

log = logging.getLogger("frontier.client")


class AioLink(asyncio.Protocol):
    """One connection of a client.

    :param write_stall_seconds: a peer that takes nothing for so long, while there is something for it, is dropped.
    """

    #: The slot of the timer (``timers.Timed``).
    tick = 0

    def __init__(
        self,
        keeper: Keeper,
        alarms: Alarms,
        outlet: Outlet,
        limits: Limits | None = None,
        write_stall_seconds: float = 30.0,
    ) -> None:
        self._keeper = keeper
        self._alarms = alarms
        self._outlet = outlet
        self._write_stall_seconds = write_stall_seconds
        self._transport: asyncio.Transport | None = None
        self._armed_for = NEVER
        self._idle = True
        self._blocked_since = 0.0
        self._pauses = 0
        self._gone = False
        self._reason = ""
        self._end: End | None = None
        self.connection = Connection(
            Role.CLIENT, alarms.now(), limits, wake=self._has_output, alarm=self._set_alarm
        )

    # -- asyncio ------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._end = self._keeper.attach(self)
        # Whoever waits to write must be told by this transport that it may go on.
        transport.set_write_buffer_limits(high=min(65_536, self._end.bounds.low_water))

    def data_received(self, data: bytes) -> None:
        if self._gone:
            return
        self._outlet.enter()
        try:
            self._tell(self.connection.receive(data, self._alarms.now()))
        finally:
            self._outlet.leave()

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._finish(self._reason or (str(exc) if exc else "the peer closed the connection"))

    def pause_writing(self) -> None:
        self._idle = False
        self._blocked_since = self._alarms.now()
        self._set_alarm(self.connection)

    def resume_writing(self) -> None:
        self._idle = True
        self.flush()

    # -- Link ---------------------------------------------------------------------------------------------

    @property
    def unsent(self) -> int:
        """Bytes that wait because the peer does not take them."""
        waiting = self._transport.get_write_buffer_size() if self._transport is not None else 0
        return self.connection.outbox_bytes + waiting

    def pause_reading(self) -> None:
        """Take no more bytes until as many ``resume_reading`` came."""
        self._pauses += 1
        if self._pauses == 1 and self._transport is not None and not self._gone:
            self.connection.reading(False, self._alarms.now())
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Undo one ``pause_reading``."""
        self._pauses -= 1
        if not self._pauses and self._transport is not None and not self._gone:
            self.connection.reading(True, self._alarms.now())
            self._transport.resume_reading()

    def close(self) -> None:
        """Say goodbye in order, in bounded time."""
        self._outlet.enter()
        try:
            self._tell(self.connection.close(self._alarms.now()))
        finally:
            self._outlet.leave()

    def abort(self, reason: str) -> None:
        """End at once."""
        if not self._gone:
            self._finish(reason)
            if self._transport is not None:
                self._transport.abort()

    def flush(self) -> None:
        """Write what there is, if the transport takes it."""
        if self._gone or self._transport is None:
            return
        if self._idle:
            data = self.connection.take_output()
            if data:
                self._transport.write(data)
        if self._end is not None:
            self._end.drained()

    # -- inside -------------------------------------------------------------------------------------------

    def _has_output(self, connection: Connection) -> None:
        self._outlet.note(self)

    def _tell(self, told: list[Told]) -> None:
        end = self._end
        assert end is not None
        try:
            for item in told:
                if isinstance(item, Frame):
                    end.frame(item)
                else:
                    end.event(item)
                    if isinstance(item, Closed):
                        self._part(item.reason)
        except ProtocolError as error:
            self.abort(str(error))
        except Exception:
            log.exception("a frame could not be worked on; its connection is closed")
            self.abort("internal error")

    def _part(self, reason: str) -> None:
        """The connection machine is done: write what is left and close."""
        transport = self._transport
        if not self._idle or transport is None:
            self.abort(reason)
            return
        self.flush()
        self._finish(reason)
        transport.close()

    def _finish(self, reason: str) -> None:
        if self._gone:
            return
        self._gone = True
        self._reason = reason
        self._alarms.cancel(self)
        self._outlet.enter()
        try:
            if self._end is not None:
                self._end.gone(reason)
            self.connection.lost()
        finally:
            self._outlet.leave()

    def _set_alarm(self, connection: Connection) -> None:
        due = connection.due
        if not self._idle:
            due = min(due, self._blocked_since + self._write_stall_seconds)
        if due != NEVER and not self._gone and not (self.tick and self._armed_for <= due):
            self._armed_for = due
            self._alarms.schedule(self, due)

    def fire(self, now: float) -> None:
        """Something is due on this connection."""
        self._outlet.enter()
        try:
            if not self._idle and self._blocked_since + self._write_stall_seconds <= now:
                self.abort("timeout: the peer does not take what is sent to it")
            elif self.connection.state is not State.CLOSED:
                if self.connection.due <= now:
                    self._tell(self.connection.advance(now))
                self._set_alarm(self.connection)
        finally:
            self._outlet.leave()
