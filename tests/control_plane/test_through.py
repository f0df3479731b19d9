"""Calls and messages to peers for operators: whose error it is, deadlines, bounds, giving up."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from frontier_tx.rpc import through
from frontier_tx.rpc.status import RpcError
from tests.control_plane.world import CONTRACT, World, a_world

THROUGH = "frontier.v1.Through"


@pytest.fixture
def world() -> Iterator[World]:
    with a_world() as made:
        yield made
        assert (made.control.through.under_way.number, made.control.through.under_way.bytes) == (0, 0)


def refused(answer: Any) -> tuple[str, str]:
    assert isinstance(answer, RpcError)
    return answer.status.name, answer.message


def test_calls_both_sides(world: World) -> None:
    world.edge(7, methods=("echo",))
    service = world.gateway.service(service_id=9)
    world.gateway.run(service.connect())
    seen = []
    world.gateway.run(service.register("charge", lambda request: seen.append(request.edge_id) or b"done"))
    assert world.ask("CallEdge", THROUGH, edge_id=7, method="echo", data=b"\x00\xff").data == b"\x00\xff"
    assert world.ask("CallService", THROUGH, service_id=9, method="charge", data=b"x").data == b"done"
    assert seen == [0]


def test_whose_error_it_is(world: World) -> None:
    edge = world.edge(7)

    def fail(request: Any) -> bytes:
        raise ValueError("edge not online")

    world.gateway.run(edge.register("fail", fail))
    assert refused(world.ask("CallEdge", THROUGH, edge_id=7, method="fail"))[0] == "FAILED_PRECONDITION"
    nothing = refused(world.ask("CallEdge", THROUGH, edge_id=7, method="nothing"))
    assert nothing == ("NOT_FOUND", "no such rpc: nothing")
    assert refused(world.ask("CallEdge", THROUGH, edge_id=8, method="x")) == ("NOT_FOUND", "edge not online")
    assert refused(world.ask("CallService", THROUGH, service_id=8, method="x"))[1] == "service not online"
    assert refused(world.ask("CallEdge", THROUGH, edge_id=7))[0] == "INVALID_ARGUMENT"
    assert refused(world.ask("CallEdge", THROUGH, edge_id=7, method="x" * 5000))[1] == "method name too long"


def waiting_edge(world: World) -> Deferred[bytes]:
    """Edge 7, whose method waits for the Deferred."""
    answer: Deferred[bytes] = Deferred()
    world.gateway.run(world.edge(7, reconnect=None).register("wait", lambda request: answer))
    return answer


def call(world: World, **options: Any) -> Deferred[Any]:
    spec = CONTRACT.method(THROUGH, "CallEdge")
    answer = world.client.unary(spec, spec.request(edge_id=7, method="wait", data=b"x" * 100), **options)
    world.settle()
    return answer


def test_the_callers_deadline(world: World) -> None:
    answer = waiting_edge(world)
    outcome: list[Any] = []
    call(world, timeout=2.0).addBoth(outcome.append)
    assert world.until(lambda: bool(outcome)) <= 2.2
    assert outcome[0].value.status.name == "DEADLINE_EXCEEDED"
    assert not world.core.repository.edges[7].pending
    answer.callback(b"")
    world.settle()


def test_who_goes_away_gives_the_call_up(world: World) -> None:
    answer = waiting_edge(world)
    calling = call(world)
    calling.addErrback(lambda failure: None)
    assert len(world.core.repository.edges[7].pending) == world.control.through.under_way.number == 1
    calling.cancel()
    world.settle()
    assert not world.core.repository.edges[7].pending
    answer.callback(b"")
    world.settle()


@pytest.mark.parametrize("name", ["PublishToEdge", "PublishToService", "PublishToTopic"])
def test_a_message_that_nobody_acknowledges_holds_no_place(world: World, name: str) -> None:
    edge, service = world.edge(7), world.service(9, topics=("orders",))
    spec = CONTRACT.method(THROUGH, name)
    fields = {"edge_id": 7} if name == "PublishToEdge" else {"service_id": 9} if name == "PublishToService" else {}
    publishing = world.client.unary(spec, spec.request(topic="orders", data=b"x" * 100, **fields))
    publishing.addErrback(lambda failure: None)
    world.settle()
    assert world.control.through.under_way.number == 1
    publishing.cancel()
    world.settle()
    assert (world.control.through.under_way.number, world.control.through.under_way.bytes) == (0, 0)
    peer = edge if name == "PublishToEdge" else service
    got = world.gateway.run(Deferred.fromCoroutine(anext(aiter(peer))))
    got.ack()
    world.settle()
    legs = (world.core.repository.edges[7], world.core.repository.services[9])
    assert not any(leg.pending for leg in legs)


def test_one_address_leaves_places_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(through, "AT_ONCE", 10)
    places = through.UnderWay()
    for port in range(6):
        places.take(1, f"10.0.0.1:{port}")
    with pytest.raises(RpcError, match="too many"):
        places.take(1, "10.0.0.1:7")
    places.take(1, "10.0.0.2:1")
    for port in range(6):
        places.give_back(1, f"10.0.0.1:{port}")
    places.give_back(1, "10.0.0.2:1")
    assert (places.number, places.bytes) == (0, 0)


def test_an_edge_that_goes_meanwhile(world: World) -> None:
    answer = waiting_edge(world)
    outcome: list[Any] = []
    call(world).addErrback(lambda failure: outcome.append(failure.value))
    world.core.repository.edges[7].transport.abort("made up")
    world.until(lambda: bool(outcome))
    assert refused(outcome[0])[0] == "UNAVAILABLE"
    answer.callback(b"")


@pytest.mark.parametrize("bound", ["AT_ONCE", "BYTES_AT_ONCE"])
def test_bounds(world: World, monkeypatch: pytest.MonkeyPatch, bound: str) -> None:
    monkeypatch.setattr(through, bound, 1 if bound == "AT_ONCE" else 150)
    answer = waiting_edge(world)
    first, second = [], []
    call(world).addBoth(first.append)
    call(world).addErrback(lambda failure: second.append(failure.value))
    assert refused(second[0])[0] == "RESOURCE_EXHAUSTED"
    answer.callback(b"here")
    world.settle()
    assert first[0].data == b"here"


def test_messages(world: World) -> None:
    edge, service = world.edge(7), world.service(9, topics=("orders",))
    got: list[tuple[str, bytes]] = []

    async def take(peer: Any) -> None:
        async for message in peer:
            got.append((message.topic, message.data))
            message.ack()

    for peer in (edge, service):
        Deferred.fromCoroutine(take(peer)).addErrback(lambda failure: None)
    for name, fields in (
        ("PublishToEdge", {"edge_id": 7, "topic": "news"}),
        ("PublishToService", {"service_id": 9, "topic": "private"}),
        ("PublishToTopic", {"topic": "orders"}),
    ):
        assert not isinstance(world.ask(name, THROUGH, data=name.encode(), **fields), RpcError)
    assert got == [("news", b"PublishToEdge"), ("private", b"PublishToService"), ("orders", b"PublishToTopic")]
    assert refused(world.ask("PublishToTopic", THROUGH, topic="nobody")) == ("NOT_FOUND", "topic not online")
