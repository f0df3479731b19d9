"""Calls and messages that begin inside the gateway, for whoever operates it: they take the way of any other.

They are forwarded as from a leg that is nobody's connection, so windows, deadlines, turns and
bounds are the usual ones.
"""

from collections.abc import Callable
from itertools import count

from frontier_tx.errors import Canceled
from frontier_tx.switch.exchange import Exchange
from frontier_tx.switch.legs import NO_TRANSPORT, Kind, Leg, Pending
from frontier_tx.wire.body import MessageData, message_json, read_message
from frontier_tx.wire.connection import Connection
from frontier_tx.wire.frame import MESSAGE, REQUEST, REQUEST_CANCEL, Frame
from frontier_tx.wire.ids import DEFAULT_SESSION
from frontier_tx.wire.states import Role
from frontier_tx.wire.times import UNSET, format_time

Outcome = Callable[[bytes, str, bool], None]
"""Told the answer, or an error text and whether it is the receiver's own; once, maybe at once."""
#: What services get as the id of the edge.
NOBODY = bytes(8)


class LocalCaller:
    """Sends calls and messages to edges and services.

    :param wall_clock: Unix seconds.
    """

    def __init__(self, exchange: Exchange, wall_clock: Callable[[], float]) -> None:
        self._exchange = exchange
        self._wall_clock = wall_clock
        self._packets = count(1)
        now = exchange.timers.now()
        self._legs = {kind: Leg(kind, Connection(Role.SERVER, now), NO_TRANSPORT, "", wall_clock()) for kind in Kind}
        for leg in self._legs.values():
            leg.id_suffix = NOBODY

    @property
    def pending(self) -> int:
        """How many wait for an answer."""
        return sum(len(leg.outgoing) for leg in self._legs.values())

    def call(self, target: Leg, method: str, data: bytes, seconds: float | None, done: Outcome) -> Callable[[], None]:
        """Call a method of an edge or a service.

        :param seconds: until the caller gives up; None: as long as the gateway waits for any call.
        :return: gives the call up; the receiver is told.
        """
        deadline = UNSET if seconds is None else format_time(self._wall_clock() + seconds)
        return self._send(REQUEST, target, message_json(key=method.encode(), value=data, deadline=deadline), done)

    def publish(self, target: Leg, topic: str, data: bytes, done: Outcome) -> Callable[[], None]:
        """Send a message to an edge or a service; ``done`` is told when it has acknowledged it.

        :return: waits no longer; the message goes its way.
        """
        return self._send(MESSAGE, target, message_json(topic=topic, value=data), done)

    def publish_topic(self, topic: str, data: bytes, done: Outcome) -> Callable[[], None] | None:
        """Send a message to who takes a topic, a service or a queue, as if an edge had published it.

        :return: as ``publish``; None where a queue takes it, which always answers.
        """
        leg = self._legs[Kind.EDGE]
        exchange = self._exchange
        to_queues = exchange.forwarding.to_queues
        message = read_message(message_json(topic=topic, value=data))
        frame = Frame(MESSAGE, next(self._packets), DEFAULT_SESSION, b"")
        if to_queues is not None and to_queues(leg, frame, message, lambda error: done(b"", error, bool(error))):
            return None
        found = exchange.router.service_of_topic(leg, message)
        if isinstance(found, str):
            done(b"", found, False)
            return None
        return self._forward(leg, frame, message, found, done)

    def _send(self, kind: int, target: Leg, body: bytes, done: Outcome) -> Callable[[], None]:
        leg = self._legs[Kind.SERVICE if target.is_edge else Kind.EDGE]
        data = read_message(body)
        if not target.is_edge:
            data.custom = NOBODY
        frame = Frame(kind, next(self._packets), DEFAULT_SESSION, b"")
        return self._forward(leg, frame, data, target, done)

    def _forward(self, leg: Leg, frame: Frame, data: MessageData, target: Leg, done: Outcome) -> Callable[[], None]:
        pending: Pending | None = None

        def told(value: bytes, error: str) -> None:
            done(value, error, pending is not None and pending.answered)

        self._exchange.forwarding.forward(leg, frame, data, frame.type, target, told)
        pending = leg.outgoing.get(frame.packet_id)

        def give_up() -> None:
            in_flight = self._exchange.in_flight
            if frame.type == REQUEST:
                in_flight.got_cancel(leg, Frame(REQUEST_CANCEL, frame.packet_id, DEFAULT_SESSION, b""))
            elif pending is not None and pending.source is not None and frame.packet_id in leg.outgoing:
                in_flight.disown(pending)
                pending.done = None
                done(b"", Canceled.text, False)

        return give_up
