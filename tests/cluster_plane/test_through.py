"""Calls and messages to edges of the cluster: found, told whose error it is, bounded; connections come and go."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from frontier_tx.clients import Edge, HandlerError, Service
from frontier_tx.rpc import through as shared
from frontier_tx.testing import MemoryGateway
from frontier_tx.testing.memory import WALL_START
from frontlas_tx.cluster_plane import callers
from frontlas_tx.registry.records import Report, ReportKind
from tests.cluster_plane.world import World, a_world
from tests.rpc.recorder import Recorder, ask
from tests.rpc.support import outcome


class Cluster:
    """A Frontlas, and gateways in memory that somebody else reports to it."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.gateways: dict[str, MemoryGateway] = {}
        self.made: list[Service] = []

    def make(self, host: str, port: int) -> Service:
        """What connects Frontlas to a gateway."""
        gateway = self.gateways[host]
        service = Service(
            gateway.service_endpoint,
            name=callers.NAME,
            reactor=gateway.clock,
            wall_clock=gateway.wall_clock,
            reconnect=None,
        )
        self.made.append(service)
        return service

    def gateway(self, name: str, version: str = "1.0") -> MemoryGateway:
        """One more gateway; its address is its name."""
        gateway = self.gateways[name] = MemoryGateway(self.world.clock)
        self.world.frontier(name, f"{name}:30011", version=version)
        return gateway

    def edge(self, name: str, **handlers: Any) -> Edge:
        """An edge there, which Frontlas knows of."""
        gateway = self.gateways[name]
        edge = gateway.edge(reconnect=None)
        gateway.run(edge.connect())
        for method, handler in handlers.items():
            gateway.run(edge.register(method, handler))
        self.report(name, edge.edge_id)
        return edge

    def report(self, name: str, edge_id: int) -> None:
        """Let Frontlas know that an edge is there."""
        claim = self.world.registry.real._holders[name].claim
        assert outcome(self.world.registry.report(claim, [Report(ReportKind.EDGE_ONLINE, edge_id, "a:1")])) == [None]

    def post(self, path: str, body: bytes = b"") -> Recorder:
        """The answer to a request; time passes as far as it must."""
        answer = self.start(path, body)
        self.until(lambda: bool(answer.status))
        return answer

    def start(self, path: str, body: bytes = b"") -> Recorder:
        return ask(self.world.router, "POST", f"/cluster/v1/edges/{path}", {}, body)

    def until(self, condition: Any) -> None:
        for _ in range(100):
            if condition():
                return
            self.world.clock.advance(0.01)
        raise AssertionError("it does not come")

    def close(self) -> None:
        for gateway in self.gateways.values():
            gateway.close()


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    made: list[Cluster] = []
    with a_world(
        make_service=lambda host, port: made[0].make(host, port),
        wall_clock=lambda: WALL_START + made[0].world.clock.seconds(),
    ) as world:
        made.append(Cluster(world))
        yield made[0]
        under_way = world.plane.through.under_way
        assert (under_way.number, under_way.bytes) == (0, 0)
        made[0].close()


def refused(answer: Recorder) -> tuple[int, str, str]:
    return answer.status, answer.json["reason"], answer.json["message"]


def fail(request: Any) -> bytes:
    raise HandlerError("out of paper")


def test_the_right_frontier_is_found(cluster: Cluster) -> None:
    for name in ("east", "west"):
        cluster.gateway(name)
    edges = {name: cluster.edge(name, who=lambda _, name=name: name.encode()) for name in ("east", "west")}
    for name, edge in edges.items():
        answer = cluster.post(f"{edge.edge_id}/rpcs/who")
        assert (answer.status, answer.body, answer.headers["content-type"]) == (
            200,
            name.encode(),
            "application/octet-stream",
        )
    for edge in edges.values():
        cluster.post(f"{edge.edge_id}/rpcs/who")
    assert len(cluster.made) == 2


def test_whose_error_it_is(cluster: Cluster) -> None:
    cluster.gateway("east")
    number = cluster.edge("east", fail=fail).edge_id
    assert refused(cluster.post(f"{number}/rpcs/fail")) == (422, "EDGE_ERROR", "out of paper")
    assert refused(cluster.post(f"{number}/rpcs/none")) == (404, "NO_SUCH_RPC", "no such rpc: none")
    assert refused(cluster.post("4711/rpcs/fail")) == (404, "NOT_FOUND", "edge not online")
    assert refused(cluster.post("0/rpcs/fail"))[0] == 404
    assert cluster.world.ask("CallEdge", "frontlas.v1.Through", edge_id=number).status.name == "INVALID_ARGUMENT"


def test_a_frontier_that_cannot_be_reached_is_named(cluster: Cluster) -> None:
    gateway = cluster.gateway("east")
    number = cluster.edge("east", who=fail).edge_id
    gateway.listen(False)
    status, reason, text = refused(cluster.post(f"{number}/rpcs/who"))
    assert (status, reason) == (503, "UNAVAILABLE")
    assert text.startswith("frontier east at east:30011 cannot be reached: ")
    assert len(cluster.world.plane.callers or ()) == 0
    gateway.listen(True)
    assert cluster.post(f"{number}/rpcs/who").status == 422


def test_a_connection_that_ended_meanwhile_is_made_anew(cluster: Cluster) -> None:
    gateway = cluster.gateway("east")
    number = cluster.edge("east", fail=fail).edge_id
    cluster.post(f"{number}/rpcs/fail")
    for leg in list(gateway.core.repository.services.values()):
        leg.transport.abort("the network failed")
    gateway.advance(0.1)
    assert cluster.post(f"{number}/rpcs/fail").status == 422
    assert len(cluster.made) == 2


def test_a_connection_that_ends_under_a_call(cluster: Cluster) -> None:
    gateway = cluster.gateway("east")
    number = cluster.edge("east", wait=lambda _: Deferred()).edge_id
    answer = cluster.start(f"{number}/rpcs/wait")
    cluster.until(lambda: gateway.core.repository.edges[number].pending)
    for leg in list(gateway.core.repository.services.values()):
        leg.transport.abort("the network failed")
    cluster.until(lambda: bool(answer.status))
    text = "the connection to frontier east ended before the edge answered"
    assert refused(answer) == (503, "UNAVAILABLE", text)


def test_an_edge_that_moved(cluster: Cluster) -> None:
    cluster.gateway("east")
    west = cluster.gateway("west")
    edge = cluster.edge("west", who=lambda _: b"here")
    cluster.report("east", edge.edge_id)
    # East does not have it; by the time of the second look Frontlas knows better.
    asked = cluster.world.registry.real.frontier_of_edge
    answer = cluster.start(f"{edge.edge_id}/rpcs/who")
    cluster.report("west", edge.edge_id)
    cluster.until(lambda: bool(answer.status))
    assert (answer.status, answer.body, len(cluster.made)) == (200, b"here", 2)
    assert outcome(asked(edge.edge_id)).frontier_id == "west"
    assert west.core.repository.edges


def test_a_deadline_ends_the_call_at_the_edge(cluster: Cluster) -> None:
    gateway = cluster.gateway("east")
    number = cluster.edge("east", wait=lambda _: Deferred()).edge_id
    answer = cluster.start(f"{number}/rpcs/wait?timeout=500ms")
    cluster.until(lambda: gateway.core.repository.edges[number].pending)
    cluster.until(lambda: bool(answer.status))
    assert answer.status == 504
    gateway.advance(0.1)
    assert not gateway.core.repository.edges[number].pending


def test_a_caller_that_leaves_withdraws_the_call(cluster: Cluster) -> None:
    gateway = cluster.gateway("east")
    number = cluster.edge("east", wait=lambda _: Deferred()).edge_id
    answer = cluster.start(f"{number}/rpcs/wait")
    cluster.until(lambda: gateway.core.repository.edges[number].pending)
    assert answer.on_gone is not None
    answer.on_gone()
    gateway.advance(0.1)
    assert not gateway.core.repository.edges[number].pending


def test_a_message_is_answered_when_it_is_acknowledged(cluster: Cluster) -> None:
    gateway = cluster.gateway("east")
    edge = cluster.edge("east")
    answer = cluster.start(f"{edge.edge_id}/messages?topic=t", b"hello")
    message = gateway.run(edge.receive())
    assert (message.topic, message.data, answer.status) == ("t", b"hello", 0)
    message.ack()
    cluster.until(lambda: bool(answer.status))
    assert (answer.status, answer.json) == (200, {})
    answer = cluster.start(f"{edge.edge_id}/messages", b"again")
    gateway.run(edge.receive()).fail("full")
    cluster.until(lambda: bool(answer.status))
    assert refused(answer) == (422, "EDGE_ERROR", "full")


@pytest.mark.parametrize("bound", ["AT_ONCE", "BYTES_AT_ONCE"])
def test_what_is_under_way_is_bounded(cluster: Cluster, monkeypatch: pytest.MonkeyPatch, bound: str) -> None:
    monkeypatch.setattr(shared, bound, 1 if bound == "AT_ONCE" else 150)
    gateway = cluster.gateway("east")
    number = cluster.edge("east", wait=lambda _: Deferred()).edge_id
    first = cluster.start(f"{number}/rpcs/wait", b"x" * 100)
    cluster.until(lambda: gateway.core.repository.edges[number].pending)
    assert cluster.post(f"{number}/rpcs/wait", b"x" * 100).status == 429
    assert first.on_gone is not None
    first.on_gone()


def test_idle_connections_are_closed(cluster: Cluster) -> None:
    gateway = cluster.gateway("east")
    number = cluster.edge("east", fail=fail).edge_id
    cluster.post(f"{number}/rpcs/fail")
    assert [leg.name for leg in gateway.core.repository.services.values()] == ["frontlas"]
    gateway.advance(callers.IDLE_SECONDS * 1.5)
    assert not gateway.core.repository.services
    assert len(cluster.world.plane.callers or ()) == 0


def test_the_least_used_connection_makes_room(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(callers, "AT_ONCE", 1)
    numbers = {}
    for name in ("east", "west"):
        cluster.gateway(name)
        numbers[name] = cluster.edge(name, fail=fail, wait=lambda _: Deferred()).edge_id
    for number in numbers.values():
        assert cluster.post(f"{number}/rpcs/fail").status == 422
    assert len(cluster.world.plane.callers or ()) == 1
    waiting = cluster.start(f"{numbers['east']}/rpcs/wait")
    cluster.until(lambda: cluster.gateways["east"].core.repository.edges[numbers["east"]].pending)
    assert cluster.post(f"{numbers['west']}/rpcs/fail").status == 429
    assert waiting.on_gone is not None
    waiting.on_gone()


def test_the_end_closes_the_connections(cluster: Cluster) -> None:
    gateway = cluster.gateway("east")
    cluster.post(f"{cluster.edge('east', fail=fail).edge_id}/rpcs/fail")
    assert gateway.core.repository.services
    gateway.run(cluster.world.plane.stop())
    assert not gateway.core.repository.services


def test_an_address_that_is_none(cluster: Cluster) -> None:
    cluster.world.report(cluster.world.frontier("odd", "nowhere"), ReportKind.EDGE_ONLINE, 7)
    assert refused(cluster.post("7/rpcs/x"))[2].startswith("frontier odd at nowhere cannot be reached: ")


def test_a_go_frontier_that_does_not_forward_yet(cluster: Cluster) -> None:
    gateway = cluster.gateway("east", version="")
    edge = cluster.edge("east")
    answer = cluster.start(f"{edge.edge_id}/rpcs/late")
    gateway.advance(0.1)
    assert answer.status == 0
    gateway.run(edge.register("late", lambda _: b"now"))
    cluster.until(lambda: bool(answer.status))
    assert (answer.status, answer.body) == (200, b"now")
    assert refused(cluster.post(f"{edge.edge_id}/rpcs/none"))[1] == "NO_SUCH_RPC"
