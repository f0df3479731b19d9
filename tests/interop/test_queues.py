"""Messages of Go edges to a queue: bodies arrive as they are, and what fails is an error that edges can read."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.interop.conftest import ConnectTo, StartGateway
from tests.interop.ends import EndError, fails
from tests.queues.test_redis import Raw
from tests.redis.servers import RedisServer, free_ports

pytestmark = pytest.mark.timeout(60)

MQM = """\
mqm:
  redis: {enable: true, addrs: ["%s"], producer: {channels: [readings]}}
  buffer: {seconds: 1}
"""
BODIES = [b"21.5", b"\0\xff" * 1000, b"x" * 1_000_000]


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    made = RedisServer(free_ports(1)[0]).start()
    yield made
    made.close()


def test_bodies_of_a_go_edge_reach_the_broker(
    redis: RedisServer, ends_of: ConnectTo, gateway_with: StartGateway
) -> None:
    consumer = Raw(redis)
    consumer.ask("SUBSCRIBE", "readings")
    edge = ends_of(gateway_with(more=MQM % redis.addr)).edge(b"edge")
    for body in BODIES:
        edge.publish(body, topic="readings")
    assert [consumer.read()[2] for _ in BODIES] == BODIES
    consumer.close()


@pytest.mark.differs("it ends with the broker, and has no buffer")
def test_a_go_edge_reads_that_the_broker_is_away(
    redis: RedisServer, ends_of: ConnectTo, gateway_with: StartGateway
) -> None:
    ends = ends_of(gateway_with(more=MQM % redis.addr))
    edge, service = ends.edge(b"edge"), ends.service("other", ["news"])
    edge.publish(b"before", topic="readings")
    redis.kill()
    publishing = edge.start_publish(b"during", topic="readings")
    beside = edge.start_publish(b"news", topic="news")
    service.receive().done()
    beside.result(5)
    with pytest.raises(EndError, match="queue redis: the broker is away"):
        publishing.result(10)
    redis.start()
    edge.publish(b"after", topic="readings")
    with fails("topic not online"):
        edge.publish(b"nowhere", topic="elsewhere")
