"""Raw bytes of streams, from end to end; and what tells how far they have come."""

from frontier_tx.switch.budget import Budget
from frontier_tx.switch.doors import Doors
from frontier_tx.switch.legs import Leg
from frontier_tx.switch.pace import MOST
from frontier_tx.switch.pressure import Pressure
from frontier_tx.switch.raw import count, question, when_taken
from frontier_tx.switch.settings import Counters
from frontier_tx.timers import Timers
from frontier_tx.wire.body import decode_register
from frontier_tx.wire.frame import SESSION_HEADER, STREAM, VERSION, Frame
from frontier_tx.wire.ids import DEFAULT_SESSION


class StreamFrames:
    """Passes blocks of streams on."""

    def __init__(self, budget: Budget, doors: Doors, counters: Counters, pressure: Pressure, timers: Timers) -> None:
        self._budget = budget
        self._doors = doors
        self._counters = counters
        self._pressure = pressure
        self._timers = timers

    def got_stream(self, leg: Leg, frame: Frame) -> None:
        """Take raw bytes: at once to the other end, or to what waits for it."""
        end = leg.streams.get(frame.session_id)
        if end is None or end.other is None:
            self._counters.dropped += 1
            return
        body = frame.body
        if not body:
            # It means nothing, and ends of the Go library that do not read it stop at some hundreds.
            return
        other = end.other
        session = other.session
        assert session is not None
        length = len(body)
        self._counters.stream_bytes[leg.is_edge] += length
        end.bytes_in += length
        end.fresh = True
        if not end.heard:
            end.first_sign()
        target = other.leg
        connection = target.connection
        if (
            not other.raw_bytes
            and not target.queued
            and session.held is None
            and connection.outbox_bytes + length <= self._budget.feed
            and (
                other.pace is None or other.pace.sent < MOST or not when_taken(other, length)
                if session.credit is None
                else length <= session.credit
            )
        ):
            connection.write(SESSION_HEADER.pack(VERSION, STREAM, next(connection.ids), length + 8, session.id))
            connection.write(body)
            behind = count(other, length, self._timers)
            if behind:
                connection.write(behind)
            return
        self._doors.send_bytes(leg, other, body)
        if not other.raw_bytes:
            return
        assert end.session is not None
        fits = self._budget.admits(leg if leg.is_edge else target, 0)
        if end.session.allowance is None:
            if other.raw_bytes > self._pressure.high or not fits:
                self._pressure.stop(leg, other)
        elif not fits:
            # It has no more under way than it may; all together are too much.
            self._pressure.end(other)

    def got_register_ack(self, leg: Leg, frame: Frame) -> None:
        """Nothing was registered here: it says how far a stream has come."""
        decode_register(frame.body)
        if frame.session_id == DEFAULT_SESSION:
            leg.answers = leg.questioned
            return
        end = leg.streams.get(frame.session_id)
        if end is None:
            return
        if not end.heard:
            end.first_sign()
        if end.pace is not None and end.pace.answered(frame.packet_id):
            leg.answers = True
            if end.pace.asks and end.session is not None:
                leg.connection.sessions.write(end.session, question(end, end.pace))
            self._doors.open(end)
