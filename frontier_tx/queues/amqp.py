"""AMQP 0-9-1 (RabbitMQ), with pika's Twisted adapter: declarations, persistence, publisher confirms, returns."""

import re
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import unquote

import pika
from pika.adapters.twisted_connection import TwistedProtocolConnection
from pika.frame import Heartbeat
from twisted.internet.defer import CancelledError, Deferred, ensureDeferred
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Factory, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from frontier_tx.config.queues import AMQP
from frontier_tx.queues.amqp_wire import Closed, Confirmation, Frames, Messages, ProtocolError
from frontier_tx.queues.interfaces import IBroker, Surroundings, Unusable
from frontier_tx.queues.record import Record
from frontier_tx.runtime.loss_text import loss_text
from frontier_tx.runtime.tls import client_context

PORT, TLS_PORT = 5672, 5671
CONNECT_SECONDS = 5.0
#: A routing key is a short string of the protocol: bytes.
MOST_KEY_BYTES = 255
#: Largest frame unless `frame_size` asks for another one: the default of pika.
FRAME_BYTES = 131_072
#: RabbitMQ closes the channel with this text at a message larger than its max_message_size.
_TOO_BIG = re.compile(r"larger than configured max size (\d+)")
SIGN_OF_LIFE: bytes = Heartbeat().marshal()


def topics(section: AMQP) -> tuple[str, ...]:
    """The routing keys that go to this queue."""
    return section.producer.routing_keys


def make(section: AMQP, surroundings: Surroundings) -> "AMQPBroker":
    """Make the broker of a section; the first address counts."""
    return AMQPBroker(section, surroundings)


class _Protocol(TwistedProtocolConnection):  # type: ignore[misc]
    """A connection of pika that reads the confirmations itself.

    :param closed: told why, once the broker has closed the channel or the connection.
    """

    def __init__(self, parameters: Any, closed: Callable[[str], None]) -> None:
        super().__init__(parameters)
        #: Why it ended, or is about to.
        self.cause = ""
        self._heard = False
        self.confirmed: Callable[[Confirmation], None] = lambda confirmation: None
        self._closed_by_broker = closed
        self._frames = Frames(max(parameters.frame_max, FRAME_BYTES))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if not self.cause:
            self.cause = loss_text(reason)
            if not self._heard and not self.cause.startswith("TLS: "):
                self.cause += ", before it said anything: is it RabbitMQ, and is mqm.amqp.tls.enable as it should be?"
        super().connectionLost(reason)

    def dataReceived(self, data: bytes) -> None:
        alive = False
        try:
            for frame in self._frames.feed(data):
                self._heard = True
                if isinstance(frame, Confirmation):
                    alive = True
                    self.confirmed(frame)
                elif isinstance(frame, Closed):
                    self.cause = frame.why
                    super().dataReceived(frame.frame)
                    self._closed_by_broker(frame.why)
                else:
                    super().dataReceived(frame)
        except ProtocolError as error:
            self.cause = str(error)
            self.transport.abortConnection()
        if alive:
            # pika did not see the confirmations, and would take the broker for silent.
            super().dataReceived(SIGN_OF_LIFE)


@implementer(IBroker)
class AMQPBroker:
    """One connection with one channel in confirm mode."""

    def __init__(self, section: AMQP, surroundings: Surroundings) -> None:
        self._section = section
        self._surroundings = surroundings
        login, _, self.where = section.addrs[0].removeprefix("amqp://").rpartition("@")
        self._user, _, self._password = login.partition(":")
        self._protocol: Any = None
        self._messages: Messages | None = None
        #: The largest message, once the broker has said so.
        self._most: int | None = None
        #: By delivery tag: what was sent and is not confirmed, and the tags of the oldest and of the next.
        self._sent: dict[int, Record] = {}
        self._oldest = self._next = 1
        #: By message id: why the broker sent a message back. Its confirmation follows.
        self._returned: dict[str, str] = {}
        self._confirmed: Callable[[Record], None] = lambda record: None
        self._failed: Callable[[Record, str], None] = lambda record, why: None

    # -- connecting ---------------------------------------------------------------------------------------

    def connect(self, lost: Callable[[str], None]) -> "Deferred[None]":
        """See ``IBroker``."""
        return ensureDeferred(self._connect(lost))

    async def _connect(self, lost: Callable[[str], None]) -> None:
        self.disconnect()
        parameters = self._parameters()
        factory = Factory.forProtocol(lambda: _Protocol(parameters, lambda why: self._ended(protocol, lost, why)))
        factory.noisy = False
        protocol: Any = await self._endpoint(parameters).connect(factory)
        self._protocol = protocol
        protocol.transport.setTcpNoDelay(True)
        try:
            await protocol.ready
            channel = await protocol.channel()
            await self._declare(channel)
            await channel.confirm_delivery()
        except (CancelledError, GeneratorExit):
            self.disconnect()
            raise
        except Exception as error:
            self.disconnect()
            raise Unusable(protocol.cause or _text(error)) from error
        self._sent, self._returned, self._oldest, self._next = {}, {}, 1, 1
        protocol.confirmed = self._got
        channel.add_on_return_callback(self._got_back)
        connection, surroundings = channel.connection, self._surroundings
        connection.add_on_connection_blocked_callback(
            lambda _, frame: self._ended(protocol, lost, f"it takes no messages now: {frame.method.reason}")
        )
        protocol.closed.addBoth(lambda reason: self._ended(protocol, lost, _text(reason)))
        self._messages = Messages(
            channel.channel_number,
            connection.params.frame_max or FRAME_BYTES,
            self._section.producer,
            surroundings.gateway,
            surroundings.headers,
        )

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

    def _ended(self, protocol: Any, lost: Callable[[str], None], reason: str) -> None:
        if protocol is self._protocol and self._messages is not None:
            self.disconnect()
            reason = protocol.cause or reason
            if found := _TOO_BIG.search(reason):
                self._most = int(found[1])
            lost(reason)

    def disconnect(self) -> None:
        """See ``IBroker``."""
        protocol, self._protocol, self._messages = self._protocol, None, None
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
        protocol, messages = self._protocol, self._messages
        assert messages is not None
        self._confirmed, self._failed = confirmed, failed
        frames = []
        for record in records:
            if len(record.topic.encode()) > MOST_KEY_BYTES:
                failed(record, f"the topic is longer than a routing key may be ({MOST_KEY_BYTES} bytes)")
                continue
            if self._most is not None and len(record.value) > self._most:
                failed(record, f"{len(record.value)} bytes are too many for the broker, which takes {self._most}")
                continue
            frames.append(messages.frames(record))
            self._sent[self._next] = record
            self._next += 1
        protocol.transport.writeSequence(frames)

    def _got(self, confirmation: Confirmation) -> None:
        tag, multiple, taken = confirmation
        tag = min(tag, self._next - 1)
        for each in range(self._oldest, tag + 1) if multiple else (tag,):
            record = self._sent.pop(each, None)
            if record is None:
                continue
            if not taken:
                self._returned.pop(record.key, None)
                self._failed(record, "the broker refused it (nack), as a queue that is full does")
            elif self._returned and record.key in self._returned:
                self._failed(record, f"no queue takes it: {self._returned.pop(record.key)}")
            else:
                self._confirmed(record)
        if multiple or tag == self._oldest:
            self._oldest = tag + 1

    def _got_back(self, message: Any) -> None:
        self._returned[message.properties.message_id] = message.method.reply_text or "NO_ROUTE"


def _split(where: str, port: int) -> tuple[str, int]:
    host, colon, given = where.rpartition(":")
    if not colon or not given.isdigit():
        return where.strip("[]"), port
    return host.strip("[]"), int(given)


def _text(error: Any) -> str:
    error = error.value if isinstance(error, Failure) else error
    text = " ".join((getattr(error, "reply_text", "") or str(error)).split()) or type(error).__name__
    code = getattr(error, "reply_code", 0)
    return f"{code} {text}" if code else text
