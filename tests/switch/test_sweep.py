"""A leg that leaves with thousands of calls: all are ended, in slices."""

from frontier_tx.switch.sweep import SLICE
from frontier_tx.timers import RESOLUTION
from frontier_tx.wire import frame as f
from frontier_tx.wire.body import EMPTY_MESSAGE
from tests import packets as p

from .world import World

CALLS = 2 * SLICE + 500


def loaded() -> World:
    """An edge that a service has asked, and that has asked a service, more than one turn can end."""
    world = World()
    edge, service = world.edge(5), world.service(methods=(b"m",))
    service.raw(b"".join(service.call_frame(b"m", custom=(5).to_bytes(8)) for _ in range(CALLS)))
    edge.raw(b"".join(edge.call_frame(b"m") for _ in range(CALLS)))
    for _ in range(200):
        world.advance(0.001)
    assert world.core.exchange.pending_count == 2 * CALLS
    edge.take()
    service.take()
    return world


def test_all_are_ended_a_slice_at_a_time() -> None:
    world = loaded()
    edge, service = world.peers
    edge.cut()
    assert world.core.exchange.pending_count == 2 * (CALLS - SLICE)
    assert world.core.repository.edge(5) is None
    world.advance(6 * RESOLUTION, step=RESOLUTION)
    assert world.core.exchange.pending_count == 0
    for _ in range(200):
        world.advance(0.001)
    assert [x.data.error for x in service.take(f.FrameType.RESPONSE)] == ["force closed"] * CALLS
    assert len(service.take(p.RequestCancel)) == CALLS
    world.everybody_leaves()
    world.check_empty()


def test_what_is_answered_before_its_turn_goes_to_nobody() -> None:
    world = loaded()
    edge, service = world.peers
    last = list(edge.leg.outgoing.values())[-1]
    edge.cut()
    pending = world.core.exchange.pending_count
    service.raw(f.pack_of_session(f.RESPONSE, last.target_packet, 1, EMPTY_MESSAGE))
    assert world.core.exchange.pending_count == pending - 1
    assert edge.leg.connection.outbox == []
    service.cut()
    world.advance(1, step=RESOLUTION)
    world.check_empty()


def test_a_newcomer_is_no_part_of_it() -> None:
    world = loaded()
    service = world.peers[1]
    newcomer = world.edge(5)
    asked = service.call(b"m", custom=(5).to_bytes(8))
    newcomer.respond(newcomer.request(), b"new")
    world.advance(1, step=RESOLUTION)
    answers = [x for x in service.take(f.FrameType.RESPONSE) if x.packet_id == asked]
    assert [x.data.payload for x in answers] == [b"new"]
    assert world.core.exchange.pending_count == 0
