"""RabbitMQ from Debian's package: confirms, returns, declarations, and what kill -9 leaves."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import pytest_twisted

from frontier_tx.config.queues import AMQP, MQM, AMQPBinding, AMQPExchange, AMQPProducer, AMQPQueue, QueueBuffer
from tests.queues.brokers import RabbitConsumer, RabbitMQ
from tests.queues.world import BODIES, numbered, way


@pytest.fixture(scope="module")
def broker() -> Iterator[RabbitMQ]:
    made = RabbitMQ()
    made.start()
    yield made
    made.kill()


def section(broker: RabbitMQ, **options: Any) -> AMQP:
    """Topic ``t`` to a durable queue ``q`` by an exchange ``x``."""
    producer = AMQPProducer(**{"routing_keys": ("t",), "exchange": "x", "delivery_mode": 2, **options})
    return AMQP(
        enable=True,
        addrs=(f"guest:guest@{broker.addr}",),
        exchanges=(AMQPExchange(name="x", durable=True),),
        queues=(AMQPQueue(name="q", durable=True),),
        queuebindings=(AMQPBinding(queue_name="q", exchange_name="x", binding_key="t"),),
        producer=producer,
    )


@pytest_twisted.ensureDeferred
async def test_a_consumer_reads_every_byte_back_with_its_properties(broker: RabbitMQ) -> None:
    own = {"content_type": "application/json", "priority": 3, "app_id": "me", "type": "reading"}
    async with way(MQM(amqp=section(broker, headers={"site": "a", "floor": 4}, **own))) as amqp:
        amqp.publish("t", *BODIES)
        await amqp.ended(len(BODIES))
    assert amqp.acknowledged == BODIES
    consumer = RabbitConsumer(broker)
    taken = consumer.take("q", len(BODIES))
    consumer.close()
    assert [body for _, _, body in taken] == BODIES
    properties = taken[0][1]
    assert {name: getattr(properties, name) for name in own} == own
    assert properties.delivery_mode == 2 and properties.timestamp and len(properties.message_id) == 36
    headers = properties.headers
    assert (headers["frontier-edge-id"], headers["frontier-topic"], headers["site"], headers["floor"]) == (
        "7",
        "t",
        "a",
        4,
    )
    async with way(replace(MQM(amqp=section(broker)), headers=False)) as amqp:
        amqp.publish("t", b"bare")
        await amqp.ended(1)
    consumer = RabbitConsumer(broker)
    ((_, properties, body),) = consumer.take("q", 1)
    consumer.close()
    assert body == b"bare" and not properties.headers


@pytest_twisted.ensureDeferred
async def test_what_no_queue_takes_is_told_where_it_is_mandatory(broker: RabbitMQ) -> None:
    async with way(MQM(amqp=section(broker, mandatory=True))) as amqp:
        amqp.publish("nowhere", b"lost")
        amqp.publish("t", b"kept")
        await amqp.ended(2)
        assert dict(amqp.told) == {b"lost": "queue amqp: no queue takes it: NO_ROUTE", b"kept": ""}
        amqp.publish("k" * 300, b"long")
        await amqp.ended(3)
        assert "longer than a routing key" in amqp.told[-1][1]
    consumer = RabbitConsumer(broker)
    consumer.take("q", 1)
    consumer.close()


@pytest_twisted.ensureDeferred
async def test_a_full_queue_refuses(broker: RabbitMQ) -> None:
    consumer = RabbitConsumer(broker)
    limits = {"x-max-length": 1, "x-overflow": "reject-publish"}
    consumer.channel.queue_declare("small", arguments=limits)
    bare = AMQP(enable=True, addrs=(broker.addr,), producer=AMQPProducer(routing_keys=("small",)))
    async with way(MQM(amqp=bare)) as amqp:
        amqp.publish("small", *numbered(3))
        await amqp.ended(3)
        assert [bool(error) for _, error in amqp.told] == [False, True, True]
        assert "nack" in amqp.told[1][1]
    consumer.close()


@pytest_twisted.ensureDeferred
async def test_what_is_too_large_for_the_broker_fails_alone() -> None:
    broker = RabbitMQ("max_message_size = 1000")
    broker.start()
    async with way(MQM(amqp=section(broker))) as amqp:
        amqp.publish("t", b"before", b"x" * 1001, b"after", b"y" * 1000)
        await amqp.ended(4)
        said = "queue amqp: 1001 bytes are too many for the broker, which takes 1000"
        assert sorted(amqp.told) == sorted([(b"before", ""), (b"x" * 1001, said), (b"after", ""), (b"y" * 1000, "")])
        assert amqp.forwarder.counters.reconnects == 1
    broker.kill()


@pytest_twisted.ensureDeferred
async def test_a_broker_that_takes_nothing_for_now_is_away() -> None:
    broker = RabbitMQ("vm_memory_high_watermark.absolute = 1MB")
    broker.start()
    async with way(MQM(amqp=section(broker), buffer=QueueBuffer(seconds=3))) as amqp:
        amqp.publish("t", b"later")
        await amqp.until(lambda: bool(amqp.forwarder.trouble))
        assert amqp.forwarder.trouble.startswith("it takes no messages now: low on memory")
        await amqp.ended(1)
        assert amqp.told[0][1].startswith("queue amqp: the broker is away: it takes no messages now: low on memory")
    broker.kill()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"addrs": ("guest:wrong@{addr}",)}, "ACCESS_REFUSED"),
        ({"vhost": "none"}, "NOT_ALLOWED"),
        ({"producer": AMQPProducer(routing_keys=("t",), exchange="absent")}, "404 NOT_FOUND - no exchange 'absent'"),
        ({"exchanges": (AMQPExchange(name="x", kind="fanout", durable=True),)}, "406 PRECONDITION_FAILED"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_what_does_not_fit_is_named(broker: RabbitMQ, change: dict[str, Any], said: str) -> None:
    async with way(MQM(amqp=section(broker))):
        pass
    wrong = {**change}
    if "addrs" in wrong:
        wrong["addrs"] = tuple(each.format(addr=broker.addr) for each in wrong["addrs"])
    async with way(MQM(amqp=replace(section(broker), **wrong)), connected=False) as amqp:
        await amqp.until(lambda: said in amqp.forwarder.trouble)
        assert "wrong@" not in amqp.forwarder.broker.where


@pytest_twisted.ensureDeferred
async def test_nothing_that_was_acknowledged_is_missing_after_kills() -> None:
    broker = RabbitMQ()
    broker.start()
    count = 2000
    async with way(MQM(amqp=section(broker), buffer=QueueBuffer(seconds=90))) as amqp:
        for start in range(0, count, 500):
            amqp.publish("t", *numbered(500, start))
            await amqp.ended(start + 50, 40)
            if start in (500, 1000):
                broker.kill()
                await amqp.until(lambda: not amqp.forwarder.connected)
                broker.start()
        await amqp.ended(count, 60)
        assert amqp.acknowledged == numbered(count)
    consumer = RabbitConsumer(broker)
    taken: list[bytes] = []
    while len(set(taken)) < count:
        more = consumer.take("q", 500, 5)
        assert more, f"{count - len(set(taken))} are missing"
        taken += [body for _, _, body in more]
    consumer.close()
    broker.kill()
    # What was sent when the broker died may be there twice; the first of each are in order.
    assert list(dict.fromkeys(taken)) == numbered(count)
