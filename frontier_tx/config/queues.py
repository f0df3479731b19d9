"""Message queues that take messages of edges."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from frontier_tx.config.common import TLS
from frontier_tx.config.kinds import (
    Choice,
    ExactTexts,
    Flag,
    LoginAddresses,
    Number,
    PeerAddresses,
    Scalar,
    Text,
    Values,
    Whole,
)
from frontier_tx.config.schema import section, sections, setting

_ENABLE = "forward messages to this queue"
_INT32 = 2_147_483_647


@dataclass(frozen=True, slots=True, kw_only=True)
class KafkaFlush:
    """When a batch is sent; 0: as fast as possible. Where an amount is given and no time, after 0.1 s at the latest."""

    bytes: int = setting(0, Whole(0, _INT32, "bytes"), "send once so many bytes wait")
    messages: int = setting(0, Whole(0, _INT32), "send once so many messages wait")
    frequency: float = setting(0.0, Number(0, 3600), "send at least this often; less than `buffer.confirm_seconds`")
    max_messages: int = setting(0, Whole(0, _INT32), "messages in one request at most; 0: no limit")


@dataclass(frozen=True, slots=True, kw_only=True)
class KafkaRetry:
    """What happens when the broker fails."""

    max: int = setting(
        3, Whole(0, 1000, zero_is_default=True),
        "attempts after the first one; then the gateway connects anew, and messages wait as `buffer.seconds` says",
    )  # fmt: skip
    backoff: float = setting(0.1, Number(0, 3600, zero_is_default=True), "pause between attempts")


@dataclass(frozen=True, slots=True, kw_only=True)
class KafkaProducer:
    """Topics, and how messages are sent."""

    topics: tuple[str, ...] = setting((), ExactTexts(), "topics that go to this queue")
    async_: bool = setting(
        False, Flag(), "accepted for existing files; a message is acknowledged when the broker has it in any case"
    )
    key: str = setting(
        "edge", Choice("edge", "none"), "key of a message: the edge's ID, so that its messages stay in order, or none"
    )
    max_message_bytes: int = setting(1_000_000, Whole(1, _INT32, "bytes", zero_is_default=True), "largest message")
    required_acks: int = setting(
        1, Whole(-1, 32_767, zero_is_default=True), "replicas that must have a message: 1 the leader, -1 all in sync"
    )
    timeout: float = setting(10.0, Number(0, 3600, zero_is_default=True), "time for the broker's acknowledgement")
    compression: str = setting("none", Choice("none", "gzip", "snappy", "lz4", "zstd"), "compression of batches")
    compression_level: int = setting(
        0, Whole(-1000, 22), "level of the compression, gzip 1 to 9, lz4 1 to 12, zstd -7 to 22; 0: its own default"
    )
    idempotent: bool = setting(
        False, Flag(), "let the broker drop repetitions of one connection, and wait for all in sync", "idepotent"
    )
    flush: KafkaFlush = section(KafkaFlush())
    retry: KafkaRetry = section(KafkaRetry())


@dataclass(frozen=True, slots=True, kw_only=True)
class KafkaSASL:
    """Logging in."""

    mechanism: str = setting("", Choice("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"), "how to log in; empty: not at all")
    username: str = setting("", Text(), "user")
    password: str = setting("", Text(), "password", secret=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kafka:
    """Kafka."""

    enable: bool = setting(False, Flag(), _ENABLE)
    addrs: tuple[str, ...] = setting((), PeerAddresses(), "brokers, `host:port`", "addr")
    tls: TLS = section(TLS(), "TLS towards the brokers")
    sasl: KafkaSASL = section(KafkaSASL())
    producer: KafkaProducer = section(KafkaProducer())


@dataclass(frozen=True, slots=True, kw_only=True)
class AMQPExchange:
    """An exchange to declare."""

    name: str = setting("", Text(), "name")
    kind: str = setting(
        "direct", Text("direct, fanout, topic, headers or a broker's own", empty_is_default=True), "kind"
    )
    durable: bool = setting(False, Flag(), "survives a restart of the broker")
    auto_delete: bool = setting(False, Flag(), "goes away with its last binding")
    internal: bool = setting(False, Flag(), "takes messages of other exchanges only")
    nowait: bool = setting(False, Flag(), "do not wait for the broker's answer", "noWait")


@dataclass(frozen=True, slots=True, kw_only=True)
class AMQPQueue:
    """A queue to declare."""

    name: str = setting("", Text(), "name")
    durable: bool = setting(False, Flag(), "survives a restart of the broker")
    auto_delete: bool = setting(False, Flag(), "goes away with its last consumer")
    exclusive: bool = setting(False, Flag(), "for this connection only", "exclustive")
    nowait: bool = setting(False, Flag(), "do not wait for the broker's answer", "noWait")


@dataclass(frozen=True, slots=True, kw_only=True)
class AMQPBinding:
    """A binding of a queue to an exchange."""

    queue_name: str = setting("", Text(), "the queue")
    exchange_name: str = setting("", Text(), "the exchange")
    binding_key: str = setting("", Text(), "routing key that it takes")
    nowait: bool = setting(False, Flag(), "do not wait for the broker's answer", "noWait")


@dataclass(frozen=True, slots=True, kw_only=True)
class AMQPProducer:
    """Topics, and the properties of messages."""

    routing_keys: tuple[str, ...] = setting((), ExactTexts(), "topics that go to this queue, each its own routing key")
    exchange: str = setting("", Text(), "exchange to publish to; empty: the broker's default exchange")
    mandatory: bool = setting(False, Flag(), "fail a message that no queue takes")
    immediate: bool = setting(False, Flag(), "fail a message that no consumer can take at once; few brokers know it")
    headers: Mapping[str, Scalar] = setting({}, Values(), "headers of every message")
    content_type: str = setting("", Text(), "MIME type of the body")
    content_encoding: str = setting("", Text(), "MIME encoding of the body")
    delivery_mode: int = setting(0, Whole(0, 2), "2: kept on disk; 0 and 1: not")
    priority: int = setting(0, Whole(0, 9), "priority")
    reply_to: str = setting("", Text(), "address for answers")
    expiration: str = setting("", Text(), "life of a message in milliseconds, as text")
    type: str = setting("", Text(), "name of the message type")
    user_id: str = setting("", Text(), "user, checked by the broker")
    app_id: str = setting("", Text(), "name of the application")


@dataclass(frozen=True, slots=True, kw_only=True)
class AMQP:
    """AMQP 0-9-1, RabbitMQ."""

    enable: bool = setting(False, Flag(), _ENABLE)
    addrs: tuple[str, ...] = setting(
        (),
        LoginAddresses("amqp"),
        "broker, `host`, `host:port` or `user:password@host:port`; the first one counts",
        "addr",
        secret=True,
    )
    vhost: str = setting("", Text(), "virtual host; empty: `/`")
    channel_max: int = setting(0, Whole(0, 65_535), "channels; 0: as many as the broker allows")
    frame_size: int = setting(0, Whole(0, _INT32, "bytes"), "frame size; 0: as the broker allows")
    heartbeat: float = setting(0.0, Number(0, 3600), "heartbeat; below 1 the broker's own")
    tls: TLS = section(TLS(), "TLS towards the broker")
    locale: str = setting("en_US", Text(empty_is_default=True), "locale of the connection")
    exchanges: tuple[AMQPExchange, ...] = sections(AMQPExchange, "exchanges to declare")
    queues: tuple[AMQPQueue, ...] = sections(AMQPQueue, "queues to declare")
    queuebindings: tuple[AMQPBinding, ...] = sections(
        AMQPBinding, "bindings to make", "queueBindings", "queue_bindings"
    )
    producer: AMQPProducer = section(AMQPProducer())


@dataclass(frozen=True, slots=True, kw_only=True)
class NatsProducer:
    """Topics."""

    subjects: tuple[str, ...] = setting((), ExactTexts(), "topics that go to this queue")


@dataclass(frozen=True, slots=True, kw_only=True)
class JetStream:
    """JetStream instead of plain NATS."""

    enable: bool = setting(False, Flag(), "publish to a stream, and acknowledge when it has stored the message")
    name: str = setting("", Text(), "name of the stream, made if it is not there")
    producer: NatsProducer = section(NatsProducer())


@dataclass(frozen=True, slots=True, kw_only=True)
class Nats:
    """NATS."""

    enable: bool = setting(False, Flag(), _ENABLE)
    addrs: tuple[str, ...] = setting(
        (), LoginAddresses("nats", "tls"), "servers, `host`, `host:port` or `user:password@host:port`", "addr",
        secret=True,
    )  # fmt: skip
    token: str = setting("", Text(), "token to log in with", secret=True)
    credentials: str = setting("", Text(), "file of credentials (`.creds`) to log in with")
    tls: TLS = section(TLS(), "TLS towards the broker")
    producer: NatsProducer = section(NatsProducer())
    jetstream: JetStream = section(JetStream())


@dataclass(frozen=True, slots=True, kw_only=True)
class NSQProducer:
    """Topics."""

    topics: tuple[str, ...] = setting((), ExactTexts(), "topics that go to this queue")


@dataclass(frozen=True, slots=True, kw_only=True)
class NSQ:
    """NSQ."""

    enable: bool = setting(False, Flag(), _ENABLE)
    addrs: tuple[str, ...] = setting((), PeerAddresses(), "nsqd, `host:port`; the first one counts", "addr")
    max_message_bytes: int = setting(
        1_048_576, Whole(1, _INT32, "bytes", zero_is_default=True), "largest message: nsqd's `--max-msg-size`"
    )
    auth_secret: str = setting(
        "", Text(), "secret to log in with, where nsqd asks an authorization server", secret=True
    )
    tls: TLS = section(TLS(), "TLS towards the broker")
    producer: NSQProducer = section(NSQProducer())


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisQueueProducer:
    """Topics."""

    channels: tuple[str, ...] = setting((), ExactTexts(), "topics that go to this queue")


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisStream:
    """Streams instead of PUBLISH: a message stays for those who read later."""

    enable: bool = setting(False, Flag(), "add messages to the stream with the name of the topic (XADD)")
    maxlen: int = setting(
        1_000_000, Whole(0, 1 << 53), "messages that a stream keeps, the newest, about so many; 0: all"
    )
    field: str = setting("value", Text(empty_is_default=True), "name of the field that holds the body")


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisQueue:
    """Redis PUBLISH, or streams."""

    enable: bool = setting(False, Flag(), _ENABLE)
    addrs: tuple[str, ...] = setting((), PeerAddresses(), "server, `host:port`; the first one counts", "addr")
    db: int = setting(0, Whole(0, 1_000_000), "database")
    username: str = setting("", Text(), "user, where access rules name one")
    password: str = setting("", Text(), "password", secret=True)
    tls: TLS = section(TLS(), "TLS towards the broker")
    stream: RedisStream = section(RedisStream())
    producer: RedisQueueProducer = section(RedisQueueProducer())


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnQueue:
    """A class of one's own that takes messages to a queue."""

    name: str = setting(
        "", Text("a name of lower-case letters, digits and dashes", pattern=r"[a-z0-9-]{1,64}"),
        "name for the log, the metrics and errors",
    )  # fmt: skip
    class_: str = setting("", Text("a dotted path, such as package.module.Class"), "class: an `IBroker`")
    topics: tuple[str, ...] = setting((), ExactTexts(), "topics that go to this queue")
    options: Mapping[str, Scalar] = setting({}, Values(), "given to the class")


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueBuffer:
    """What waits for a queue, each queue by itself."""

    bytes: int = setting(
        67_108_864, Whole(65_536, 1 << 40, "bytes"), "what may wait for the broker; one edge gets at most half of it"
    )
    seconds: float = setting(
        20.0, Number(0.1, 3600), "how long a message may wait; then its edge is told that the broker is away"
    )
    window: int = setting(4096, Whole(1, 1_000_000), "messages that are sent to the broker and not confirmed")
    window_bytes: int = setting(16_777_216, Whole(1, 1 << 40, "bytes"), "the same in bytes")
    confirm_seconds: float = setting(
        10.0, Number(0.1, 3600), "a broker that confirms nothing for so long is connected to anew"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Spool:
    """What cannot go to its broker now is kept on disk, and acknowledged when it is there."""

    enable: bool = setting(False, Flag(), "keep messages on disk while their broker is away")
    path: str = setting("", Text("path of a folder"), "folder that has a file for each queue; made if it is not there")
    bytes: int = setting(
        268_435_456, Whole(1_048_576, 1 << 36, "bytes"), "what each queue may keep; one edge gets at most half of it"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class MQM:
    """Message queues, each for the topics that it lists."""

    deliver: str = setting(
        "one", Choice("one", "all"),
        "where several queues and services take a topic: one of them, as `exchange.hashby` says, or all of them",
    )  # fmt: skip
    headers: bool = setting(True, Flag(), "tell consumers edge, topic and time in headers, where the broker has them")
    unready: bool = setting(False, Flag(), "while a broker is away the gateway is not ready (`/readyz`)")
    buffer: QueueBuffer = section(QueueBuffer())
    spool: Spool = section(Spool())
    own: tuple[OwnQueue, ...] = sections(OwnQueue, "queues of one's own")

    kafka: Kafka = section(Kafka())
    amqp: AMQP = section(AMQP())
    nats: Nats = section(Nats())
    nsq: NSQ = section(NSQ())
    redis: RedisQueue = section(RedisQueue())
