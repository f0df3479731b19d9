"""The exchange: a switch of frames between legs (docs/gateway.md, "Forwarding").

A frame comes in with ``receive`` and leaves as a frame on another leg, decoded only as far as routing needs it.
What waits for an answer is one ``Pending``; there is no task, no Deferred and no queue per call. Time and timers
come from outside.
"""

import time
from collections.abc import Callable, Iterable, Sequence

from frontier_tx.switch.choice import ByEdgeID, IHashPolicy
from frontier_tx.switch.deadlines import Deadlines
from frontier_tx.switch.errors import (
    CallCanceled,
    CallerDeadlineExceeded,
    EdgeNotOnline,
    FarSideClosed,
    FrameTooLarge,
    IllegalEdgeID,
    NoChoice,
    PendingLimit,
    ReceiverCongested,
    RecordNotFound,
    TopicNotOnline,
)
from frontier_tx.switch.leg import Leg
from frontier_tx.switch.pending import Done, Pending
from frontier_tx.switch.pressure import Pressure
from frontier_tx.switch.repository import Repository
from frontier_tx.switch.settings import Counters, Settings
from frontier_tx.switch.streams import StreamEnd
from frontier_tx.switch.sweep import Sweep
from frontier_tx.switch.window import Lane, Window
from frontier_tx.timers import Timers
from frontier_tx.wire import frame as f
from frontier_tx.wire.body import (
    EMPTY_MESSAGE,
    EMPTY_OBJECT,
    MessageData,
    RegisterData,
    decode_message,
    decode_register,
    encode_data,
    encode_message,
    message_json,
)
from frontier_tx.wire.frame import MESSAGE, MESSAGE_ACK, REQUEST, RESPONSE, SESSION_HEADER, VERSION, Frame
from frontier_tx.wire.ids import DEFAULT_SESSION
from frontier_tx.wire.packets import CANCEL_FIXED, CANCELED, DEADLINE_EXCEEDED
from frontier_tx.wire.sessions import Session
from frontier_tx.wire.times import UNSET, format_time

#: Methods that the gateway itself calls at services.
CONTROL_METHODS = frozenset((b"get_edge_id", b"edge_online", b"edge_offline"))
_CANCEL_BODY = {reason: CANCEL_FIXED.pack(reason) for reason in (CANCELED, DEADLINE_EXCEEDED)}


class Exchange:
    """Forwards frames between the legs of a repository."""

    def __init__(
        self,
        repository: Repository,
        timers: Timers,
        settings: Settings | None = None,
        policy: IHashPolicy | None = None,
        wall_clock: Callable[[], float] = time.time,
        on_fault: Callable[[str], None] | None = None,
    ) -> None:
        self.repository = repository
        self.settings = settings or Settings()
        self.counters = Counters()
        self.pending_count = 0
        #: The process's timer.
        self.timers = timers
        self._policy: IHashPolicy = policy or ByEdgeID()
        self._wall_clock = wall_clock
        self._on_fault = on_fault or (lambda what: None)
        self.pressure = Pressure(
            timers, self.counters, self.settings.write_high_bytes, self.settings.write_stall_seconds
        )
        self._deadlines = Deadlines(wall_clock, self.settings.call_seconds)
        self._handlers: dict[int, Callable[[Leg, Frame], None]] = {
            f.REQUEST: self._got_request,
            f.RESPONSE: self._got_response,
            f.MESSAGE: self._got_message,
            f.MESSAGE_ACK: self._got_message_ack,
            f.STREAM: self._got_stream,
            f.REQUEST_CANCEL: self._got_cancel,
            f.REGISTER: self._got_register,
            f.REGISTER_ACK: self._got_register_ack,
        }

    def receive(self, leg: Leg, frame: Frame) -> None:
        """Take an application frame that came in on a leg.

        :raises IllegalPacket: no end would accept its body; the connection that it came on is to be closed.
        """
        self._handlers[frame.type](leg, frame)

    # -- calls and messages: out --------------------------------------------------------------------------

    def _got_request(self, leg: Leg, frame: Frame) -> None:
        self.counters.calls += 1
        data, _ = decode_message(frame.body)
        self._forward(leg, frame, data, REQUEST)

    def _got_message(self, leg: Leg, frame: Frame) -> None:
        self.counters.messages += 1
        data, _ = decode_message(frame.body)
        self._forward(leg, frame, data, MESSAGE)

    def _forward(self, leg: Leg, frame: Frame, data: MessageData, kind: int) -> None:
        """Send a Request or a Message on to where it belongs, or answer why not."""
        end: StreamEnd | None = None
        if frame.session_id != DEFAULT_SESSION:
            end = leg.streams.get(frame.session_id)
            if end is None or end.other is None:
                self.counters.dropped += 1
                return
            target, session = end.other.leg, end.other.session
            assert session is not None
            target_session = session.id
            way: Leg | StreamEnd = end.other
        else:
            session = None
            target_session = DEFAULT_SESSION
            found = self._route_edge(leg, data, kind) if leg.is_edge else self._route_service(data)
            if isinstance(found, str):
                self._answer(leg, frame, kind, data.key, found)
                return
            way = target = found
        refused = self._admit(leg, target, kind)
        if refused:
            self._answer(leg, frame, kind, data.key, refused)
            return
        timers = self.timers
        now = timers.now()
        settings = self.settings
        due = now + settings.call_seconds
        by_caller = False
        if data.deadline != UNSET or data.context.deadline != UNSET:
            left = self._deadlines.fold(data)
            # A message's sender looks after its own time: an answer of the gateway would only race with it, and one
            # whose clock is slow could publish nothing.
            if kind == REQUEST:
                if left <= 0:
                    self._answer(leg, frame, kind, data.key, CallerDeadlineExceeded.text)
                    return
                by_caller = left < settings.call_seconds
                due = min(due, now + left)
        data.deadline = self._deadlines.own(now)
        body = encode_message(data)
        connection = target.connection
        if len(body) + 8 > connection.peer_frame_bytes:
            self._answer(leg, frame, kind, data.key, FrameTooLarge.text)
            return
        packet_id = next(connection.ids)
        pending = Pending(
            kind == REQUEST,
            target,
            packet_id,
            target_session,
            leg,
            frame.packet_id,
            frame.session_id,
            data.key,
            self._overdue,
        )
        if by_caller:
            pending.overdue_text = CallerDeadlineExceeded.text
        if end is not None:
            pending.stream = end.pending
            end.pending.add(pending)
        self._enter(pending)
        timers.schedule(pending, due)
        out = SESSION_HEADER.pack(VERSION, kind, packet_id, len(body) + 8, target_session) + body
        if kind == MESSAGE:
            lane = way.lane
            if lane is None:
                lane = way.lane = self._new_lane(target, session)
            if not lane.enter(pending, out):
                return
        if session is None:
            connection.write(out)
        else:
            connection.sessions.write(session, out)

    def _new_lane(self, target: Leg, session: Session | None) -> Lane:
        if target.window is None:
            size = self.settings.edge_window if target.is_edge else self.settings.service_window
            target.window = Window(target, size, self.timers)
        return Lane(target.window, session)

    def _route_service(self, data: MessageData) -> Leg | str:
        """A service names the edge in the last eight bytes of ``custom``."""
        custom = data.custom
        if len(custom) < 8:
            return IllegalEdgeID.text
        edge = self.repository.edges.get(int.from_bytes(custom[-8:]))
        if edge is None or edge.deaf:
            return EdgeNotOnline.text
        data.custom = custom[:-8]
        return edge

    def _route_edge(self, leg: Leg, data: MessageData, kind: int) -> Leg | str:
        """An edge names a method or a topic; services are told the edge's id behind ``custom``."""
        if kind == REQUEST:
            if data.key in CONTROL_METHODS and not self.settings.edges_call_control_methods:
                return RecordNotFound.text
            candidates = self.repository.services_of_method(data.key)
            nobody = RecordNotFound.text
        else:
            candidates = self.repository.services_of_topic(data.topic)
            nobody = TopicNotOnline.text
        if not candidates:
            return nobody
        data.custom += leg.tail
        return candidates[0] if len(candidates) == 1 else self.choose(candidates, leg) or NoChoice.text

    def choose(self, candidates: Sequence[Leg], edge: Leg) -> Leg | None:
        """Choose one of several services for an edge; None where the policy that was plugged in fails."""
        try:
            chosen: Leg = self._policy.choose(candidates, edge)
            if chosen in candidates:
                return chosen
            raise ValueError(f"{chosen!r} is none of the candidates")
        except Exception:
            self._on_fault(f"{self._policy!r} chose no service")
            return None

    def _admit(self, leg: Leg, target: Leg, kind: int) -> str:
        """Return why nothing more may be sent, or nothing."""
        if len(leg.asked) >= self.settings.pending_per_connection:
            return PendingLimit.text
        waiting = target.link.unsent
        if kind == MESSAGE:
            # Calls go past the messages that wait.
            waiting += target.waiting_bytes
        if waiting > self.settings.write_buffer_bytes:
            return ReceiverCongested.text
        return ""

    def call_service(self, leg: Leg, method: bytes, value: bytes, seconds: float, done: Done) -> Pending | None:
        """Call a control function at a service; ``done`` is told the value and the error text, once.

        :param seconds: the deadline that the service is told. The answer is waited for as long as any other.
        :return: None where the service takes nothing.
        """
        if leg.link.unsent > self.settings.write_buffer_bytes:
            done(b"", ReceiverCongested.text)
            return None
        packet_id = next(leg.connection.ids)
        pending = Pending(True, leg, packet_id, DEFAULT_SESSION, None, 0, DEFAULT_SESSION, method, self._overdue)
        pending.done = done
        self._enter(pending)
        self.timers.schedule(pending, self.timers.now() + self.settings.call_seconds)
        deadline = format_time(self._wall_clock() + seconds)
        body = message_json(key=method, value=value, deadline=deadline)
        leg.connection.write(f.pack_of_session(REQUEST, packet_id, DEFAULT_SESSION, body))
        return pending

    # -- calls and messages: back -------------------------------------------------------------------------

    def _got_response(self, leg: Leg, frame: Frame) -> None:
        self._got_answer(leg, frame, True)

    def _got_message_ack(self, leg: Leg, frame: Frame) -> None:
        self._got_answer(leg, frame, False)

    def _got_answer(self, leg: Leg, frame: Frame, request: bool) -> None:
        pending = leg.pending.get(frame.packet_id)
        if pending is None or pending.target_session != frame.session_id or pending.request is not request:
            self.counters.dropped += 1
            decode_message(frame.body)
            return
        text = frame.body
        if text != EMPTY_MESSAGE:
            data, text = decode_message(text)
            if pending.done is not None:
                self.settle(pending)
                pending.done(b"" if data.error else data.payload, data.error)
                return
            if data.custom or (data.error and data.value):
                data.custom = b""
                data.value = b"" if data.error else data.value
                text = encode_message(data)
        self.counters.answers += 1
        self.settle(pending)
        if pending.done is not None:
            pending.done(b"", "")
            return
        source = pending.source
        if source is None:
            return
        if len(text) + 8 > source.connection.peer_frame_bytes:
            text = message_json(key=pending.method, error=FrameTooLarge.text)
        self._reply(source, pending, text)

    def _reply(self, source: Leg, pending: Pending, text: bytes) -> None:
        if not source.online:
            return
        kind = RESPONSE if pending.request else MESSAGE_ACK
        source_session = pending.source_session
        header = SESSION_HEADER.pack(VERSION, kind, pending.source_packet, len(text) + 8, source_session)
        if source_session == DEFAULT_SESSION:
            source.connection.write(header + text)
        else:
            session = source.connection.sessions.live.get(source_session)
            if session is None:
                return
            source.connection.sessions.write(session, header + text)
        if source.link.unsent > self.settings.write_buffer_bytes:
            source.link.abort("it does not take its answers")

    def _answer(self, leg: Leg, frame: Frame, kind: int, method: bytes, error: str) -> None:
        """Answer a Request or Message that goes nowhere."""
        self.counters.local_answers += 1
        answer = RESPONSE if kind == REQUEST else MESSAGE_ACK
        text = message_json(key=method if kind == REQUEST else b"", error=error)
        leg.connection.write(f.pack_of_session(answer, frame.packet_id, frame.session_id, text))

    def fail(self, pending: Pending, error: str) -> None:
        """End what is pending with an error of the gateway's own."""
        self.settle(pending)
        self.counters.local_answers += 1
        if pending.done is not None:
            pending.done(b"", error)
        elif pending.source is not None:
            key = pending.method if pending.request else b""
            self._reply(pending.source, pending, message_json(key=key, error=error))

    def _overdue(self, pending: Pending) -> None:
        self.counters.overdue += 1
        if pending.request:
            self.withdraw(pending, DEADLINE_EXCEEDED)
        self.fail(pending, pending.overdue_text)

    def _got_cancel(self, leg: Leg, frame: Frame) -> None:
        pending = leg.asked.get(frame.packet_id)
        if pending is None or not pending.request or pending.source_session != frame.session_id:
            return
        self.withdraw(pending, CANCELED)
        self.fail(pending, CallCanceled.text)

    def withdraw(self, pending: Pending, reason: int) -> None:
        """Tell the far side that nobody waits for its answer any more."""
        connection = pending.target.connection
        session = connection.sessions.live.get(pending.target_session)
        if session is not None and connection.connected:
            body = _CANCEL_BODY[reason]
            # Behind the Request itself, which may still be held back there.
            connection.sessions.write(
                session, f.pack_of_session(f.REQUEST_CANCEL, pending.target_packet, session.id, body)
            )

    def _enter(self, pending: Pending) -> None:
        self.pending_count += 1
        pending.target.pending[pending.target_packet] = pending
        source = pending.source
        if source is not None:
            older = source.asked.get(pending.key)
            if older is not None:
                # Both will be answered; a cancel reaches the newer one.
                older.key = -next(source.connection.ids)
                source.asked[older.key] = older
            source.asked[pending.key] = pending

    def settle(self, pending: Pending) -> None:
        """Take what is answered, or given up, out of every table."""
        self.pending_count -= 1
        self.timers.cancel(pending)
        del pending.target.pending[pending.target_packet]
        if pending.source is not None:
            del pending.source.asked[pending.key]
        if pending.stream is not None:
            pending.stream.discard(pending)
        if pending.lane is not None:
            pending.lane.leave(pending)

    def disown(self, pending: Pending, error: str = "") -> None:
        """The sender of a message has gone, or is told an error now: it goes its way without anybody to answer."""
        source = pending.source
        assert source is not None
        del source.asked[pending.key]
        pending.source = None
        if error:
            self.counters.local_answers += 1
            self._reply(source, pending, message_json(error=error))

    def _got_register_ack(self, leg: Leg, frame: Frame) -> None:
        """Nothing was registered here."""
        decode_register(frame.body)

    # -- methods ------------------------------------------------------------------------------------------

    def _got_register(self, leg: Leg, frame: Frame) -> None:
        """Record a method, then acknowledge it; on a stream it goes nowhere."""
        error = ""
        if frame.session_id == DEFAULT_SESSION:
            method = bytes(frame.body)
            if len(method) > self.settings.method_bytes:
                error = "method name too long"
            elif (method not in leg.methods and len(leg.methods) >= self.settings.methods_per_connection) or (
                not self.repository.register(leg, method, self._wall_clock())
            ):
                error = "too many methods"
        body = encode_data(RegisterData(error)) if error else EMPTY_OBJECT
        leg.connection.write(f.pack_of_session(f.REGISTER_ACK, frame.packet_id, frame.session_id, body))

    # -- streams ------------------------------------------------------------------------------------------

    def _got_stream(self, leg: Leg, frame: Frame) -> None:
        end = leg.streams.get(frame.session_id)
        if end is None or end.other is None:
            self.counters.dropped += 1
            return
        other = end.other
        session = other.session
        assert session is not None
        body = frame.body
        self.counters.stream_bytes += len(body)
        connection = other.leg.connection
        header = SESSION_HEADER.pack(VERSION, f.STREAM, next(connection.ids), len(body) + 8, session.id)
        if session.held is None:
            connection.write(header)
            connection.write(body)
            waiting = other.leg.link.unsent
        else:
            connection.sessions.write(session, header + body)
            waiting = session.held_bytes
        if waiting > self.pressure.high:
            self.pressure.stop(leg, other.leg)

    # -- legs going ---------------------------------------------------------------------------------------

    def deafen(self, leg: Leg) -> None:
        """The peer gave up session 1: nothing new is sent to it, and what it owes will not come."""
        leg.deaf = True
        if leg.lane is not None:
            leg.lane.shut()
        self._force_close(p for p in leg.pending.values() if p.target_session == DEFAULT_SESSION)

    def forget(self, leg: Leg) -> None:
        """The leg is gone: end everything that hangs on it, on the other legs too."""
        leg.deaf = True
        self.repository.remove(leg)
        if leg.lane is not None:
            leg.lane.shut()
        Sweep(self.timers, leg.asked.values(), self._abandon)
        self._force_close(leg.pending.values())
        self.pressure.forget(leg)

    def _abandon(self, pending: Pending) -> None:
        if pending.request:
            self.withdraw(pending, CANCELED)
            self.settle(pending)
        elif pending.source is not None:
            # What it published is on its way, sent or not.
            self.disown(pending)

    def _force_close(self, pendings: Iterable[Pending]) -> None:
        Sweep(self.timers, pendings, lambda pending: self.fail(pending, FarSideClosed.text))
