"""Spans of an exchange, and the context that it takes and hands on."""

from functools import partial
from typing import Any

import pytest

from frontier_tx.queues.headers import lasting_headers
from frontier_tx.queues.record import Record
from frontier_tx.switch.legs import Leg
from frontier_tx.tracing.exchange import TracedExchange
from frontier_tx.wire.trace_context import put, take
from tests import packets as p
from tests.switch.world import Peer, World

PARENT = f"00-{'a' * 32}-{'b' * 16}-01"
OWN = f"00-{'a' * 32}-{'c' * 16}-01"


class FakeSpan:
    traceparent = OWN

    def __init__(self, leg: Leg, call: bool, name: str, parent: str) -> None:
        self.begun = (leg.kind.value, call, name, parent)
        self.target = ""
        self.ends: list[str] = []

    def went_to(self, target: Leg) -> None:
        self.target = target.kind.value

    def end(self, error: str) -> None:
        self.ends.append(error)


class FakeTracer:
    def __init__(self) -> None:
        self.spans: list[FakeSpan] = []

    def begin(self, leg: Leg, call: bool, name: str, traceparent: str) -> FakeSpan:
        self.spans.append(FakeSpan(leg, call, name, traceparent))
        return self.spans[-1]

    def one(self) -> FakeSpan:
        assert len(self.spans) == 1
        return self.spans.pop()


class TracedWorld(World):
    def __init__(self, **options: Any) -> None:
        self.tracer = FakeTracer()
        super().__init__(exchange=partial(TracedExchange, tracer=self.tracer), **options)

    def nothing_open(self) -> None:
        spans = self.core.exchange.answers.spans  # type: ignore[attr-defined]
        assert (spans.open, spans.errors, spans.current) == ({}, {}, None)


@pytest.fixture
def world() -> TracedWorld:
    return TracedWorld()


def service_of(world: World, trace_context: int = 0) -> Peer:
    return world.service(topics=("t",), methods=(b"m",), trace_context=trace_context)


@pytest.mark.parametrize("near", [0, 1])
@pytest.mark.parametrize("far", [0, 1])
def test_a_context_goes_as_far_as_the_ends_take_it(world: TracedWorld, near: int, far: int) -> None:
    service, edge = service_of(world, trace_context=far), world.edge(trace_context=near)
    custom = put(PARENT, b"mine") if near else b"mine"
    edge.call(b"m", custom=custom)
    edge.publish(topic="t", custom=custom)
    for packet in (service.request(), service.message()):
        context, rest = take(packet.data.custom) if far else ("", packet.data.custom)
        assert (context, rest) == (OWN if far else "", b"mine" + edge.id.to_bytes(8))
        service.respond(packet, b"yes")
    assert edge.response().data.payload == b"yes"
    call, message = world.tracer.spans
    assert call.begun == ("edge", True, "m", PARENT if near else "")
    assert message.begun == ("edge", False, "t", PARENT if near else "")
    assert (call.target, call.ends) == (message.target, message.ends) == ("service", [""])
    world.nothing_open()


@pytest.mark.parametrize("near", [0, 1])
@pytest.mark.parametrize("far", [0, 1])
def test_the_same_from_a_service(world: TracedWorld, near: int, far: int) -> None:
    service, edge = service_of(world, trace_context=near), world.edge(trace_context=far)
    custom = b"mine" + edge.id.to_bytes(8)
    service.call(b"n", custom=put(PARENT, custom) if near else custom)
    request = edge.request()
    assert request.data.custom == (put(OWN, b"mine") if far else b"mine")
    edge.respond(request, error="no")
    assert service.response().data.error == "no"
    span = world.tracer.one()
    assert (span.begun, span.target, span.ends) == (("service", True, "n", PARENT if near else ""), "edge", ["no"])


def test_on_streams(world: TracedWorld) -> None:
    service, edge = service_of(world, trace_context=1), world.edge(trace_context=1)
    near, far = world.stream(service, edge, str(edge.id))
    service.call(b"n", custom=put(PARENT, b"mine"), session=near)
    request = edge.request()
    assert request.session_id == far
    assert request.data.custom == put(OWN, b"mine")
    edge.dismiss(far)
    world.advance(0.1)
    assert world.tracer.one().ends == ["force closed"]
    world.nothing_open()


def test_what_goes_nowhere(world: TracedWorld) -> None:
    edge = world.edge()
    edge.call(b"m")
    assert world.tracer.one().ends == ["record not found"]
    service_of(world)
    edge.call(b"m", session=77)
    edge.call(b"m")
    edge.cut()
    world.advance(0.1)
    assert [span.ends for span in world.tracer.spans] == [[""]]
    world.nothing_open()


def test_time_runs_out(world: TracedWorld) -> None:
    service_of(world)
    world.edge().call(b"m", deadline=world.text(1))
    world.advance(2)
    assert world.tracer.one().ends == ["context deadline exceeded"]
    world.nothing_open()


def test_what_the_gateway_asks_for_itself_has_no_context(world: TracedWorld) -> None:
    service = world.service(methods=(b"get_edge_id",), trace_context=1)
    edge = world.connect(world.core.edges)
    edge.conn(trace_context=1)
    request = service.request()
    assert take(request.data.custom) == ("", b"")
    service.respond(request, (7).to_bytes(8))
    world.advance()
    assert edge.one(p.ConnAck).data.trace_context == 1
    assert world.tracer.spans == []


def test_a_gateway_without_traces_says_nothing_of_them() -> None:
    world = World()
    edge = world.connect(world.core.edges)
    edge.conn(trace_context=1)
    assert edge.one(p.ConnAck).data.trace_context == 0


@pytest.mark.parametrize("custom", [b"\x05abc", b"\x37" + b"x" * 55, bytes(1), b"\xff" * 10, b"\x37" + b"\xff" * 55])
def test_a_context_that_is_none(world: TracedWorld, custom: bytes) -> None:
    service_of(world)
    world.edge(trace_context=1).call(b"m", custom=custom)
    assert world.tracer.one().begun[3] == ""


class FakeQueues:
    to_all = False

    def __init__(self) -> None:
        self.contexts: list[str] = []

    def of_topic(self, topic: str) -> list[Any]:
        return [self] if topic == "q" else []

    def publish(self, *args: Any) -> None:
        self.contexts.append(args[-1])
        args[-2]("")


def test_a_queue_gets_the_context_of_the_edge() -> None:
    queues = FakeQueues()
    world = TracedWorld(queues=queues)
    world.edge(trace_context=1).publish(topic="q", custom=put(PARENT, b""))
    world.edge().publish(topic="q", custom=put(PARENT, b""))
    assert queues.contexts == [PARENT, ""]
    assert world.tracer.spans == []
    record = Record("q", b"", 7, "h:1", 0.0, 7, None, PARENT)
    assert ("traceparent", PARENT) in lasting_headers(record, "gw")
