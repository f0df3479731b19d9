"""Messages between Go edges and Go services, acknowledged end to end."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from tests.interop.ends import End, EndError, Ends, fails, unique

pytestmark = pytest.mark.timeout(20)


@dataclass(frozen=True)
class Way:
    """One direction: who publishes to whom, and what the sender must say to reach the other."""

    sender: End
    receiver: End
    options: dict[str, Any]
    topic: str
    down: bool


@pytest.fixture(params=["service_to_edge", "edge_to_service"])
def way(request: pytest.FixtureRequest, paired: Ends) -> Way:
    topic = unique("topic")
    edge, service = paired.edge(b"edge"), paired.service(unique("service"), [topic])
    if request.param == "service_to_edge":
        return Way(service, edge, {"edge_id": edge.client_id, "topic": topic}, topic, True)
    return Way(edge, service, {"topic": topic}, topic, False)


def test_message_arrives_and_is_acknowledged_by_the_receiver(way: Way) -> None:
    publishing = way.sender.start_publish(b"news", custom=b"mine", **way.options)
    message = way.receiver.receive()
    assert (message.data, message.topic, message.custom) == (b"news", way.topic, b"mine")
    assert message.edge_id == (0 if way.down else way.sender.client_id)
    assert not publishing.done()
    message.done()
    publishing.result(5)


def test_refusal_of_the_receiver_comes_back(way: Way) -> None:
    publishing = way.sender.start_publish(b"news", **way.options)
    way.receiver.receive().refuse("not now")
    with fails("not now"):
        publishing.result(5)


def test_asynchronous_publish(way: Way) -> None:
    publishing = way.sender.start_publish(b"news", is_async=True, **way.options)
    way.receiver.receive().refuse("later")
    with fails("later"):
        publishing.result(5)


def test_at_most_once_does_not_wait(way: Way) -> None:
    way.sender.publish(b"news", at_most_once=True, **way.options)
    message = way.receiver.receive()
    assert message.data == b"news"
    message.done()


@pytest.mark.parametrize("size", [0, 1 << 20, 7_800_000], ids=["none", "1MiB", "7.8MB"])
def test_payload_is_untouched(way: Way, size: int) -> None:
    data = (bytes(range(256)) * (size // 256 + 1))[:size]
    publishing = way.sender.start_publish(data, **way.options)
    message = way.receiver.receive(10)
    assert message.data == data
    message.done()
    publishing.result(10)


def test_three_thousand_at_once_arrive_once_and_in_order(way: Way) -> None:
    way.receiver.drain()
    publishing = way.sender.start_publish_many(3000, **way.options)
    assert way.receiver.drained(3000) == [str(number) for number in range(3000)]
    publishing.result(10)


@pytest.mark.differs("G2: one message at a time per connection")
def test_any_number_may_wait_for_their_acknowledgement(way: Way) -> None:
    publishing = [way.sender.start_publish(str(number).encode(), **way.options) for number in range(100)]
    messages = [way.receiver.receive() for _ in range(100)]
    assert {message.data for message in messages} == {str(number).encode() for number in range(100)}
    for message in reversed(messages):
        message.done()
    for future in publishing:
        future.result(5)


def test_timeout_option_ends_the_publish(way: Way) -> None:
    with fails("timeout"):
        way.sender.publish(b"news", timeout_ms=200, **way.options)


def test_deadline_ends_the_publish(way: Way) -> None:
    with fails("context deadline exceeded"):
        way.sender.publish(b"news", deadline_ms=200, **way.options)


@pytest.mark.differs("G2: the message that nobody takes blocks the next")
def test_late_acknowledgement_harms_nothing(way: Way) -> None:
    with fails("timeout"):
        way.sender.publish(b"first", timeout_ms=100, **way.options)
    way.receiver.receive().done()
    publishing = way.sender.start_publish(b"second", **way.options)
    message = way.receiver.receive()
    assert message.data == b"second"
    message.done()
    publishing.result(5)


@pytest.mark.differs("G1: the failure stops all later messages of the service")
def test_edge_that_is_not_there(ends: Ends) -> None:
    edge, service = ends.edge(), ends.service("any")
    edge.drain()
    for _ in range(3):
        with fails("edge not online"):
            service.publish(b"lost", edge_id=4242)
        service.publish(b"found", edge_id=edge.client_id)
    assert edge.drained(3) == ["found"] * 3


@pytest.mark.differs("G3: it dies")
@pytest.mark.parametrize("custom", [None, b"short"])
def test_message_of_a_service_without_an_edge_id(ends: Ends, custom: bytes | None) -> None:
    with fails("illegal edgeID"):
        ends.service("any").publish(b"lost", custom=custom)


@pytest.mark.parametrize("topic", ["", "nobody-takes-this"])
def test_topic_that_nobody_takes(ends: Ends, topic: str) -> None:
    with fails("topic not online"):
        ends.edge().publish(b"lost", topic=topic)


@pytest.mark.differs("it says EOF or nothing when the owner of a topic has just left")
def test_topics_vanish_with_their_owner(ends: Ends) -> None:
    topic = unique("topic")
    edge, service = ends.edge(), ends.service("any", [topic])
    service.drain()
    edge.publish(b"found", topic=topic)
    service.close()
    with fails("topic not online"):
        edge.publish(b"lost", topic=topic)


def test_topics_are_told_apart(ends: Ends) -> None:
    topics = [unique("topic"), unique("topic")]
    services = [ends.service("any", [topic]) for topic in topics]
    edge = ends.edge()
    for service in services:
        service.drain()
    for topic in topics * 2:
        edge.publish(topic.encode(), topic=topic)
    for topic, service in zip(topics, services, strict=True):
        assert service.drained(2) == [topic, topic]


def test_one_of_several_services_takes_each_message(ends: Ends) -> None:
    topic = unique("topic")
    services = [ends.service("any", [topic]) for _ in range(2)]
    edges = [ends.edge() for _ in range(4)]
    for service in services:
        service.drain()
    for edge in edges:
        edge.publish(b"one", topic=topic)
    assert sum(_count(service) for service in services) == 4


@pytest.mark.differs("G2: one silent edge holds up the messages of a service to all others")
def test_silent_edge_delays_no_other(ends: Ends) -> None:
    silent, lively, service = ends.edge(), ends.edge(), ends.service("any")
    lively.drain()
    hanging = [service.start_publish(b"well?", edge_id=silent.client_id) for _ in range(50)]
    silent.receive()
    service.start_publish_many(500, edge_id=lively.client_id).result(5)
    assert lively.drained(500) == [str(number) for number in range(500)]
    assert not any(future.done() for future in hanging)


def test_many_edges_publish_at_once(ends: Ends) -> None:
    topic = unique("topic")
    service = ends.service("any", [topic])
    service.drain()
    edges = [ends.edge() for _ in range(30)]
    sending = [edge.start_publish_many(50, topic=topic) for edge in edges]
    assert sorted(service.drained(1500), key=int) == _texts(50, 30)
    for future in sending:
        future.result(5)


def _texts(count: int, times: int) -> Sequence[str]:
    return [str(number) for number in range(count) for _ in range(times)]


def _count(service: End) -> int:
    count = 0
    with contextlib.suppress(EndError):
        while service.drained(1, wait=0.3):
            count += 1
    return count
