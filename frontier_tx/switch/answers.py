"""Answers on their way back to who asked."""

from bisect import bisect_left

from frontier_tx.errors import PayloadTooLarge, ReceiverCongested
from frontier_tx.runtime.histogram import BOUNDS
from frontier_tx.switch.budget import SMALL_ANSWER, Budget
from frontier_tx.switch.doors import Doors
from frontier_tx.switch.in_flight import InFlight
from frontier_tx.switch.legs import Leg, Pending
from frontier_tx.switch.settings import Counters
from frontier_tx.timers import Timers
from frontier_tx.wire import frame as f
from frontier_tx.wire.body import EMPTY_MESSAGE, encode_message, message_json, read_message
from frontier_tx.wire.frame import MESSAGE_ACK, RESPONSE, SESSION_HEADER, VERSION, Frame
from frontier_tx.wire.ids import DEFAULT_SESSION


class Answers:
    """Takes each answer to who asked."""

    def __init__(self, budget: Budget, doors: Doors, counters: Counters, in_flight: InFlight, timers: Timers) -> None:
        self._budget = budget
        self._doors = doors
        self._counters = counters
        self._in_flight = in_flight
        self._now = timers.now

    def got_answer(self, leg: Leg, frame: Frame) -> None:
        """Take a Response or a MessageAck.

        :raises IllegalPacket: no end would accept its body.
        """
        kind = frame.type
        pending = leg.pending.get(frame.packet_id)
        if pending is None or pending.target_session != frame.session_id or pending.request is not (kind == RESPONSE):
            self._counters.dropped += 1
            read_message(frame.body)
            return
        text = frame.body
        data = read_message(text) if text != EMPTY_MESSAGE else None
        source = pending.source
        if source is not None:
            tally = self._counters.tallies[pending.request][source.is_edge]
            # ``Tally.note`` without the call.
            took = self._now() - pending.since
            tally.classes[bisect_left(BOUNDS, took)] += 1
            tally.seconds += took
            if data is not None and data.error:
                tally.refused(data.error)
        if data is not None:
            if pending.done is not None:
                self._in_flight.settle(pending)
                pending.answered = True
                pending.done(b"" if data.error else data.payload, data.error)
                return
            data.custom = b""
            if data.error:
                data.value = b""
            text = encode_message(data)
        if pending.end is not None and not pending.end.heard:
            pending.end.first_sign()
        self._in_flight.settle(pending)
        if pending.done is not None:
            pending.answered = True
            pending.done(b"", "")
            return
        if source is None or not source.online:
            return
        connection = source.connection
        size = len(text) + 8
        if size > connection.peer_frame_bytes:
            # Not an error: these are shorter than any end's limit (body.BESIDE_VALUE).
            tally.undeliverable()
            text = message_json(key=pending.method, error=PayloadTooLarge.text)
            size = len(text) + 8
        out = SESSION_HEADER.pack(VERSION, kind, pending.source_packet, size, pending.source_session) + text
        straight = not source.queued and connection.outbox_bytes + size <= self._budget.feed
        if straight and pending.source_session == DEFAULT_SESSION:
            connection.write(out)
        else:
            self._deliver(leg, source, pending, out, straight, data is None or not data.error)

    def _deliver(self, leg: Leg, source: Leg, pending: Pending, out: bytes, straight: bool, fine: bool) -> None:
        """Pass an answer of ``leg`` on to who asked, on a stream or behind others.

        :param fine: it is no error.
        """
        session_id = pending.source_session
        # What is pending on a stream ends with the stream.
        end = source.streams[session_id] if session_id != DEFAULT_SESSION else None
        size = len(out)
        # The place of the call that is answered has room for a small answer.
        refused = not straight and size > SMALL_ANSWER and self._doors.refuses(leg, source, size)
        if refused and not leg.is_edge:
            # A service is not stopped for what one edge does not take.
            if fine:
                self._counters.tallies[pending.request][source.is_edge].undeliverable()
            text = message_json(key=pending.method if pending.request else b"", error=ReceiverCongested.text)
            kind = RESPONSE if pending.request else MESSAGE_ACK
            out = f.pack_of_session(kind, pending.source_packet, session_id, text)
        self._doors.send(leg, source, end, out)
        if refused and leg.is_edge:
            self._doors.stop(leg, source)
