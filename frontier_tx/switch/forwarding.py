"""Calls and messages on their way to who is to answer them (docs/gateway.md, "Forwarding")."""

from collections.abc import Callable

from frontier_tx.errors import (
    DeadlineExceeded,
    MethodTooLong,
    PayloadTooLarge,
    ReceiverCongested,
    TooManyPending,
)
from frontier_tx.switch.budget import PENDING_BYTES
from frontier_tx.switch.deadlines import Deadlines
from frontier_tx.switch.doors import Doors
from frontier_tx.switch.in_flight import InFlight
from frontier_tx.switch.legs import Done, Leg, Pending, StreamEnd, Window
from frontier_tx.switch.routing import Router
from frontier_tx.switch.settings import Counters, Settings
from frontier_tx.switch.window import CallWindow, MessageWindow
from frontier_tx.timers import Timers
from frontier_tx.wire import frame as f
from frontier_tx.wire.body import (
    UNFIT,
    MessageData,
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
from frontier_tx.wire.times import UNSET, format_time

#: Methods up to this length are repeated in the gateway's own answers; a longer one is not kept.
REPEATED_METHOD = 128
#: How far the window of messages of an end that did not declare itself is doubled, and of one that did.
STRANGER_MOST, OWN_MOST = 256, 65_536
CALLS_MOST = 1_000_000


class Forwarding:
    """Sends Requests and Messages on.

    :param wall_clock: Unix seconds.
    """

    def __init__(
        self,
        router: Router,
        in_flight: InFlight,
        doors: Doors,
        settings: Settings,
        counters: Counters,
        timers: Timers,
        wall_clock: Callable[[], float],
    ) -> None:
        #: Where a gateway has queues: takes a Message of an edge for them, or returns that it is for none. A fourth
        #: argument is told what came of it, in place of the edge.
        self.to_queues: Callable[..., bool] | None = None
        self._router = router
        self._in_flight = in_flight
        self._overdue = in_flight.overdue
        self._doors = doors
        self._budget = doors.budget
        self._settings = settings
        self._counters = counters
        self._timers = timers
        self._wall_clock = wall_clock
        self._deadlines = Deadlines(wall_clock, settings.call_seconds)

    def got_request(self, leg: Leg, frame: Frame) -> None:
        """Take a Request.

        :raises IllegalPacket: no end would accept its body.
        """
        self.forward(leg, frame, read_message(frame.body), REQUEST)

    def got_message(self, leg: Leg, frame: Frame) -> None:
        """Take a Message.

        :raises IllegalPacket: no end would accept its body.
        """
        data = read_message(frame.body)
        if self.to_queues is None or data.error is UNFIT or not self.to_queues(leg, frame, data):
            self.forward(leg, frame, data, MESSAGE)

    def publish(self, leg: Leg, frame: Frame, data: MessageData, service: Leg, done: Done | None = None) -> None:
        """Send a Message of an edge to a service that takes its topic.

        :param done: told what came of it, in place of the edge.
        """
        data.custom += leg.id_suffix
        self.forward(leg, frame, data, MESSAGE, service, done)

    def acknowledge(self, leg: Leg, frame: Frame, error: str = "") -> None:
        """Answer a Message that went elsewhere than to a service."""
        self._counters.to_queues.settled(error)
        if leg.online and leg.connection.connected:
            self._answer(leg, frame, MESSAGE, b"", error)

    def forward(
        self,
        leg: Leg,
        frame: Frame,
        data: MessageData,
        kind: int,
        receiver: Leg | None = None,
        done: Done | None = None,
    ) -> None:
        """Send a Request or a Message on to where it belongs, or answer why not.

        :param receiver: where it goes, if that is known already.
        :param done: told what came of it, in place of ``leg``.
        """
        if data.error is UNFIT:
            self._refuse(leg, frame, kind, b"", UNFIT, done)
            return
        far: StreamEnd | None = None
        if frame.session_id != DEFAULT_SESSION:
            end = leg.streams.get(frame.session_id)
            if end is None or end.other is None:
                self._counters.dropped += 1
                return
            if not end.heard:
                end.first_sign()
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
        settings = self._settings
        if len(leg.outgoing) >= settings.pending_per_connection:
            self._refuse(leg, frame, kind, data.key, TooManyPending.text, done)
            return
        if len(data.key) > settings.method_bytes:
            self._refuse(leg, frame, kind, b"", MethodTooLong.text, done)
            return
        now = leg.spoke_at = self._timers.now()
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
        straight = not target.queued and connection.outbox_bytes + size <= self._budget.feed
        if (waits or not straight) and self._doors.refuses(leg, target, size, PENDING_BYTES):
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
            now,
        )
        if by_caller:
            pending.overdue_text = DeadlineExceeded.text
        pending.done = done
        self._in_flight.enter(pending)
        self._timers.schedule(pending, due)
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
        self._doors.send(leg, target, far, out)

    def _route(self, leg: Leg, data: MessageData, kind: int) -> Leg | str:
        if not leg.is_edge:
            return self._router.edge(data)
        if kind == REQUEST:
            return self._router.service_of_method(leg, data)
        return self._router.service_of_topic(leg, data)

    def _new_window(self, target: Leg, kind: int) -> Window:
        settings = self._settings
        made: Window
        if kind == REQUEST:
            size = settings.edge_calls if target.is_edge else settings.service_calls
            made = target.call_window = CallWindow(target, size, CALLS_MOST, self._doors, self._timers)
        else:
            size = settings.edge_window if target.is_edge else settings.service_window
            declared = target.connection.peer_frame_bytes > DEFAULT_BODY_LIMIT
            most = OWN_MOST if declared else STRANGER_MOST
            made = target.message_window = MessageWindow(target, size, most, self._doors, self._timers)
        return made

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
        elif not urgent and self._doors.refuses(sender, leg, len(body), PENDING_BYTES):
            error = ReceiverCongested.text
        if error:
            done(b"", error)
            return None
        packet_id = next(connection.ids)
        pending = Pending(
            True, leg, packet_id, DEFAULT_SESSION, sender, None, 0, DEFAULT_SESSION, method, self._overdue
        )
        pending.done = done
        self._in_flight.enter(pending)
        self._timers.schedule(pending, self._timers.now() + self._settings.call_seconds)
        pending.window = leg.call_window or self._new_window(leg, REQUEST)
        # There are few for each edge: they wait for nobody's calls.
        pending.window.out += 1
        self._doors.send(sender, leg, None, f.pack_of_session(REQUEST, packet_id, DEFAULT_SESSION, body))
        return pending

    def _refuse(self, leg: Leg, frame: Frame, kind: int, method: bytes, error: str, done: Done | None) -> None:
        self._counters.tallies[kind == REQUEST][leg.is_edge].failed(error)
        if done is not None:
            done(b"", error)
        else:
            self._answer(leg, frame, kind, method, error)

    def _answer(self, leg: Leg, frame: Frame, kind: int, method: bytes, error: str) -> None:
        """Answer a Request or Message that goes nowhere."""
        answer = RESPONSE if kind == REQUEST else MESSAGE_ACK
        key = method if kind == REQUEST and len(method) <= REPEATED_METHOD else b""
        text = message_json(key=key, error=error)
        leg.connection.write(f.pack_of_session(answer, frame.packet_id, frame.session_id, text))
