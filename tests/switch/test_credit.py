"""Streams whose far side did not end them say so, to those who understand it."""

import pytest

from frontier_tx.switch.opening import SESSION_BYTES
from frontier_tx.switch.settings import Settings
from frontier_tx.wire import frame as f
from frontier_tx.wire.body import SessionData
from frontier_tx.wire.limits import Limits
from tests import packets as p

from .world import Peer, World

WINDOW = 65_536


@pytest.fixture
def world() -> World:
    world = World(limits=Limits(stream_window_bytes=WINDOW))
    world.edge(5, stream_window=WINDOW)
    world.service("files", stream_window=WINDOW)
    return world


def dismissed_with(peer: Peer) -> str:
    return str(peer.take(f.FrameType.DISMISS)[0].data.error)


@pytest.mark.parametrize(
    ("end", "error"),
    [("dismiss", ""), ("abort", "no paper"), ("cut", "force closed"), ("goodbye", "force closed"), ("leave", "")],
)
@pytest.mark.parametrize("of_edge", [True, False])
def test_the_far_end_reads_whether_a_stream_was_complete(
    world: World, edge: Peer, service: Peer, end: str, error: str, of_edge: bool
) -> None:
    near, far = world.stream(edge, service, "files")
    leaving, session, staying = (edge, near, service) if of_edge else (service, far, edge)
    match end:
        case "dismiss" | "leave":
            leaving.dismiss(session)
        case "abort":
            leaving.send(
                p.Dismissal(
                    type=f.FrameType.DISMISS, packet_id=3, session_id=session, data=SessionData(error="no paper")
                )
            )
        case "cut":
            leaving.cut()
        case "goodbye":
            leaving.disconnect()
    world.advance(0.1)
    assert dismissed_with(staying) == error


@pytest.mark.parametrize("how", ["kick", "replaced"])
def test_streams_of_an_edge_that_is_sent_away_are_cut_at_both_ends(
    world: World, edge: Peer, service: Peer, how: str
) -> None:
    world.stream(edge, service, "files")
    if how == "kick":
        world.core.kick_edge(5)
    else:
        world.edge(5, stream_window=WINDOW)
    world.advance(0.1)
    assert dismissed_with(service) == "force closed"
    reason = {x.session_id: x.data.error for x in edge.take(f.FrameType.DISMISS)}[1]
    assert reason == ("" if how == "kick" else "replaced by another connection with the same id")


def test_an_end_that_declared_nothing_reads_a_plain_end(world: World, edge: Peer) -> None:
    service = world.service("old")
    world.stream(edge, service, "old")
    edge.cut()
    assert service.frames[-1].type == f.DISMISS and service.frames[-1].body == b"{}"


def test_an_opener_reads_why_nobody_took_its_stream(world: World, edge: Peer, service: Peer) -> None:
    for opener, name, error in (
        (edge, "nobody", "service not online"),
        (service, "77", "edge not online"),
    ):
        opener.open(name)
        world.advance(0.1)
        assert dismissed_with(opener) == error
    edge.open("files")
    service.ack_session(service.one(p.Session), "no room")
    world.advance(0.1)
    assert dismissed_with(edge) == "no room"
    edge.open("files")
    service.cut()
    world.advance(0.1)
    assert dismissed_with(edge) == "force closed"


def test_a_meta_that_the_far_leg_does_not_take_is_refused_and_nobody_is_cut(world: World, edge: Peer) -> None:
    service = world.service("small")
    large = world.edge(6, stream_window=WINDOW, frame_limit=16 << 20)
    large.open("small", bytes(9_000_000))
    world.advance(0.1)
    assert dismissed_with(large) == "packet payload too large"
    service.nothing()
    assert not service.closed and not large.closed
    large.take()
    near, _ = world.stream(large, service, "small", bytes(7_000_000))
    large.stream(near, b"x")
    assert service.take(p.Stream)[0].data == b"x"


@pytest.mark.parametrize("from_edge", [True, False])
def test_metas_and_names_of_streams_are_not_kept(world: World, edge: Peer, service: Peer, from_edge: bool) -> None:
    opener, acceptor, peer = (edge, service, "files") if from_edge else (service, edge, "5")
    opener.open(peer, bytes(1000))
    (waiting,) = acceptor.leg.opening.values()
    assert waiting.request is not None and (waiting.request.meta, waiting.request.peer) == (b"", "")
    (asked,) = acceptor.leg.connection.sessions.opening.values()
    assert (asked.meta, asked.peer) == (b"", "")
    acceptor.ack_session(acceptor.one(p.Session))
    for leg in (opener.leg, acceptor.leg):
        assert [(session.meta, session.peer) for session in leg.connection.sessions.live.values()] == [(b"", "")] * 2


def test_a_writer_with_credit_waits_by_itself_and_is_read_from_all_the_time(
    world: World, edge: Peer, service: Peer
) -> None:
    near, far = world.stream(service, edge, "5")
    for _ in range(2):
        service.stream(near, bytes(WINDOW // 2))
    assert sum(len(x.data) for x in edge.take(p.Stream)) == WINDOW
    # What left is given back at once, what waits for the reader's credit is not.
    given = sum(x.freed for x in service.take(p.StreamCredit))
    assert given > WINDOW * 3 // 4
    service.stream(near, bytes(given))
    edge.nothing()
    assert service.take(p.StreamCredit) == [] and service.transport.reading
    service.call(b"m", custom=(5).to_bytes(8))
    edge.respond(edge.request())
    assert service.response().data.error == ""
    edge.send(p.StreamCredit(packet_id=3, session_id=far, freed=WINDOW // 2))
    assert sum(len(x.data) for x in edge.take(p.Stream)) == WINDOW // 2
    assert sum(x.freed for x in service.take(p.StreamCredit)) > WINDOW // 4


def test_who_sends_more_than_it_was_given_loses_that_stream(world: World, edge: Peer, service: Peer) -> None:
    near, far = world.stream(service, edge, "5")
    other_near, _ = world.stream(service, edge, "5")
    for _ in range(4):
        service.stream(near, bytes(WINDOW))
    assert dismissed_with(service) == "stream window exceeded"
    # What came before is for the reader all the same.
    edge.send(p.StreamCredit(packet_id=3, session_id=far, freed=WINDOW))
    assert sum(len(x.data) for x in edge.inbox if isinstance(x, p.Stream)) == 2 * WINDOW
    assert dismissed_with(edge) == "stream window exceeded"
    service.stream(other_near, b"innocent")
    assert edge.take(p.Stream)[-1].data == b"innocent"
    assert not service.closed and not edge.closed
    world.everybody_leaves()
    world.check_empty()


@pytest.mark.parametrize("spoken", [True, False], ids=["credit", "stranger"])
def test_what_its_sender_left_behind_is_kept_as_long_as_it_is_taken(spoken: bool) -> None:
    world = World(settings=Settings(write_stall_seconds=10.0), limits=Limits(stream_window_bytes=WINDOW))
    service = world.service("files", stream_window=WINDOW if spoken else 0)
    edge = world.edge(5, stream_window=WINDOW)
    near, far = world.stream(service, edge, "5")
    for _ in range(3 if not spoken else 1):
        service.stream(near, bytes(WINDOW))
    if spoken:
        service.stream(near, bytes(WINDOW // 2))
    service.cut()
    for _ in range(6):
        world.advance(5, step=5)
        edge.send_bare(f.FrameType.HEARTBEAT)
        edge.send(p.StreamCredit(packet_id=3, session_id=far, freed=1000))
    came = sum(len(x.data) for x in edge.take(p.Stream))
    assert came == WINDOW + 6000 and edge.take(f.FrameType.DISMISS) == []
    for _ in range(8):
        world.advance(5, step=5)
        edge.send_bare(f.FrameType.HEARTBEAT)
    assert dismissed_with(edge) == "receiver congested"
    assert world.core.exchange.doors.raw_bytes == 0
    edge.cut()
    world.check_empty()


def test_many_unread_streams_stay_within_the_budget() -> None:
    """A reader that takes nothing of hundreds of downloads keeps no more of them than its share."""
    limits = Limits(stream_window_bytes=1 << 20)
    world = World(settings=Settings(memory_bytes=1 << 26), limits=limits)
    service, edge = world.service("files", stream_window=1 << 20), world.edge(5, stream_window=4096)
    other = world.edge(6)
    for _ in range(100):
        near, _ = world.stream(service, edge, "5")
        service.stream(near, bytes(1 << 20))
        service.take()
    budget = world.core.exchange.budget
    assert budget.used <= budget.pool + (2 << 20)
    assert world.core.exchange.counters.streams_congested > 50
    assert service.transport.reading and not service.closed and not edge.closed
    service.call(b"m", custom=(6).to_bytes(8))
    assert other.request()
    world.everybody_leaves()
    world.check_empty()


def test_streams_count_and_their_edge_pays() -> None:
    """One that opens all that it may leaves room for others, and what it holds is given back."""
    world = World(settings=Settings(memory_bytes=1 << 23))
    service, greedy, modest = world.service("files"), world.edge(5), world.edge(6)
    before = world.core.exchange.budget.total
    for _ in range(1500):
        greedy.open("files")
        for asked in service.take(p.Session):
            service.ack_session(asked)
        greedy.inbox.clear()
    budget = world.core.exchange.budget
    held = budget.total - before
    assert 0 < held == len(greedy.leg.streams) * SESSION_BYTES <= budget.pool // 2 + SESSION_BYTES
    world.stream(modest, service, "files")
    world.everybody_leaves()
    world.advance(1)
    world.check_empty()
    assert budget.total == 0


def test_one_edge_does_not_take_all_places_of_a_service() -> None:
    world = World(limits=Limits(sessions_per_connection=40))
    service, greedy, modest = world.service("files"), world.edge(5), world.edge(6)
    for _ in range(60):
        greedy.open("files")
        for asked in service.take(p.Session):
            service.ack_session(asked)
        greedy.inbox.clear()
    assert len(greedy.leg.streams) == 20
    for _ in range(8):
        world.stream(modest, service, "files")
