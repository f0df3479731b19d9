"""Messages of edges whose topic a queue takes: to one of those who take it, or to all (docs/queues.md)."""

from collections.abc import Callable, Sequence
from typing import Protocol

from msgspec import structs

from frontier_tx.errors import NoChoice
from frontier_tx.switch.exchange import Exchange
from frontier_tx.switch.forwarding import Forwarding
from frontier_tx.switch.legs import Leg
from frontier_tx.switch.repository import EVERYTHING_ELSE
from frontier_tx.wire.body import MessageData
from frontier_tx.wire.frame import Frame


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
    ) -> None:
        """Give a message to a queue; ``done`` is told an error text or nothing, once, maybe at once."""


class FanOut:
    """Chooses between services and queues, and acknowledges when those that were chosen have the message."""

    def __init__(self, exchange: Exchange, queues: TopicQueues) -> None:
        self._repository = exchange.repository
        self._router = exchange.router
        self._forwarding = exchange.forwarding
        self._queues = queues

    def takes(self, leg: Leg, frame: Frame, data: MessageData) -> bool:
        """Take a Message that came in; return False where it is none for a queue."""
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
        receivers: Sequence[Leg | Queue] = [*services, *queues]
        if self._queues.to_all:
            _All(self._forwarding, leg, frame, len(receivers)).give(self._queues, receivers, data)
            return True
        chosen = receivers[0] if len(receivers) == 1 else self._router.choose(receivers, leg)
        if chosen is None:
            self._forwarding.acknowledge(leg, frame, NoChoice.text)
        elif isinstance(chosen, Leg):
            self._forwarding.publish(leg, frame, data, chosen)
        else:
            self._give(chosen, leg, frame, data)
        return True

    def _give(self, queue: Queue, leg: Leg, frame: Frame, data: MessageData) -> None:
        def done(error: str) -> None:
            self._forwarding.acknowledge(leg, frame, error)

        self._queues.publish(queue, data.topic, data.payload, leg.id, leg.address, leg, done)


class _All:
    """One Message to several receivers: acknowledged when all have it, with the first error if one has not."""

    def __init__(self, forwarding: Forwarding, leg: Leg, frame: Frame, count: int) -> None:
        self._forwarding = forwarding
        self._leg = leg
        self._frame = frame
        self._missing = count
        self._error = ""

    def give(self, queues: TopicQueues, receivers: Sequence[Leg | Queue], data: MessageData) -> None:
        leg, value = self._leg, data.payload
        for receiver in receivers:
            if isinstance(receiver, Leg):
                self._forwarding.publish(leg, self._frame, structs.replace(data), receiver, self._service_done)
            else:
                queues.publish(receiver, data.topic, value, leg.id, leg.address, leg, self._done)

    def _service_done(self, value: bytes, error: str) -> None:
        self._done(error)

    def _done(self, error: str) -> None:
        self._error = self._error or error
        self._missing -= 1
        if not self._missing:
            self._forwarding.acknowledge(self._leg, self._frame, self._error)
