"""The exchange: a switch of frames between legs (docs/gateway.md, "Forwarding").

A frame comes in with ``receive`` and leaves as a frame on another leg, decoded only as far as routing needs it.
What waits for an answer is one ``Pending``; there is no task, no Deferred and no queue per call. Time and timers
come from outside.
"""

import time
from collections.abc import Callable, Iterable, Sequence

from frontier_tx.errors import (
    Canceled,
    DeadlineExceeded,
    ForceClosed,
    MethodTooLong,
    PayloadTooLarge,
    ReceiverCongested,
    TooManyMethods,
    TooManyPending,
)
from frontier_tx.switch.budget import FEED, PENDING_BYTES, SMALL_ANSWER, Budget
from frontier_tx.switch.choice import IHashPolicy
from frontier_tx.switch.deadlines import Deadlines
from frontier_tx.switch.doors import Doors
from frontier_tx.switch.legs import Done, Leg, Pending, StreamEnd, Window
from frontier_tx.switch.pace import MOST
from frontier_tx.switch.partial import PartialFrames
from frontier_tx.switch.pressure import Pressure
from frontier_tx.switch.raw import count, question, when_taken
from frontier_tx.switch.repository import Repository
from frontier_tx.switch.routing import Router
from frontier_tx.switch.settings import Counters, Settings
from frontier_tx.switch.sweep import Sweep
from frontier_tx.switch.window import CallWindow, MessageWindow
from frontier_tx.timers import Timers
from frontier_tx.wire import frame as f
from frontier_tx.wire.body import (
    EMPTY_MESSAGE,
    EMPTY_OBJECT,
    UNFIT,
    MessageData,
    RegisterData,
    decode_register,
    encode_data,
    encode_message,
    message_json,
    read_message,
)
from frontier_tx.wire.frame import (
    DEFAULT_BODY_LIMIT,
    MESSAGE,
    MESSAGE_ACK,
    REQUEST,
    RESPONSE,
    SESSION_HEADER,
    VERSION,
    Frame,
)
from frontier_tx.wire.ids import DEFAULT_SESSION
from frontier_tx.wire.packets import CANCEL_FIXED, CANCELED, DEADLINE_EXCEEDED
from frontier_tx.wire.times import UNSET, format_time

#: Methods up to this length are repeated in the gateway's own answers; a longer one is not kept.
REPEATED_METHOD = 128
#: How far the window of messages of an end that did not declare itself is doubled, and of one that did.
STRANGER_MOST, OWN_MOST = 256, 65_536
CALLS_MOST = 1_000_000
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
        #: What the process keeps.
        self.budget = Budget(self.settings.memory_bytes, self._feed_bytes())
        #: The process's timer.
        self.timers = timers
        #: Where a gateway has queues: takes a Message of an edge for them, or returns that it is for none.
        self.to_queues: Callable[[Leg, Frame, MessageData], bool] | None = None
        self.router = Router(repository, self.settings, policy, on_fault)
        self._wall_clock = wall_clock
        self.pressure = Pressure(
            timers, self.counters, self.settings.write_high_bytes, self.settings.write_stall_seconds
        )
        self.partial_frames = PartialFrames(self.budget, timers, self.settings.partial_seconds)
        self.doors = Doors(self.budget, self.settings, self.counters, self.pressure, timers)
        self.pressure.look_again = self.doors.open
        self._deadlines = Deadlines(wall_clock, self.settings.call_seconds)
        #: What takes the frames of each type that applications speak, as ``receive`` does.
        self.handlers: dict[int, Callable[[Leg, Frame], None]] = {
            f.REQUEST: self._got_request,
            f.RESPONSE: self._got_answer,
            f.MESSAGE: self._got_message,
            f.MESSAGE_ACK: self._got_answer,
            f.STREAM: self._got_stream,
            f.REQUEST_CANCEL: self._got_cancel,
            f.REGISTER: self._got_register,
            f.REGISTER_ACK: self._got_register_ack,
        }

    def _feed_bytes(self) -> int:
        """What a connection is given at once: little beside what may wait for it."""
        settings = self.settings
        return max(1, min(FEED, settings.write_high_bytes // 8, settings.write_buffer_bytes // 8))

    @property
    def pending_count(self) -> int:
        """How many calls and messages wait for their answers."""
        return self.budget.pendings

    def receive(self, leg: Leg, frame: Frame) -> None:
        """Take an application frame that came in on a leg.

        :raises IllegalPacket: no end would accept its body; the connection that it came on is to be closed.
        """
        self.handlers[frame.type](leg, frame)

    # -- calls and messages: out --------------------------------------------------------------------------

    def _got_request(self, leg: Leg, frame: Frame) -> None:
        self.counters.calls += 1
        self._forward(leg, frame, read_message(frame.body), REQUEST)

    def _got_message(self, leg: Leg, frame: Frame) -> None:
        self.counters.messages += 1
        data = read_message(frame.body)
        if self.to_queues is None or data.error is UNFIT or not self.to_queues(leg, frame, data):
            self._forward(leg, frame, data, MESSAGE)

    def publish(self, leg: Leg, frame: Frame, data: MessageData, service: Leg, done: Done | None = None) -> None:
        """Send a Message of an edge to a service that takes its topic.

        :param done: told what came of it, in place of the edge.
        """
        data.custom += leg.id_suffix
        self._forward(leg, frame, data, MESSAGE, service, done)

    def acknowledge(self, leg: Leg, frame: Frame, error: str = "") -> None:
        """Answer a Message that went elsewhere than to a service."""
        if leg.online and leg.connection.connected:
            self._answer(leg, frame, MESSAGE, b"", error)

    def _forward(
        self,
        leg: Leg,
        frame: Frame,
        data: MessageData,
        kind: int,
        receiver: Leg | None = None,
        done: Done | None = None,
    ) -> None:
        """Send a Request or a Message on to where it belongs, or answer why not."""
        if data.error is UNFIT:
            self._answer(leg, frame, kind, b"", UNFIT)
            return
        far: StreamEnd | None = None
        if frame.session_id != DEFAULT_SESSION:
            end = leg.streams.get(frame.session_id)
            if end is None or end.other is None:
                self.counters.dropped += 1
                return
            if not end.heard:
                self._heard(end)
            far = end.other
            assert far.session is not None
            target = far.leg
            target_session = far.session.id
        else:
            target_session = DEFAULT_SESSION
            found = receiver or self._route(leg, data, kind)
            if isinstance(found, str):
                self._refuse(leg, frame, kind, data.key, found, done)
                return
            target = found
        settings = self.settings
        if len(leg.outgoing) >= settings.pending_per_connection:
            self._refuse(leg, frame, kind, data.key, TooManyPending.text, done)
            return
        if len(data.key) > settings.method_bytes:
            self._refuse(leg, frame, kind, b"", MethodTooLong.text, done)
            return
        now = leg.spoke_at = self.timers.now()
        due = now + settings.call_seconds
        by_caller = False
        if data.deadline != UNSET or data.context.deadline != UNSET:
            left = self._deadlines.fold(data)
            # A message's sender looks after its own time: an answer of the gateway would only race with it, and one
            # whose clock is slow could publish nothing.
            if kind == REQUEST:
                if left <= 0:
                    self._refuse(leg, frame, kind, data.key, DeadlineExceeded.text, done)
                    return
                by_caller = left < settings.call_seconds
                due = min(due, now + left)
        data.deadline = self._deadlines.own(now)
        body = encode_message(data)
        size = len(body) + 8
        connection = target.connection
        if size > connection.peer_frame_bytes:
            self._refuse(leg, frame, kind, data.key, PayloadTooLarge.text, done)
            return
        window = target.call_window if kind == REQUEST else target.message_window
        if window is None:
            window = self._new_window(target, kind)
        waits = window.out >= window.room and not window.grants(leg, far)
        if far is not None and (far.full if kind == MESSAGE else far.mute):
            waits = True
        straight = not target.queued and connection.outbox_bytes + size <= self.budget.feed
        if (waits or not straight) and self.doors.refuses(leg, target, size, PENDING_BYTES):
            self._refuse(leg, frame, kind, data.key, ReceiverCongested.text, done)
            return
        packet_id = next(connection.ids)
        pending = Pending(
            kind == REQUEST,
            target,
            packet_id,
            target_session,
            leg,
            leg,
            frame.packet_id,
            frame.session_id,
            data.key if len(data.key) <= REPEATED_METHOD else b"",
            self._overdue,
        )
        if by_caller:
            pending.overdue_text = DeadlineExceeded.text
        pending.done = done
        self._enter(pending)
        self.timers.schedule(pending, due)
        pending.window = window
        out = SESSION_HEADER.pack(VERSION, kind, packet_id, size, target_session) + body
        if far is not None:
            pending.end = far
            far.pending.add(pending)
        if waits:
            window.wait(pending, leg, far, out)
            return
        window.out += 1
        if far is None:
            if straight:
                connection.write(out)
                return
        elif kind == MESSAGE:
            window.stream_out += 1
            far.out += 1
        self.doors.send(leg, target, far, out)

    def _route(self, leg: Leg, data: MessageData, kind: int) -> Leg | str:
        if not leg.is_edge:
            return self.router.edge(data)
        if kind == REQUEST:
            return self.router.service_of_method(leg, data)
        return self.router.service_of_topic(leg, data)

    def _new_window(self, target: Leg, kind: int) -> Window:
        settings = self.settings
        made: Window
        if kind == REQUEST:
            size = settings.edge_calls if target.is_edge else settings.service_calls
            made = target.call_window = CallWindow(target, size, CALLS_MOST, self.doors, self.timers)
        else:
            size = settings.edge_window if target.is_edge else settings.service_window
            declared = target.connection.peer_frame_bytes > DEFAULT_BODY_LIMIT
            most = OWN_MOST if declared else STRANGER_MOST
            made = target.message_window = MessageWindow(target, size, most, self.doors, self.timers)
        return made

    def choose(self, candidates: Sequence[Leg], edge: Leg) -> Leg | None:
        """Choose one of several services for an edge; None where the policy that was plugged in fails."""
        return self.router.choose(candidates, edge)

    def call_service(
        self,
        leg: Leg,
        method: bytes,
        value: bytes,
        seconds: float,
        done: Done,
        sender: Leg | None = None,
        urgent: bool = False,
    ) -> Pending | None:
        """Call a control function at a service; ``done`` is told the value and the error text, once.

        :param seconds: the deadline that the service is told. The answer is waited for as long as any other.
        :param sender: the edge because of which it is called.
        :param urgent: it is called however much waits already.
        :return: None where the service takes nothing more because of this edge.
        """
        sender = sender or leg
        deadline = format_time(self._wall_clock() + seconds)
        body = message_json(key=method, value=value, deadline=deadline)
        connection = leg.connection
        error = ""
        if len(body) + 8 > connection.peer_frame_bytes:
            error = PayloadTooLarge.text
        elif not urgent and self.doors.refuses(sender, leg, len(body), PENDING_BYTES):
            error = ReceiverCongested.text
        if error:
            done(b"", error)
            return None
        packet_id = next(connection.ids)
        pending = Pending(
            True, leg, packet_id, DEFAULT_SESSION, sender, None, 0, DEFAULT_SESSION, method, self._overdue
        )
        pending.done = done
        self._enter(pending)
        self.timers.schedule(pending, self.timers.now() + self.settings.call_seconds)
        pending.window = leg.call_window or self._new_window(leg, REQUEST)
        # There are few for each edge: they wait for nobody's calls.
        pending.window.out += 1
        self.doors.send(sender, leg, None, f.pack_of_session(REQUEST, packet_id, DEFAULT_SESSION, body))
        return pending

    # -- calls and messages: back -------------------------------------------------------------------------

    def _got_answer(self, leg: Leg, frame: Frame) -> None:
        kind = frame.type
        pending = leg.pending.get(frame.packet_id)
        if pending is None or pending.target_session != frame.session_id or pending.request is not (kind == RESPONSE):
            self.counters.dropped += 1
            read_message(frame.body)
            return
        text = frame.body
        if text != EMPTY_MESSAGE:
            data = read_message(text)
            if pending.done is not None:
                self.settle(pending)
                pending.done(b"" if data.error else data.payload, data.error)
                return
            data.custom = b""
            if data.error:
                data.value = b""
            text = encode_message(data)
        self.counters.answers += 1
        if pending.end is not None and not pending.end.heard:
            self._heard(pending.end)
        self.settle(pending)
        if pending.done is not None:
            pending.done(b"", "")
            return
        source = pending.source
        if source is None or not source.online:
            return
        connection = source.connection
        size = len(text) + 8
        if size > connection.peer_frame_bytes:
            text = message_json(key=pending.method, error=PayloadTooLarge.text)
            size = len(text) + 8
        out = SESSION_HEADER.pack(VERSION, kind, pending.source_packet, size, pending.source_session) + text
        straight = not source.queued and connection.outbox_bytes + size <= self.budget.feed
        if straight and pending.source_session == DEFAULT_SESSION:
            connection.write(out)
        else:
            self._deliver(leg, source, pending, out, straight)

    def _deliver(self, leg: Leg, source: Leg, pending: Pending, out: bytes, straight: bool) -> None:
        """Pass an answer of ``leg`` on to who asked, on a stream or behind others."""
        session_id = pending.source_session
        end: StreamEnd | None = None
        if session_id != DEFAULT_SESSION:
            end = source.streams.get(session_id)
            if end is None:
                return
        size = len(out)
        # The place of the call that is answered has room for a small answer.
        refused = not straight and size > SMALL_ANSWER and self.doors.refuses(leg, source, size)
        if refused and not leg.is_edge:
            # A service is not stopped for what one edge does not take.
            text = message_json(key=pending.method if pending.request else b"", error=ReceiverCongested.text)
            kind = RESPONSE if pending.request else MESSAGE_ACK
            out = f.pack_of_session(kind, pending.source_packet, session_id, text)
        self.doors.send(leg, source, end, out)
        if refused and leg.is_edge:
            self.doors.stop(leg, source)

    def _reply(self, source: Leg, pending: Pending, text: bytes) -> None:
        """Give an answer of the gateway's own to who asked."""
        if not source.online:
            return
        kind = RESPONSE if pending.request else MESSAGE_ACK
        session = source.connection.sessions.live.get(pending.source_session)
        if session is not None:
            out = f.pack_of_session(kind, pending.source_packet, session.id, text)
            source.connection.sessions.write(session, out)

    def _refuse(self, leg: Leg, frame: Frame, kind: int, method: bytes, error: str, done: Done | None) -> None:
        if done is not None:
            done(b"", error)
        else:
            self._answer(leg, frame, kind, method, error)

    def _answer(self, leg: Leg, frame: Frame, kind: int, method: bytes, error: str) -> None:
        """Answer a Request or Message that goes nowhere."""
        self.counters.local_answers += 1
        answer = RESPONSE if kind == REQUEST else MESSAGE_ACK
        key = method if kind == REQUEST and len(method) <= REPEATED_METHOD else b""
        text = message_json(key=key, error=error)
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
        pending = leg.outgoing.get(frame.packet_id)
        if pending is None or not pending.request or pending.source_session != frame.session_id:
            return
        self.withdraw(pending, CANCELED)
        self.fail(pending, Canceled.text)

    def withdraw(self, pending: Pending, reason: int) -> None:
        """Tell the far side that nobody waits for its answer any more."""
        target, session_id = pending.target, pending.target_session
        if pending.frame is not None or session_id not in target.connection.sessions.live:
            # It was never sent, or nobody is there any more.
            return
        if target.connection.connected:
            out = f.pack_of_session(f.REQUEST_CANCEL, pending.target_packet, session_id, _CANCEL_BODY[reason])
            # Behind the Request itself, which may still wait there.
            self.doors.send(pending.sender, target, pending.end, out)

    def _enter(self, pending: Pending) -> None:
        budget = self.budget
        budget.pendings += 1
        if not budget.pendings & 255:
            budget.refresh()
        pending.target.pending[pending.target_packet] = pending
        source = pending.source
        if source is not None:
            older = source.outgoing.get(pending.key)
            if older is not None:
                # Both will be answered; a cancel reaches the newer one.
                older.key = -next(source.connection.ids)
                source.outgoing[older.key] = older
            source.outgoing[pending.key] = pending

    def settle(self, pending: Pending) -> None:
        """Take what is answered, or given up, out of every table."""
        self.budget.pendings -= 1
        self.timers.cancel(pending)
        del pending.target.pending[pending.target_packet]
        if pending.source is not None:
            del pending.source.outgoing[pending.key]
        if pending.end is not None:
            pending.end.pending.discard(pending)
        window = pending.window
        if window is None:
            return
        if pending.frame is None and pending.end is None and not window.waiting and window.room == window.size:
            window.out -= 1
        else:
            window.leave(pending)

    def disown(self, pending: Pending, error: str = "") -> None:
        """The sender of a message has gone, or is told an error now: it goes its way without anybody to answer."""
        source = pending.source
        assert source is not None
        del source.outgoing[pending.key]
        if pending.queue is not None:
            source.held_back -= 1
        pending.source = None
        if error:
            self.counters.local_answers += 1
            self._reply(source, pending, message_json(error=error))

    def _got_register_ack(self, leg: Leg, frame: Frame) -> None:
        """Nothing was registered here: it says how far a stream has come."""
        decode_register(frame.body)
        if frame.session_id == DEFAULT_SESSION:
            leg.answers = leg.questioned
            return
        end = leg.streams.get(frame.session_id)
        if end is None:
            return
        if not end.heard:
            self._heard(end)
        if end.pace is not None and end.pace.answered(frame.packet_id):
            leg.answers = True
            if end.pace.asks and end.session is not None:
                leg.connection.sessions.write(end.session, question(end, end.pace))
            self.doors.open(end)

    # -- methods ------------------------------------------------------------------------------------------

    def _got_register(self, leg: Leg, frame: Frame) -> None:
        """Record a method, then acknowledge it; on a stream it goes nowhere."""
        error = ""
        if frame.session_id == DEFAULT_SESSION:
            method = bytes(frame.body)
            if len(method) > self.settings.method_bytes:
                error = MethodTooLong.text
            elif (method not in leg.methods and len(leg.methods) >= self.settings.methods_per_connection) or (
                not self.repository.register(leg, method, self._wall_clock())
            ):
                error = TooManyMethods.text
        body = encode_data(RegisterData(error)) if error else EMPTY_OBJECT
        leg.connection.write(f.pack_of_session(f.REGISTER_ACK, frame.packet_id, frame.session_id, body))

    # -- streams ------------------------------------------------------------------------------------------

    def _got_stream(self, leg: Leg, frame: Frame) -> None:
        end = leg.streams.get(frame.session_id)
        if end is None or end.other is None:
            self.counters.dropped += 1
            return
        body = frame.body
        if not body:
            # It means nothing, and ends of the Go library that do not read it stop at some hundreds.
            return
        other = end.other
        session = other.session
        assert session is not None
        length = len(body)
        self.counters.stream_bytes += length
        end.fresh = True
        if not end.heard:
            self._heard(end)
        target = other.leg
        connection = target.connection
        if (
            not other.raw_bytes
            and not target.queued
            and session.held is None
            and connection.outbox_bytes + length <= self.budget.feed
            and (
                other.pace is None or other.pace.sent < MOST or not when_taken(other, length)
                if session.credit is None
                else length <= session.credit
            )
        ):
            connection.write(SESSION_HEADER.pack(VERSION, f.STREAM, next(connection.ids), length + 8, session.id))
            connection.write(body)
            behind = count(other, length, self.timers)
            if behind:
                connection.write(behind)
            return
        self.doors.send_bytes(leg, other, body)
        if not other.raw_bytes:
            return
        assert end.session is not None
        fits = self.budget.admits(leg if leg.is_edge else target, 0)
        if end.session.allowance is None:
            if other.raw_bytes > self.pressure.high or not fits:
                self.pressure.stop(leg, other)
        elif not fits:
            # It has no more under way than it may; all together are too much.
            self.pressure.end(other)

    @staticmethod
    def _heard(end: StreamEnd) -> None:
        """The first sign of somebody at this end of a stream."""
        end.heard = True
        calls, messages = end.parked_calls, end.parked
        end.parked_calls = end.parked = None
        if calls is not None and end.leg.call_window is not None:
            end.leg.call_window.unpark(end, calls)
        if messages is not None and end.leg.message_window is not None:
            end.leg.message_window.unpark(end, messages)

    # -- legs going ---------------------------------------------------------------------------------------

    def half_close(self, leg: Leg) -> None:
        """The peer gave up session 1: nothing new is sent to it, and what it owes will not come."""
        leg.half_closed = True
        self._shut(leg, None)
        self.doors.drop_default(leg)
        self._force_close(p for p in leg.pending.values() if p.target_session == DEFAULT_SESSION)

    def shut(self, end: StreamEnd) -> None:
        """A stream is over at this end: what waits for it there is not sent. Its owner settles what was asked."""
        self._shut(end.leg, end)
        end.on_drained = None
        self.doors.drop(end)

    @staticmethod
    def _shut(leg: Leg, end: StreamEnd | None) -> None:
        for window in (leg.call_window, leg.message_window):
            if window is not None:
                window.shut(end)

    def forget(self, leg: Leg) -> None:
        """The leg is gone: end everything that hangs on it, on the other legs too."""
        leg.half_closed = True
        self.repository.remove(leg)
        for window in (leg.call_window, leg.message_window):
            if window is not None:
                window.close()
        self.doors.forget(leg)
        Sweep(self.timers, leg.outgoing.values(), self._abandon)
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
        Sweep(self.timers, pendings, lambda pending: self.fail(pending, ForceClosed.text))
