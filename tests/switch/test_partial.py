"""Frames that are not whole, while memory is short: what hostile peers hold is bounded, honest ones come through."""

import pytest

from frontier_tx.switch.settings import Settings
from frontier_tx.wire import frame as f
from frontier_tx.wire.protocol import READ_LEAST

from .world import Peer, World

MIB = 1 << 20
#: What is read at once when memory is short.
PIECE = READ_LEAST
LOOK_AGAIN = 0.06


@pytest.fixture
def world() -> World:
    world = World(settings=Settings(memory_bytes=32 * MIB))
    world.service(methods=(b"m",))
    return world


def begin(peer: Peer, size: int, sent: int) -> bytes:
    """Send a part of a Request; return the rest."""
    frame = peer.call_frame(b"m", value=bytes(size))
    for pos in range(0, sent, PIECE):
        peer.raw(frame[pos : min(pos + PIECE, sent)])
    return frame[sent:]


def test_the_parts_of_frames_stay_within_the_budget_and_honest_peers_go_on(world: World) -> None:
    service = world.peers[0]
    budget = world.core.exchange.budget
    hostile = [world.edge(number) for number in range(1, 300)]
    for edge in hostile:
        begin(edge, 7 * MIB, MIB)
    assert budget.pool // 2 < budget.used <= budget.limit
    stopped = [edge for edge in hostile if not edge.transport.reading]
    assert len(stopped) > 250
    assert not any(edge.closed for edge in hostile)
    honest = [world.edge(number) for number in range(1001, 1011)]
    for edge in honest:
        edge.call(b"m", bytes(10_000))
    for request in service.take():
        service.respond(request, bytes(10_000))
    assert [len(edge.response().data.payload) for edge in honest] == [10_000] * 10
    for _ in range(45):
        for peer in (service, *honest):
            peer.send_bare(f.FrameType.HEARTBEAT)
        world.advance(1)
    assert all(edge.closed for edge in stopped)
    assert not any(edge.closed for edge in honest)
    world.everybody_leaves()
    world.check_empty()


def test_many_large_frames_at_once_become_whole_one_after_the_other(world: World) -> None:
    """Nobody is hostile: there is only more than fits at one time."""
    service = world.peers[0]
    edges = [world.edge(number) for number in range(1, 41)]
    rest = {edge: begin(edge, 2 * MIB, 200_000) for edge in edges}
    arrived = 0
    while any(rest.values()):
        for edge in edges:
            if rest[edge]:
                edge.raw(rest[edge][:PIECE])
                rest[edge] = rest[edge][PIECE:]
    for _ in range(200):
        world.advance(LOOK_AGAIN)
        arrived += len(service.take(f.FrameType.REQUEST))
        if arrived == len(edges):
            break
    assert arrived == len(edges)
    assert not any(edge.closed for edge in edges)
    world.everybody_leaves()
    world.check_empty()


def test_who_leaves_while_it_waits_leaves_no_trace(world: World) -> None:
    edges = [world.edge(number) for number in range(1, 30)]
    for edge in edges:
        begin(edge, 4 * MIB, 2 * MIB)
    assert len(world.core.exchange.partial_frames) > 5
    world.everybody_leaves()
    assert len(world.core.exchange.partial_frames) == 0
    assert world.core.exchange.budget.used == 0
