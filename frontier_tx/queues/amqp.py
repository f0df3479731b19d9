"""AMQP 0-9-1 (RabbitMQ), with pika's Twisted adapter: declarations, persistence, publisher confirms, returns."""

import uuid
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any
from urllib.parse import unquote

import pika
from pika.adapters.twisted_connection import TwistedProtocolConnection
from pika.exceptions import AMQPError, NackError, UnroutableError
from pika.spec import Basic, BasicProperties
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure
from zope.interface import implementer

from frontier_tx.config.queues import AMQP, AMQPProducer
from frontier_tx.queues.build import Surroundings
from frontier_tx.queues.headers import headers_of
from frontier_tx.queues.interfaces import IBroker, Unusable
from frontier_tx.queues.record import Record
from frontier_tx.runtime.tls import client_context

PORT, TLS_PORT = 5672, 5671
CONNECT_SECONDS = 5.0
#: A routing key is a short string of the protocol: bytes.
MOST_KEY_BYTES = 255


def topics(section: AMQP) -> tuple[str, ...]:
    """The routing keys that go to this queue."""
    return section.producer.routing_keys


def make(section: AMQP, surroundings: Surroundings) -> "AMQPBroker":
    """The way to the broker of a section; the first address counts."""
    return AMQPBroker(section, surroundings)


class _Protocol(TwistedProtocolConnection):  # type: ignore[misc]
    """Keeps what the broker said when it closed the connection, which the adapter replaces by "connection done"."""

    cause: Any = None

    def connectionLost(self, reason: Any = None) -> None:
        self.cause = getattr(self._impl, "_error", None)
        super().connectionLost(reason)


@implementer(IBroker)
class AMQPBroker:
    """One connection with one channel in confirm mode."""

    def __init__(self, section: AMQP, surroundings: Surroundings) -> None:
        self._section = section
        self._surroundings = surroundings
        login, _, self.where = section.addrs[0].removeprefix("amqp://").rpartition("@")
        self._user, _, self._password = login.partition(":")
        self._protocol: Any = None
        self._channel: Any = None
        self._publish: Callable[[Record], Deferred[Any]] = lambda record: Deferred()

    # -- connecting ---------------------------------------------------------------------------------------

    def connect(self, lost: Callable[[str], None]) -> "Deferred[None]":
        """See ``IBroker``."""
        return ensureDeferred(self._connect(lost))

    async def _connect(self, lost: Callable[[str], None]) -> None:
        self.disconnect()
        parameters = self._parameters()
        factory = Factory.forProtocol(lambda: _Protocol(parameters))
        factory.noisy = False
        protocol: Any = await self._endpoint(parameters).connect(factory)
        self._protocol = protocol
        protocol.transport.setTcpNoDelay(True)
        try:
            await protocol.ready
            channel = await protocol.channel()
            await self._declare(channel)
            await channel.confirm_delivery()
        except AMQPError as error:
            self.disconnect()
            raise Unusable(_text(protocol.cause or error)) from error
        except BaseException:
            self.disconnect()
            raise
        self._channel = channel
        self._publish = _publisher(channel, self._section.producer, self._surroundings)
        # A channel that the broker closed is of no use any more, whatever the connection is.
        channel.add_on_return_callback(lambda message: None)
        channel._channel.add_on_close_callback(lambda _, reason: self._ended(protocol, lost, reason))
        protocol.closed.addBoth(lambda reason: self._ended(protocol, lost, reason))

    def _parameters(self) -> Any:
        section = self._section
        host, port = _split(self.where, TLS_PORT if section.tls.enable else PORT)
        options: dict[str, Any] = {"heartbeat": int(section.heartbeat) or None, "locale": section.locale}
        if section.channel_max:
            options["channel_max"] = section.channel_max
        if section.frame_size:
            options["frame_max"] = section.frame_size
        if self._user:
            options["credentials"] = pika.PlainCredentials(unquote(self._user), unquote(self._password))
        name = f"frontier {self._surroundings.gateway}".strip()
        return pika.ConnectionParameters(
            host, port, section.vhost or "/", client_properties={"connection_name": name}, **options
        )

    def _endpoint(self, parameters: Any) -> IStreamClientEndpoint:
        endpoint = HostnameEndpoint(
            self._surroundings.reactor, parameters.host, parameters.port, timeout=CONNECT_SECONDS
        )
        if not self._section.tls.enable:
            return endpoint
        return wrapClientTLS(client_context(self._section.tls, "mqm.amqp.tls", parameters.host), endpoint)

    async def _declare(self, channel: Any) -> None:
        section = self._section
        for exchange in section.exchanges:
            await channel.exchange_declare(
                exchange=exchange.name,
                exchange_type=exchange.kind,
                durable=exchange.durable,
                auto_delete=exchange.auto_delete,
                internal=exchange.internal,
            )
        for queue in section.queues:
            await channel.queue_declare(
                queue=queue.name, durable=queue.durable, auto_delete=queue.auto_delete, exclusive=queue.exclusive
            )
        for binding in section.queuebindings:
            await channel.queue_bind(
                queue=binding.queue_name, exchange=binding.exchange_name, routing_key=binding.binding_key
            )
        if section.producer.exchange:
            await channel.exchange_declare(exchange=section.producer.exchange, passive=True)

    def _ended(self, protocol: Any, lost: Callable[[str], None], reason: Any) -> None:
        if protocol is self._protocol:
            self.disconnect()
            lost(_text(protocol.cause or (reason.value if isinstance(reason, Failure) else reason)))

    def disconnect(self) -> None:
        """See ``IBroker``."""
        protocol, self._protocol, self._channel = self._protocol, None, None
        if protocol is None:
            return
        if protocol.closed is not None:
            protocol.closed.addErrback(lambda failure: None)
        if protocol.ready is not None:
            protocol.ready.addErrback(lambda failure: None)
        if protocol.is_open:
            protocol.close()
        else:
            protocol.transport.abortConnection()

    # -- records ------------------------------------------------------------------------------------------

    def send(
        self, records: Sequence[Record], confirmed: Callable[[Record], None], failed: Callable[[Record, str], None]
    ) -> None:
        """See ``IBroker``."""
        for record in records:
            if len(record.topic.encode()) > MOST_KEY_BYTES:
                failed(record, f"the topic is longer than a routing key may be ({MOST_KEY_BYTES} bytes)")
                continue
            self._publish(record).addCallbacks(
                partial(_confirmed, record, confirmed), partial(_refused, record, failed)
            )


def _confirmed(record: Record, confirmed: Callable[[Record], None], result: object) -> None:
    confirmed(record)


def _refused(record: Record, failed: Callable[[Record, str], None], failure: Failure) -> None:
    error = failure.value
    if isinstance(error, UnroutableError):
        message = error.messages[0].method if error.messages else None
        failed(record, f"no queue takes it: {getattr(message, 'reply_text', 'NO_ROUTE')}")
    elif isinstance(error, NackError):
        failed(record, "the broker refused it (nack), as a queue that is full does")
    # Anything else ended the connection, and the record is sent again.


def _publisher(channel: Any, producer: AMQPProducer, surroundings: Surroundings) -> Callable[[Record], "Deferred[Any]"]:
    fixed: Mapping[str, Any] = {
        name: value
        for name in (
            "content_type", "content_encoding", "delivery_mode", "priority", "reply_to", "expiration", "type",
            "user_id", "app_id",
        )
        if (value := getattr(producer, name))
    }  # fmt: skip
    own = dict(producer.headers)

    def publish(record: Record) -> "Deferred[Any]":
        headers = {**headers_of(record, surroundings.gateway), **own} if surroundings.headers else own
        if not record.key:
            record.key = str(uuid.uuid4())
        properties = BasicProperties(
            headers=headers or None, message_id=record.key, timestamp=int(record.when), **fixed
        )
        sent: Deferred[Any] = channel.basic_publish(
            producer.exchange, record.topic, record.value, properties, producer.mandatory
        )
        return sent

    if producer.immediate:
        _send_immediate(channel)
    return publish


def _send_immediate(channel: Any) -> None:
    """pika has no parameter for it, as RabbitMQ 3 closes the connection at it; other brokers may know it."""
    send = channel._channel._send_method

    def sending(method: Any, content: Any = None) -> None:
        if isinstance(method, Basic.Publish):
            method.immediate = True
        send(method, content)

    channel._channel._send_method = sending


def _split(where: str, port: int) -> tuple[str, int]:
    host, colon, given = where.rpartition(":")
    if not colon or not given.isdigit():
        return where.strip("[]"), port
    return host.strip("[]"), int(given)


def _text(error: Any) -> str:
    text = getattr(error, "reply_text", "") or str(error)
    code = getattr(error, "reply_code", 0)
    return " ".join(f"{code} {text}".split()) if code else " ".join(text.split()) or type(error).__name__
