"""Everything about one peer in one answer."""

from __future__ import annotations

from frontier_tx.rpc.status import RpcError
from tests.control_plane.world import a_world

PEERS = "frontier.v1.Peers"


def test_an_edge_with_a_stream_and_calls() -> None:
    with a_world() as world:
        edge = world.edge(7, b"plant-1", ("move", "stop"))
        service = world.service(9, "billing", topics=("orders",))
        before = world.ask("GetEdgeDetails", PEERS, edge_id=7)
        assert (before.edge_id, before.meta, list(before.methods)) == (7, "plant-1", ["move", "stop"])
        assert before.create_time == before.last_heard == int(world.gateway.wall_clock())
        assert before.protocol == "tcp"

        stream = world.gateway.run(service.open_stream(7))
        stream.write(b"x" * 1000)
        world.gateway.advance(1)
        after = world.ask("GetEdgeDetails", PEERS, edge_id=7)
        assert after.bytes_out - before.bytes_out > 1000
        (shown,) = after.streams
        assert (shown.peer, shown.bytes_in, shown.bytes_out) == ("service:9", 0, 1000)
        (other,) = world.ask("GetServiceDetails", PEERS, service_id=9).streams
        assert (other.peer, other.bytes_in, other.bytes_out) == ("edge:7", 1000, 0)
        assert list(world.ask("GetServiceDetails", PEERS, service_id=9).topics) == ["orders"]
        world.gateway.run(edge.close())


def test_what_it_owes() -> None:
    with a_world() as world:
        world.gateway.run(world.edge(7).close())
        edge = world.gateway.edge()
        world.ids.next = 8
        world.gateway.run(edge.connect())
        from twisted.internet.defer import Deferred

        waiting: Deferred[bytes] = Deferred()
        world.gateway.run(edge.register("wait", lambda request: waiting))
        service = world.service(9)
        call = service.call(8, "wait", b"")
        world.settle()
        assert world.ask("GetEdgeDetails", PEERS, edge_id=8).calls_pending == 1
        waiting.callback(b"")
        world.gateway.run(call)
        details = world.ask("GetEdgeDetails", PEERS, edge_id=8)
        assert (details.calls_pending, details.messages_pending, details.messages_waiting) == (0, 0, 0)


def test_nobody_of_that_id() -> None:
    with a_world() as world:
        for name, field, text in (
            ("GetEdgeDetails", "edge_id", "edge not online"),
            ("GetServiceDetails", "service_id", "service not online"),
        ):
            error = world.ask(name, PEERS, **{field: 5})
            assert isinstance(error, RpcError)
            assert (error.status.name, error.message) == ("NOT_FOUND", text)
