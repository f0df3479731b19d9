"""What a leg leaves behind is ended in slices, and nothing reaches it meanwhile."""

from __future__ import annotations

from typing import Any

import pytest

from frontier_tx.switch.sweep import SLICE as ENDED
from frontier_tx.wire import frame as f
from frontier_tx.wire.connection import Connection
from frontier_tx.wire.limits import Limits
from frontier_tx.wire.session_table import SLICE
from frontier_tx.wire.states import Role
from tests import packets as p
from tests.switch.world import World


@pytest.fixture
def world() -> World:
    return World()


def test_streams_of_a_lost_leg_are_ended_a_slice_at_a_time_and_nothing_goes_to_it(world: World) -> None:
    service, edge = world.service(), world.edge()
    streams = [world.stream(service, edge, str(edge.id)) for _ in range(ENDED + 30)]
    service.frames.clear()
    edge.cut()
    assert sum(frame.type == f.DISMISS for frame in service.frames) == ENDED and len(service.leg.streams) == 30
    left = next(iter(service.leg.streams))
    dropped = world.core.exchange.counters.dropped
    service.stream(left, b"to nobody")
    service.call(b"m", session=left)
    assert world.core.exchange.counters.dropped == dropped + 2
    world.advance(0.1)
    assert not service.leg.streams and len(streams) == ENDED + 30
    world.everybody_leaves()
    world.check_empty()


def crowded(sessions: int) -> Connection:
    """A server's connection with so many sessions that the client has opened."""
    client, server = Connection(Role.CLIENT, 0.0), Connection(Role.SERVER, 0.0, Limits(sessions_per_connection=10_000))
    client.connect()
    server.receive(client.take_output(), 0.0)
    server.accept(42, 0.0)
    for number in range(sessions):
        session = p.Session(packet_id=2 * number + 9, flags=p.ACQUIRE_SESSION_ID, negotiate_id=2 * number + 9)
        (request,) = server.receive(p.encode(session), 0.0)
        server.accept_session(request, 0.0)  # type: ignore[arg-type]
    server.take_output()
    return server


def times(server: Connection, now: float) -> list[int]:
    """What one ``advance`` after another tells, as long as something is due."""
    told: list[int] = []
    while server.due <= now:
        told.append(len(server.advance(now)))
        assert len(told) < 100
    return told


def kinds(data: bytes) -> list[int]:
    return [frame.type for frame in f.FrameReader().feed(data)]


def test_a_connection_with_very_many_sessions_says_goodbye_in_slices() -> None:
    server = crowded(3 * SLICE)
    server.close(0.0)
    assert kinds(server.take_output()).count(f.DISMISS) == SLICE and server.due == 0.0
    times(server, 0.0)
    assert kinds(server.take_output()).count(f.DISMISS) == 2 * SLICE + 1
    told: list[Any] = times(server, server.limits.dismiss_seconds)
    assert max(told) <= SLICE + 2


def test_sessions_whose_goodbye_nobody_answers_are_given_up_in_slices() -> None:
    server = crowded(3 * SLICE)
    for session in list(server.sessions.live.values()):
        if session.id != 1:
            server.dismiss(session, 0.0)
    for second in range(1, 30):
        server.receive(f.pack(f.HEARTBEAT, 2 * second + 1), float(second))
        times(server, float(second))
    server.receive(f.pack(f.HEARTBEAT, 77), 31.0)
    told = times(server, 31.0)
    assert max(told) == SLICE and sum(told) == 3 * SLICE
    assert list(server.sessions.live) == [1]
