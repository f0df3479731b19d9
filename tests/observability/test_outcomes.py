"""What became of calls and messages, as /metrics tells it."""

from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from frontier_tx.gateway.metrics import GatewayCollector
from frontier_tx.switch.legs import Kind
from frontier_tx.switch.local import LocalCaller
from frontier_tx.switch.settings import Settings
from frontier_tx.switch.tally import Tally
from frontier_tx.wire import frame as f
from tests.switch.world import Peer, World


class Figures:
    """Outcomes and times of one world."""

    def __init__(self, world: World) -> None:
        self.registry = CollectorRegistry()
        self.registry.register(GatewayCollector(world.core, world.clock))

    def outcomes(self, what: str) -> dict[tuple[str, str], float]:
        """What is not zero, by direction and outcome."""
        return {
            (sample.labels["direction"], sample.labels["outcome"]): sample.value
            for family in self.registry.collect()
            for sample in family.samples
            if sample.name == f"frontier_{what}_total" and sample.value
        }

    def below(self, what: str, direction: str, bound: str) -> float | None:
        labels = {"direction": direction, "le": bound}
        return self.registry.get_sample_value(f"frontier_{what}_seconds_bucket", labels)

    def seconds(self, what: str, direction: str) -> float | None:
        return self.registry.get_sample_value(f"frontier_{what}_seconds_sum", {"direction": direction})


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def figures(world: World) -> Figures:
    return Figures(world)


def test_calls_that_are_answered(world: World, figures: Figures) -> None:
    service, edge = world.service(methods=(b"m",)), world.edge()
    edge.call(b"m")
    world.advance(0.02)
    service.respond(service.request(), b"yes")
    service.call(b"n", custom=edge.id.to_bytes(8))
    edge.respond(edge.request(), error="no")
    service.call(b"n", custom=edge.id.to_bytes(8))
    edge.respond(edge.request(), error="no such rpc: n")
    assert figures.outcomes("calls") == {
        ("edge_to_service", "ok"): 1,
        ("service_to_edge", "peer_error"): 1,
        ("service_to_edge", "no_such_method"): 1,
    }
    assert (figures.below("call", "edge_to_service", "0.01"), figures.below("call", "edge_to_service", "0.025")) == (
        0,
        1,
    )
    assert figures.seconds("call", "edge_to_service") == pytest.approx(0.02)
    assert figures.below("call", "service_to_edge", "+Inf") == 2


def test_calls_that_go_nowhere(world: World, figures: Figures) -> None:
    service, edge = world.service(), world.edge()
    edge.call(b"unknown")
    service.call(b"n", custom=bytes(8))
    service.call(b"n", custom=b"")
    edge.call(b"x" * 5000)
    assert figures.outcomes("calls") == {
        ("edge_to_service", "no_receiver"): 2,
        ("service_to_edge", "no_receiver"): 1,
        ("service_to_edge", "invalid"): 1,
    }
    assert figures.below("call", "edge_to_service", "+Inf") == 0


def test_calls_that_end_before_their_answer(world: World, figures: Figures) -> None:
    service, edge, other = world.service(methods=(b"m",)), world.edge(), world.edge()
    edge.call(b"m", deadline=world.text(1))
    world.advance(2)
    edge.call(b"m")
    world.advance(31)
    number = edge.call(b"m")
    edge.cancel(number)
    other.call(b"m")
    other.cut()
    edge.call(b"m")
    service.cut()
    world.advance(0.1)
    assert figures.outcomes("calls") == {
        ("edge_to_service", outcome): 1
        for outcome in ("deadline", "timeout", "canceled", "caller_gone", "receiver_gone")
    }


def test_messages(world: World, figures: Figures) -> None:
    service, edge, other = world.service(topics=("t",)), world.edge(), world.edge()
    edge.publish(topic="t")
    service.respond(service.message())
    edge.publish(topic="t")
    service.respond(service.message(), error="no")
    edge.publish(topic="elsewhere")
    other.publish(topic="t")
    given = service.message()
    other.cut()
    service.respond(given)
    assert figures.outcomes("messages") == {
        ("edge_to_service", outcome): 1 for outcome in ("ok", "peer_error", "no_receiver", "caller_gone")
    }
    assert figures.below("message", "edge_to_service", "+Inf") == 2


def test_what_cannot_wait(figures: Figures) -> None:
    world = World(settings=Settings(pending_per_connection=1))
    figures = Figures(world)
    world.service(methods=(b"m",))
    edge = world.edge()
    edge.call(b"m")
    edge.call(b"m")
    assert figures.outcomes("calls") == {("edge_to_service", "congested"): 1}


def test_an_answer_that_its_caller_cannot_take(world: World, figures: Figures) -> None:
    service, edge = world.service(methods=(b"m",), frame_limit=16 << 20), world.edge()
    edge.call(b"m")
    service.respond(service.request(), bytes(10 << 20))
    assert edge.response().data.error == "packet payload too large"
    assert figures.outcomes("calls") == {("edge_to_service", "undeliverable"): 1}


def test_an_answer_that_cannot_be_read_is_none(world: World, figures: Figures) -> None:
    service, edge = world.service(methods=(b"m",)), world.edge()
    edge.call(b"m")
    service.raw(f.pack_of_session(f.RESPONSE, service.request().packet_id, 1, b"[]"))
    world.advance(0.1)
    assert service.closed
    assert figures.outcomes("calls") == {("edge_to_service", "receiver_gone"): 1}
    assert figures.below("call", "edge_to_service", "+Inf") == 0


def test_a_stream_that_ends_takes_its_calls_along(world: World, figures: Figures) -> None:
    service, edge = world.service(), world.edge()
    near, far = world.stream(service, edge, str(edge.id))
    service.call(b"m", session=near)
    edge.take()
    edge.dismiss(far)
    world.advance(0.1)
    assert figures.outcomes("calls") == {("service_to_edge", "receiver_gone"): 1}
    near, far = world.stream(service, edge, str(edge.id))
    service.call(b"m", session=near)
    service.cut()
    world.advance(0.1)
    assert figures.outcomes("calls")["service_to_edge", "receiver_gone"] == 2


def test_calls_of_operators_count_as_those_of_the_other_side(world: World, figures: Figures) -> None:
    edge = world.edge()
    told: list[Any] = []
    LocalCaller(world.core.exchange, world.wall_now).call(edge.leg, "m", b"", None, lambda *what: told.append(what))
    world.advance()
    edge.respond(edge.request(), b"yes")
    assert told == [(b"yes", "", True)]
    assert figures.outcomes("calls") == {("service_to_edge", "ok"): 1}


def test_what_the_gateway_asks_for_itself_does_not_count(figures: Figures) -> None:
    world = World()
    figures = Figures(world)
    service = world.service(methods=(b"get_edge_id",))
    edge = world.connect(world.core.edges)
    edge.conn(b"")
    service.respond(service.request(), (7).to_bytes(8))
    world.advance()
    assert edge.id == 7
    assert figures.outcomes("calls") == {}


def test_bytes_of_streams_by_direction(world: World, figures: Figures) -> None:
    service, edge = world.service(), world.edge()
    near, far = world.stream(service, edge, str(edge.id))
    service.stream(near, bytes(100))
    edge.stream(far, bytes(7))
    registry = figures.registry
    assert registry.get_sample_value("frontier_stream_bytes_total", {"direction": "service_to_edge"}) == 100
    assert registry.get_sample_value("frontier_stream_bytes_total", {"direction": "edge_to_service"}) == 7


def test_each_outcome_is_there_from_the_start() -> None:
    assert set(Tally().outcomes().values()) == {0}
    assert len(Tally().outcomes()) == 13


def peer_of(world: World, kind: Kind) -> Peer:
    return world.edge() if kind is Kind.EDGE else world.service()


@pytest.mark.parametrize("kind", list(Kind))
def test_bytes_of_those_who_left_stay_counted(world: World, figures: Figures, kind: Kind) -> None:
    peer = peer_of(world, kind)
    side = {"side": f"{kind.value}bound"}
    came = figures.registry.get_sample_value("frontier_received_bytes_total", side)
    went = figures.registry.get_sample_value("frontier_sent_bytes_total", side)
    assert came and went == peer.received
    peer.send_bare(f.FrameType.HEARTBEAT)
    world.everybody_leaves()
    assert figures.registry.get_sample_value("frontier_received_bytes_total", side) == came + 14
    assert figures.registry.get_sample_value("frontier_sent_bytes_total", side) == went + 14
