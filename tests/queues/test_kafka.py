"""Kafka from Maven Central: what was acknowledged is there, in order and byte for byte, and what goes wrong is said."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted

from frontier_tx.config.common import TLS, CertKey
from frontier_tx.config.queues import MQM, Kafka, KafkaFlush, KafkaProducer, KafkaRetry, KafkaSASL, QueueBuffer
from tests.launch.certificates import Authority
from tests.queues.brokers import KafkaBroker, kafka_give, kafka_take
from tests.queues.world import BODIES, numbered, way

pytestmark = pytest.mark.timeout(180)


@pytest.fixture(scope="module")
def broker() -> Iterator[KafkaBroker]:
    made = KafkaBroker()
    made.start()
    yield made
    made.kill()


def to(broker: KafkaBroker, *topics: str, **producer: Any) -> MQM:
    settings = KafkaProducer(topics=topics or ("t",), **producer)
    return MQM(kafka=Kafka(enable=True, addrs=(broker.addr,), producer=settings))


@pytest_twisted.ensureDeferred
async def test_a_consumer_reads_every_byte_back(broker: KafkaBroker) -> None:
    async with way(to(broker, "bytes")) as kafka:
        kafka.publish("bytes", *BODIES)
        await kafka.ended(len(BODIES))
    assert kafka.told == [(body, "") for body in BODIES]
    taken = kafka_take(broker, "bytes")
    assert [each.value for each in taken] == BODIES
    assert {each.key for each in taken} == {b"7"}
    headers = taken[0].headers
    assert headers.pop("frontier-time") == str(taken[0].time)
    assert headers == {
        "frontier-edge-id": "7", "frontier-topic": "bytes", "frontier-address": "10.0.0.1:5",
        "frontier-gateway": "gw-1",
    }  # fmt: skip


@pytest_twisted.ensureDeferred
async def test_without_headers_and_key_a_message_is_its_body(broker: KafkaBroker) -> None:
    async with way(replace(to(broker, "bare", key="none"), headers=False)) as kafka:
        kafka.publish("bare", b"a")
        await kafka.ended(1)
    (taken,) = kafka_take(broker, "bare")
    assert (taken.key, taken.value, taken.headers) == (None, b"a", {})


@pytest_twisted.ensureDeferred
async def test_messages_of_an_edge_share_a_partition_that_other_producers_give_its_key(broker: KafkaBroker) -> None:
    broker.make_topic("spread", 5)
    async with way(to(broker, "spread")) as kafka:
        for number in range(20):
            for edge in range(1, 30):
                kafka.publish("spread", b"%d %d" % (edge, number), edge_id=edge)
        await kafka.ended(20 * 29)
    taken = kafka_take(broker, "spread")
    assert len({each.partition for each in taken}) == 5
    for edge in range(1, 30):
        of_edge = [each for each in taken if each.key == b"%d" % edge]
        assert [each.value for each in of_edge] == [b"%d %d" % (edge, number) for number in range(20)]
        assert len({each.partition for each in of_edge}) == 1
    kafka_give(broker, "spread", [(b"%d" % edge, b"") for edge in range(1, 30)])
    partitions = {(each.key, each.partition) for each in kafka_take(broker, "spread")}
    assert len(partitions) == 29, "librdkafka finds the same ones"


@pytest_twisted.ensureDeferred
async def test_without_a_key_all_partitions_are_used(broker: KafkaBroker) -> None:
    broker.make_topic("turns", 3)
    async with way(to(broker, "turns", key="none")) as kafka:
        for count in range(1, 7):
            kafka.publish("turns", b"a", b"b")
            await kafka.ended(2 * count)
    assert {each.partition for each in kafka_take(broker, "turns")} == {0, 1, 2}


@pytest.mark.parametrize(
    "options",
    [
        {"compression": "gzip"},
        {"compression": "gzip", "compression_level": 1},
        {"compression": "snappy"},
        {"compression": "lz4"},
        {"compression": "lz4", "compression_level": 3},
        {"compression": "zstd"},
        {"compression": "zstd", "compression_level": 10},
        {"compression": "zstd", "compression_level": -1000},
        {"idempotent": True, "compression": "zstd", "compression_level": 1},
        {"required_acks": -1, "timeout": 5.0},
        {"flush": KafkaFlush(messages=3)},
        {"flush": KafkaFlush(bytes=100_000)},
        {"flush": KafkaFlush(frequency=0.2, max_messages=7)},
    ],
    ids=str,
)
@pytest_twisted.ensureDeferred
async def test_settings_of_the_producer(broker: KafkaBroker, options: dict[str, Any]) -> None:
    topic = "settings-" + "".join(c if c.isalnum() else "-" for c in str(options))
    values = [b"%d " % number * 200 for number in range(100)]
    async with way(to(broker, topic, **options)) as kafka:
        kafka.publish(topic, *values)
        await kafka.ended(100)
    assert kafka.acknowledged == values
    assert [each.value for each in kafka_take(broker, topic)] == values


@pytest_twisted.ensureDeferred
async def test_levels_of_compression_make_a_difference(broker: KafkaBroker) -> None:
    sizes = {}
    for level in (1, 9):
        async with way(to(broker, f"level{level}", compression="gzip", compression_level=level)) as kafka:
            kafka.publish(f"level{level}", *(b"%d" % (number**3) * 20 for number in range(2000)))
            await kafka.ended(2000)
        sizes[level] = sum(each.stat().st_size for each in broker.folder.glob(f"data/level{level}-0/*.log"))
    assert sizes[9] < 0.95 * sizes[1]


@pytest_twisted.ensureDeferred
async def test_what_the_broker_will_not_take_fails_alone_and_says_which(broker: KafkaBroker) -> None:
    broker.make_topic("small", max_message_bytes="1000")
    async with way(to(broker, "small", max_message_bytes=5000)) as kafka:
        kafka.publish("small", b"before", b"x" * 2000, b"after", b"y" * 6000, b"last")
        kafka.publish("no topic", b"odd")
        await kafka.ended(6)
        assert kafka.forwarder.connected
    errors = {value[:1]: error for value, error in kafka.told if error}
    assert errors == {
        b"x": "queue kafka: it is too large for the topic (max.message.bytes)",
        b"y": "queue kafka: 6000 bytes are more than mqm.kafka.producer.max_message_bytes",
        b"o": "queue kafka: 'no topic' cannot be a topic: 1 to 249 of letters, digits, . _ and -",
    }
    assert [each.value for each in kafka_take(broker, "small")] == [b"before", b"after", b"last"]
    assert kafka.forwarder.counters.failed["refused"] == 3


@pytest_twisted.ensureDeferred
async def test_a_compacted_topic_refuses_what_has_no_key(broker: KafkaBroker) -> None:
    broker.make_topic("compacted", cleanup_policy="compact")
    async with way(to(broker, "compacted", key="none")) as kafka:
        kafka.publish("compacted", b"a")
        await kafka.ended(1)
    assert "refuses it" in kafka.told[0][1]


@pytest_twisted.ensureDeferred
async def test_kill_and_restart_under_load() -> None:
    broker = KafkaBroker("log.flush.interval.messages=1")
    broker.start()
    broker.make_topic("t", 2)
    edges, made = (1, 2, 3), 0
    buffer = QueueBuffer(seconds=90, confirm_seconds=5)
    try:
        async with way(replace(to(broker, retry=KafkaRetry(max=1, backoff=0.05)), buffer=buffer)) as kafka:
            for kill in (1000, 2000, None):
                for number in range(made, kill or 3000):
                    for edge in edges:
                        kafka.publish("t", b"%d %08d" % (edge, number), edge_id=edge)
                made = kill or 3000
                await kafka.ended(3 * (made - 600), 40)
                if kill:
                    broker.kill()
                    await kafka.until(lambda: not kafka.forwarder.connected)
                    broker.start()
            await kafka.ended(3 * 3000, 60)
        assert len(kafka.acknowledged) == 9000
        taken = kafka_take(broker, "t")
        for edge in edges:
            of_edge = [each.value for each in taken if each.key == b"%d" % edge]
            # What was sent again may be there twice; what comes first is in order.
            assert list(dict.fromkeys(of_edge)) == [b"%d %08d" % (edge, number) for number in range(3000)]
    finally:
        broker.kill()


@pytest_twisted.ensureDeferred
async def test_idempotent_nothing_is_there_twice_after_a_restart() -> None:
    broker = KafkaBroker("log.flush.interval.messages=1", "auto.create.topics.enable=false")
    broker.start()
    broker.make_topic("t")
    buffer = QueueBuffer(seconds=90, confirm_seconds=60)
    try:
        async with way(replace(to(broker, "t", "*", idempotent=True), buffer=buffer)) as kafka:
            kafka.publish("t", *numbered(2000))
            await kafka.ended(500)
            broker.kill()
            broker.start()
            await kafka.ended(2000, 60)
            assert kafka.acknowledged == numbered(2000)
            kafka.publish("elsewhere", b"a", b"b")
            kafka.publish("t", b"beside")
            await kafka.ended(2003)
            # Asked again soon, it is answered at once.
            kafka.publish("elsewhere", b"c")
            await kafka.ended(2004, 0.5)
        missing = "queue kafka: the brokers have no topic elsewhere, and make none (auto.create.topics.enable)"
        assert [each for each in kafka.told if each[1]] == [(body, missing) for body in (b"a", b"b", b"c")]
        assert [each.value for each in kafka_take(broker, "t")] == [*numbered(2000), b"beside"]
    finally:
        broker.kill()


@pytest.mark.timeout(180)
@pytest_twisted.ensureDeferred
async def test_a_broker_that_stands_still_or_goes_while_nothing_is_sent(broker: KafkaBroker) -> None:
    async with way(replace(to(broker, "still"), buffer=QueueBuffer(seconds=60, confirm_seconds=1))) as kafka:
        broker.freeze(True)
        kafka.publish("still", *numbered(50))
        await kafka.until(lambda: not kafka.forwarder.connected)
        broker.freeze(False)
        await kafka.ended(50, 30)
        assert kafka.acknowledged == numbered(50)
        broker.kill()
        await kafka.until(lambda: not kafka.forwarder.connected, 40)
        broker.start()
        await kafka.until(lambda: kafka.forwarder.connected, 40)


JAAS = (
    "listener.name.clients.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required "
    'username="own" password="own" user_own="own" user_edge="secret";'
)


@pytest_twisted.ensureDeferred
async def test_logging_in_and_permissions() -> None:
    broker = KafkaBroker(
        JAAS,
        "sasl.enabled.mechanisms=PLAIN",
        "sasl.mechanism.inter.broker.protocol=PLAIN",
        "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users=User:own;User:ANONYMOUS",
        listener="SASL_PLAINTEXT",
    )
    broker.start()

    def as_user(username: str, password: str) -> MQM:
        sasl = KafkaSASL(mechanism="PLAIN", username=username, password=password)
        return replace(to(broker), kafka=replace(to(broker).kafka, sasl=sasl))

    try:
        async with way(as_user("own", "own")) as kafka:
            kafka.publish("t", b"a")
            await kafka.ended(1)
            assert kafka.acknowledged == [b"a"]
        async with way(as_user("edge", "secret")) as kafka:
            kafka.publish("t", b"a")
            await kafka.ended(1)
            assert kafka.told == [(b"a", "queue kafka: the gateway may not write to the topic")]
        async with way(as_user("edge", "wrong"), connected=False) as kafka:
            await kafka.until(lambda: "Authentication failed" in kafka.forwarder.trouble)
            assert "wrong" not in kafka.forwarder.trouble
        async with way(to(broker), connected=False) as kafka:
            await kafka.until(lambda: "sasl of mqm.kafka not set" in kafka.forwarder.trouble)
    finally:
        broker.kill()


def joined(file: Path, *parts: str) -> Path:
    file.write_text("".join(Path(part).read_text() for part in parts))
    return file


@pytest_twisted.ensureDeferred
async def test_tls_both_ways_with_a_name_of_ones_own(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    (cert, key), own = (authority.issue(name, f"{name}.example") for name in ("kafka", "gateway"))
    both = joined(tmp_path / "both.pem", key, cert)
    broker = KafkaBroker(
        "ssl.keystore.type=PEM",
        f"ssl.keystore.location={both}",
        "ssl.truststore.type=PEM",
        f"ssl.truststore.location={authority.file}",
        "ssl.client.auth=required",
        "ssl.endpoint.identification.algorithm=",
        listener="SSL",
    )
    broker.start()
    certs = (CertKey(cert=own[0], key=own[1]),)
    good = TLS(enable=True, mtls=True, ca_certs=(authority.file,), certs=certs, server_name="kafka.example")

    def with_tls(tls: TLS) -> MQM:
        return replace(to(broker), kafka=replace(to(broker).kafka, tls=tls))

    try:
        for tls in (good, replace(good, ca_certs=(), insecure_skip_verify=True)):
            async with way(with_tls(tls)) as kafka:
                kafka.publish("t", b"a")
                await kafka.ended(1)
                assert kafka.acknowledged == [b"a"]
        for tls, why in (
            (replace(good, server_name=""), "IP address mismatch"),
            (replace(good, ca_certs=()), "certificate verify failed"),
            (replace(good, ca_certs=("/none.pem",)), "/none.pem"),
            (replace(good, mtls=False), broker.addr),
        ):
            async with way(with_tls(tls), connected=False) as kafka:
                await kafka.until(lambda why=why, kafka=kafka: why in kafka.forwarder.trouble)
    finally:
        broker.kill()


@pytest.mark.timeout(180)
@pytest_twisted.ensureDeferred
async def test_brokers_that_cannot_be_reached_where_they_say(broker: KafkaBroker) -> None:
    other = KafkaBroker("advertised.listeners=CLIENTS://127.0.0.1:9")
    other.start()
    section = replace(to(other).kafka, addrs=("127.0.0.1:9", other.addr))
    try:
        async with way(MQM(kafka=section), connected=False) as kafka:
            await kafka.until(lambda: "at the addresses that they give: 127.0.0.1:9" in kafka.forwarder.trouble, 40)
    finally:
        other.kill()
    # One address of several that answers is enough.
    async with way(MQM(kafka=replace(section, addrs=("127.0.0.1:9", broker.addr)))):
        pass
