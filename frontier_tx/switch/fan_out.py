"""Messages of edges whose topic a queue takes: to one of those who take it, or to all (docs/queues.md)."""

from collections.abc import Callable, Sequence
from typing import Protocol

from msgspec import structs

from frontier_tx.errors import NoChoice
from frontier_tx.switch.exchange import Exchange
from frontier_tx.switch.legs import Leg
from frontier_tx.switch.repository import EVERYTHING_ELSE
from frontier_tx.wire.body import MessageData
from frontier_tx.wire.frame import Frame
from frontier_tx.wire.trace_context import take


class Queue(Protocol):
    """A way to a broker; ``queues.forwarder.Forwarder`` is one."""

    name: str


class TopicQueues(Protocol):
    """The queues of a gateway; ``queues.routes.Queues`` is one."""

    to_all: bool

    def of_topic(self, topic: str) -> Sequence[Queue]:
        """Those that list exactly this topic."""

    def publish(
        self,
        queue: Queue,
        topic: str,
        value: bytes,
        edge_id: int,
        address: str,
        sender: object,
        done: Callable[[str], None],
        traceparent: str,
    ) -> None:
        """Give a message to a queue; ``done`` is told an error text or nothing, once, maybe at once."""


class FanOut:
    """Chooses between services and queues, and acknowledges when those that were chosen have the message."""

    def __init__(self, exchange: Exchange, queues: TopicQueues) -> None:
        self._repository = exchange.repository
        self._router = exchange.router
        self._forwarding = exchange.forwarding
        self._queues = queues

    def takes(self, leg: Leg, frame: Frame, data: MessageData, done: Callable[[str], None] | None = None) -> bool:
        """Take a Message that came in; return False where it is none for a queue.

        :param done: told what came of it, in place of ``leg``.
        """
        if not leg.is_edge or frame.session_id != 1:
            return False
        topic = data.topic
        services: Sequence[Leg] = self._repository.services_of_topic(topic, exactly=True)
        queues = self._queues.of_topic(topic)
        if not services and not queues:
            services = self._repository.services_of_topic(topic)
            queues = self._queues.of_topic(EVERYTHING_ELSE)
        if not queues:
            return False
        tell = done or (lambda error: self._forwarding.acknowledge(leg, frame, error))
        receivers: Sequence[Leg | Queue] = [*services, *queues]
        if self._queues.to_all:
            self._give_all(leg, frame, data, receivers, tell)
            return True
        chosen = receivers[0] if len(receivers) == 1 else self._router.choose(receivers, leg)
        if chosen is None:
            tell(NoChoice.text)
        elif isinstance(chosen, Leg):
            to_caller = None if done is None else lambda value, error: tell(error)
            self._forwarding.publish(leg, frame, data, chosen, to_caller)
        else:
            context = _context(leg, data)
            self._queues.publish(chosen, topic, data.payload, leg.id, leg.address, leg, tell, context)
        return True

    def _give_all(
        self,
        leg: Leg,
        frame: Frame,
        data: MessageData,
        receivers: Sequence[Leg | Queue],
        tell: Callable[[str], None],
    ) -> None:
        """It is acknowledged when all have it, with the first error if one has not."""
        missing, first_error = len(receivers), ""

        def done(error: str) -> None:
            nonlocal missing, first_error
            first_error = first_error or error
            missing -= 1
            if not missing:
                tell(first_error)

        value, context = data.payload, _context(leg, data)
        for receiver in receivers:
            if isinstance(receiver, Leg):
                copy = structs.replace(data)
                self._forwarding.publish(leg, frame, copy, receiver, lambda _, error: done(error))
            else:
                self._queues.publish(receiver, data.topic, value, leg.id, leg.address, leg, done, context)


def _context(leg: Leg, data: MessageData) -> str:
    return take(data.custom)[0] if leg.connection.traces else ""
