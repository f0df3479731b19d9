"""Messages of edges to queues, services, or both, in a gateway in memory with a broker that the test speaks for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet.task import Clock

from frontier_tx.config.queues import QueueBuffer
from frontier_tx.queues.forwarder import Forwarder
from frontier_tx.queues.routes import Queues
from frontier_tx.testing import MemoryGateway
from tests.queues.test_forwarder import Fake


class World:
    def __init__(self, *topics: str, to_all: bool = False, count: int = 1) -> None:
        clock = Clock()
        self.brokers = [Fake() for _ in range(count)]
        forwarders = [
            Forwarder(f"q{number}", topics, broker, clock, QueueBuffer(seconds=5))
            for number, broker in enumerate(self.brokers)
        ]
        self.queues = Queues(forwarders, to_all)
        self.gateway = MemoryGateway(clock, queues=self.queues)
        self.queues.start()
        for broker in self.brokers:
            broker.attempts[0].callback(None)
        self.edge = self.gateway.edge(meta=b"e")
        self.gateway.run(self.edge.connect())

    def publish(self, topic: str, data: bytes = b"m") -> list[Any]:
        """The outcome, once there is one: [None] or [the error's text]."""
        outcome: list[Any] = []
        done = self.edge.publish(topic, data)
        done.addCallbacks(outcome.append, lambda failure: outcome.append(str(failure.value)))
        self.gateway.advance(0.01)
        return outcome

    def confirm(self, broker: int = 0) -> None:
        for record in self.brokers[broker].batches.pop():
            self.brokers[broker].confirmed(record)
        self.gateway.advance(0.01)

    def close(self) -> None:
        self.gateway.close()


@pytest.fixture
def world() -> Iterator[World]:
    made = World("t")
    yield made
    made.close()


def test_an_ack_waits_for_the_brokers_confirmation(world: World) -> None:
    outcome = world.publish("t", b"\0\xff" * 50_000)
    (record,) = world.brokers[0].batches[0]
    assert record.value == b"\0\xff" * 50_000
    assert (record.topic, record.edge_id) == ("t", world.edge.edge_id)
    assert record.address.startswith("127.0.0.1:")
    assert not outcome
    world.confirm()
    assert outcome == [None]


def test_an_error_of_the_broker_is_the_edges(world: World) -> None:
    outcome = world.publish("t")
    world.brokers[0].failed(world.brokers[0].batches[0][0], "too large")
    world.gateway.advance(0.01)
    assert outcome == ["queue q0: too large"]


def test_other_topics_go_nowhere(world: World) -> None:
    assert world.publish("other") == ["topic not online"]
    assert not world.brokers[0].batches


def test_a_broker_that_is_away_fails_in_time_and_holds_up_nobody(world: World) -> None:
    world.brokers[0].lost[0]("gone")
    outcome = world.publish("t")
    assert not outcome
    service = world.gateway.service(topics=["s"])
    world.gateway.run(service.connect())
    published = world.edge.publish("s", b"x")
    world.gateway.run(service.receive()).ack()
    world.gateway.run(published)
    world.gateway.advance(6)
    assert outcome == ["queue q0: the broker is away: gone"]


def test_an_edge_that_left_is_told_nothing_and_its_message_goes_its_way(world: World) -> None:
    world.publish("t")
    world.gateway.run(world.edge.close(), within=10)
    world.confirm()
    assert world.queues.forwarders[0].counters.confirmed == 1


def test_one_of_several_takes_it_the_same_for_the_same_edge() -> None:
    world = World("t", count=3)
    for number in range(6):
        world.publish("t", b"%d" % number)
    counts = [sum(map(len, broker.batches)) for broker in world.brokers]
    assert sorted(counts) == [0, 0, 6]
    assert counts[world.edge.edge_id % 3] == 6
    world.close()


def test_a_service_is_a_candidate_too() -> None:
    world = World("t")
    service = world.gateway.service(topics=["t"])
    world.gateway.run(service.connect())
    candidates = ["service", "queue"]
    outcome = world.publish("t")
    if candidates[world.edge.edge_id % 2] == "queue":
        world.confirm()
    else:
        world.gateway.run(service.receive()).ack()
    world.gateway.advance(0.1)
    assert outcome == [None]
    world.close()


def test_all_of_them_where_it_is_configured() -> None:
    world = World("t", to_all=True, count=2)
    services = [world.gateway.service(name=name, topics=["t"]) for name in "ab"]
    for service in services:
        world.gateway.run(service.connect())
    outcome = world.publish("t", b"all")
    world.confirm(0)
    messages = [world.gateway.run(service.receive()) for service in services]
    assert [message.data for message in messages] == [b"all"] * 2
    assert messages[0].edge_id == world.edge.edge_id
    messages[0].ack()
    world.confirm(1)
    assert not outcome
    messages[1].ack()
    world.gateway.advance(0.1)
    assert outcome == [None]

    outcome = world.publish("t", b"partly")
    world.confirm(0)
    world.brokers[1].failed(world.brokers[1].batches.pop()[0], "full")
    for service in services:
        world.gateway.run(service.receive()).ack()
    world.gateway.advance(0.1)
    assert outcome == ["queue q1: full"]
    world.close()
    exchange = world.gateway.core.exchange
    assert exchange.pending_count == 0


def test_all_of_them_and_one_leaves() -> None:
    world = World("t", to_all=True)
    service = world.gateway.service(topics=["t"])
    world.gateway.run(service.connect())
    outcome = world.publish("t")
    world.confirm()
    world.gateway.run(service.close(), within=10)
    assert outcome == ["force closed"]
    world.close()


def test_everything_else() -> None:
    world = World("*")
    assert world.publish("whatever") == []
    world.confirm()
    service = world.gateway.service(topics=["mine"])
    world.gateway.run(service.connect())
    published = world.edge.publish("mine", b"x")
    world.gateway.run(service.receive()).ack()
    world.gateway.run(published)
    world.close()
