"""Connections that break while something is under way, and ends that come back."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.interop.conftest import ConnectTo, StartGateway
from tests.interop.ends import End, Ends, decoded, fails, unique
from tests.interop.go_driver import GoDriver

pytestmark = pytest.mark.timeout(20)


def leave(end: End, how: str) -> None:
    if how == "cut":
        end.cut()
    else:
        end.driver.submit("close", name=end.name)


@pytest.mark.differs("it says EOF or mismatch streamID at times")
@pytest.mark.parametrize("how", ["cut", "close"])
def test_edge_leaves_while_it_is_called(ends: Ends, how: str) -> None:
    edge, service = ends.edge(), ends.service("any")
    edge.register("hang", sleep_ms=4000)
    calls = [service.start_call("hang", edge_id=edge.client_id) for _ in range(20)]
    edge.seen("hang", 20)
    leave(edge, how)
    for calling in calls:
        with fails("force closed"):
            calling.result(3)
    with fails("edge not online"):
        service.call("hang", edge_id=edge.client_id)


@pytest.mark.differs("it says EOF or mismatch streamID at times")
@pytest.mark.parametrize("how", ["cut", "close"])
def test_service_leaves_while_it_is_called(ends: Ends, how: str) -> None:
    edge, service = ends.edge(), ends.service("any")
    method = unique("hang")
    service.register(method, sleep_ms=4000)
    calls = [edge.start_call(method) for _ in range(20)]
    service.seen(method, 20)
    leave(service, how)
    for calling in calls:
        with fails("force closed"):
            calling.result(3)
    with fails("record not found"):
        edge.call(method)


@pytest.mark.differs("it lets the handler run on")
@pytest.mark.parametrize("how", ["cut", "close"])
def test_handler_ends_when_the_calling_service_leaves(ends: Ends, how: str) -> None:
    edge, service = ends.edge(), ends.service("any")
    edge.register("hang", until_done=True)
    service.start_call("hang", edge_id=edge.client_id)
    edge.seen("hang")
    leave(service, how)
    assert edge.seen("hang", ended=True)[0].ended == "context canceled"


@pytest.mark.differs("it lets the handler run on")
@pytest.mark.parametrize("how", ["cut", "close"])
def test_handler_ends_when_the_calling_edge_leaves(ends: Ends, how: str) -> None:
    edge, service = ends.edge(), ends.service("any")
    method = unique("hang")
    service.register(method, until_done=True)
    edge.start_call(method)
    service.seen(method)
    leave(edge, how)
    assert service.seen(method, ended=True)[0].ended == "context canceled"


@pytest.mark.differs("it says EOF or mismatch streamID at times")
def test_message_that_nobody_can_acknowledge_any_more(ends: Ends) -> None:
    topic = unique("topic")
    edge, service = ends.edge(), ends.service("any", [topic])
    down = service.start_publish(b"well?", edge_id=edge.client_id)
    edge.receive()
    edge.cut()
    with fails("force closed"):
        down.result(3)
    up = ends.edge().start_publish(b"well?", topic=topic)
    service.receive()
    service.cut()
    with fails("force closed"):
        up.result(3)


def test_other_ends_do_not_notice_a_loss(ends: Ends) -> None:
    lost, kept, service = ends.edge(), ends.edge(), ends.service("any")
    for edge in (lost, kept):
        edge.register("echo", echo=True)
    calling = service.driver.submit(
        "call_many",
        name=service.name,
        method="echo",
        count=3000,
        width=32,
        size=50,
        edge_ids=[kept.client_id],
    )
    for _ in range(20):
        service.start_call("echo", edge_id=lost.client_id).exception(5)
    lost.cut()
    calling.result(15)


def test_edges_come_and_go_in_numbers(ends: Ends) -> None:
    ids = ends.edges_come_and_go(300, 30, patience=15)
    assert len(set(ids)) == 300


def test_reconnecting_ends_are_called_again(ends: Ends) -> None:
    topic, method = unique("topic"), unique("echo")
    edge, service = ends.edge(b"retry", retry=True), ends.service(unique("service"), [topic], retry=True)
    edge.register("echo", echo=True)
    service.register(method, echo=True)
    first = edge.client_id
    assert service.call("echo", b"1", edge_id=first) == b"1"
    assert edge.call(method, b"1") == b"1"
    edge.cut()
    service.cut()
    edge.reonline(10)
    service.reonline(10)
    assert edge.client_id != first
    assert service.call("echo", b"2", edge_id=edge.client_id) == b"2"
    assert edge.call(method, b"2") == b"2"
    with fails("edge not online"):
        service.call("echo", edge_id=first)
    service.drain()
    edge.publish(b"3", topic=topic)
    assert service.drained(1) == ["3"]


@pytest.fixture
def other_go(go: GoDriver, tmp_path: Path) -> Iterator[GoDriver]:
    """A second Go program."""
    driver = GoDriver(go.program, tmp_path / "goends.log")
    yield driver
    driver.stop()


@pytest.mark.differs("G9: it waits for the old one")
def test_a_frozen_edge_is_replaced_at_once(ends_of: ConnectTo, gateway_with: StartGateway, other_go: GoDriver) -> None:
    gateway = gateway_with()
    ends = ends_of(gateway)
    service = ends.service("any")
    service.register("get_edge_id", data=(77).to_bytes(8, "big"))
    frozen = Ends(other_go, other_go, gateway.edge, gateway.service).edge()
    frozen.register("echo", echo=True)
    assert service.call("echo", b"old", edge_id=77) == b"old"
    other_go.freeze()
    hanging = service.start_call("echo", edge_id=77)
    began = time.monotonic()
    edge = ends.edge()
    assert time.monotonic() - began < 3
    assert edge.client_id == frozen.client_id == 77
    edge.register("echo", echo=True)
    assert service.call("echo", b"new", edge_id=77) == b"new"
    with fails("force closed"):
        hanging.result(1)


def test_a_gateway_that_stops_lets_calls_end(go: GoDriver, gateway_with: StartGateway) -> None:
    gateway = gateway_with()
    ends = Ends(go, go, gateway.edge, gateway.service)
    edge, idle, service = ends.edge(), ends.edge(), ends.service("any")
    edge.register("slow", data=b"done", sleep_ms=400)
    calling = service.start_call("slow", edge_id=edge.client_id)
    edge.seen("slow")
    gateway.ask_to_stop()
    assert decoded(calling.result(3), "data") == b"done"
    for end in (idle, edge, service):
        end.offline(5)
    until = time.monotonic() + 5
    while gateway.alive() and time.monotonic() < until:
        time.sleep(0.02)
    assert not gateway.alive()
