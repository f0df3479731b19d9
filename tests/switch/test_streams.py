"""Streams: opened on one leg, paired with a session on the other, closed from either side."""

import pytest

from frontier_tx.switch.settings import Settings
from frontier_tx.wire import frame as f
from frontier_tx.wire.body import SessionData
from tests import packets as p

from .world import Peer, World


@pytest.fixture
def world() -> World:
    world = World()
    world.edge(5)
    world.service("files")
    return world


def alive(world: World, seconds: float) -> None:
    """Let time pass with heartbeats."""
    while seconds > 0:
        for peer in world.peers:
            peer.send_bare(f.FrameType.HEARTBEAT)
        world.advance(min(5.0, seconds))
        for peer in world.peers:
            peer.inbox[:] = [x for x in peer.inbox if not isinstance(x, p.Bare)]
        seconds -= 5.0


@pytest.mark.parametrize("from_edge", [True, False])
def test_a_stream_from_opening_to_closing(world: World, edge: Peer, service: Peer, from_edge: bool) -> None:
    opener, acceptor, peer = (edge, service, "files") if from_edge else (service, edge, "5")
    negotiated = opener.open(peer, b"meta")
    opener.nothing()
    asked = acceptor.one(p.Session)
    assert (asked.data.meta, asked.data.peer) == (b"meta", "")
    far = acceptor.ack_session(asked)
    ack = opener.one(p.SessionAck)
    near = ack.session_id
    assert (ack.negotiate_id, ack.data.error) == (negotiated, "")
    assert near not in (far, negotiated)
    opener.stream(near, b"up")
    acceptor.stream(far, b"down")
    assert [(x.session_id, x.data) for x in acceptor.take()] == [(far, b"up")]
    assert [(x.session_id, x.data) for x in opener.take()] == [(near, b"down")]
    opener.stream(near, b"last")
    opener.dismiss(near)
    assert [type(x) for x in acceptor.take()] == [p.Stream, p.Dismissal]
    world.advance(0.1)
    assert [len(peer.leg.streams) for peer in (edge, service)] == [0, 0]
    assert [list(peer.leg.connection.sessions.live) for peer in (edge, service)] == [[1], [1]]


def test_the_edges_id_can_be_told_as_peer() -> None:
    world = World(settings=Settings(tell_stream_peer=True))
    edge, service = world.edge(5), world.service("files")
    edge.open("files")
    assert service.one(p.Session).data.peer == "5"
    service.open("5")
    assert edge.one(p.Session).data.peer == ""


def test_calls_and_messages_on_a_stream_pass_as_they_are(world: World, edge: Peer, service: Peer) -> None:
    near, far = world.stream(edge, service, "files")
    for asker, at, answerer, there in ((edge, near, service, far), (service, far, edge, near)):
        asked = asker.call(b"any", b"v", session=at, custom=b"c")
        request = answerer.request()
        assert (request.session_id, request.data.key, request.data.payload, request.data.custom) == (
            there, b"any", b"v", b"c",
        )  # fmt: skip
        answerer.respond(request, b"r")
        response = asker.response()
        assert (response.session_id, response.packet_id, response.data.payload) == (at, asked, b"r")
        sent = asker.publish(b"v", session=at, topic="t", custom=b"")
        message = answerer.message()
        assert (message.session_id, message.data.topic, message.data.custom) == (there, "t", b"")
        answerer.respond(message, error="refused")
        ack = asker.message_ack()
        assert (ack.session_id, ack.packet_id, ack.data.error) == (at, sent, "refused")


def test_g15_a_refused_message_stops_nothing_on_a_stream(world: World, edge: Peer, service: Peer) -> None:
    near, _ = world.stream(edge, service, "files")
    for number in range(3):
        edge.publish(str(number).encode(), session=near)
    first, second, third = service.take()
    service.respond(first, error="refused")
    service.respond(second)
    service.respond(third)
    assert [x.data.error for x in edge.take()] == ["refused", "", ""]


def test_a_cancel_and_deadlines_on_a_stream(world: World, edge: Peer, service: Peer) -> None:
    near, far = world.stream(edge, service, "files")
    asked = edge.call(b"m", session=near)
    edge.cancel(asked, session=1)
    edge.nothing()
    edge.cancel(asked, session=near)
    assert edge.response().data.error == "context canceled"
    service.take(f.FrameType.REQUEST)
    assert service.one(p.RequestCancel).session_id == far
    edge.call(b"m", session=near, deadline=world.text(2))
    world.advance(2.1)
    response = edge.response()
    assert (response.session_id, response.data.error) == (near, "context deadline exceeded")


def test_register_on_a_stream_is_acked_and_goes_nowhere(world: World, edge: Peer, service: Peer) -> None:
    near, _ = world.stream(edge, service, "files")
    number = edge.register(b"m", near)
    ack = edge.one(p.RegisterAck)
    assert (ack.packet_id, ack.session_id, ack.data.error) == (number, near, "")
    service.nothing()
    assert world.core.repository.edge_methods == 0


def test_answers_of_one_session_do_not_count_on_another(world: World, edge: Peer, service: Peer) -> None:
    near, far = world.stream(edge, service, "files")
    _, other = world.stream(edge, service, "files")
    edge.call(b"m", session=near)
    request = service.request()
    for session in (1, other):
        request.session_id = session
        service.respond(request)
    edge.nothing()
    request.session_id = far
    service.respond(request)
    assert edge.response()


@pytest.mark.parametrize("peer", ["4711", "abc", "", "-5", "5 ", "\u0665", "05x", "9" * 30, "0"])
def test_a_service_opens_to_nobody(world: World, service: Peer, peer: str) -> None:
    service.open(peer)
    ack = service.one(p.SessionAck)
    assert ack.data.error == ""
    service.nothing()
    world.advance(0.03)
    assert service.take(f.FrameType.DISMISS)[0].session_id == ack.session_id
    world.advance(0.1)
    assert list(service.leg.connection.sessions.live) == [1]


@pytest.mark.parametrize("peer", ["nobody", "", "FILES", "5"])
def test_g5_an_edge_opens_to_nobody_and_the_goodbye_is_held_back(world: World, edge: Peer, peer: str) -> None:
    edge.open(peer)
    ack = edge.one(p.SessionAck)
    world.advance(0.009)
    edge.nothing()
    world.advance(0.016)
    assert edge.take(f.FrameType.DISMISS)[0].session_id == ack.session_id


def test_frames_to_the_opener_are_held_until_it_spoke(world: World, edge: Peer, service: Peer) -> None:
    edge.open("files")
    far = service.ack_session(service.one(p.Session))
    near = edge.one(p.SessionAck).session_id
    service.stream(far, b"first")
    service.call(b"m", session=far)
    edge.nothing()
    edge.stream(near, b"ready")
    assert [type(x) for x in edge.take()] == [p.Stream, p.Message]


def test_the_acceptor_says_no(world: World, edge: Peer, service: Peer) -> None:
    edge.open("files")
    service.ack_session(service.one(p.Session), "operation on closed multiplexer")
    assert edge.one(p.SessionAck).data.error == ""
    world.advance(0.1)
    assert edge.take(f.FrameType.DISMISS)
    assert service.leg.opening == {}


def test_an_opening_ends_within_thirty_seconds(world: World, edge: Peer, service: Peer) -> None:
    edge.open("files")
    asked = service.one(p.Session)
    alive(world, 29.5)
    assert edge.take(p.SessionAck) == []
    alive(world, 0.6)
    assert edge.one(p.SessionAck)
    world.advance(0.1)
    assert edge.take(f.FrameType.DISMISS)
    late = service.ack_session(asked)
    assert service.take(f.FrameType.DISMISS)[0].session_id == late
    world.advance(0.1)
    assert service.leg.connection.sessions.live.keys() == {1}


def test_the_acceptor_is_lost_while_the_stream_opens(world: World, edge: Peer, service: Peer) -> None:
    edge.open("files")
    service.cut()
    assert edge.one(p.SessionAck)
    world.advance(0.1)
    assert edge.take(f.FrameType.DISMISS)


def test_the_opener_is_lost_while_the_stream_opens(world: World, edge: Peer, service: Peer) -> None:
    edge.open("files")
    edge.cut()
    far = service.ack_session(service.one(p.Session))
    assert service.take(f.FrameType.DISMISS)[0].session_id == far
    world.advance(0.1)
    assert service.leg.opening == {}
    assert service.leg.connection.sessions.live.keys() == {1}


@pytest.mark.parametrize("end", ["dismiss", "cut", "leave", "goodbye"])
def test_one_leg_ends(world: World, edge: Peer, service: Peer, end: str) -> None:
    near, far = world.stream(edge, service, "files")
    service.call(b"m", session=far)
    service.publish(b"v", session=far)
    edge.call(b"m", session=near)
    request = service.request()
    edge.stream(near, b"last")
    match end:
        case "dismiss":
            edge.dismiss(near)
        case "cut":
            edge.cut()
        case "leave":
            edge.leave()
        case "goodbye":
            edge.disconnect()
    world.advance(0.1)
    came = [x for x in service.take() if not isinstance(x, p.RequestCancel)]
    assert [x.data.error for x in came if x.__class__ is p.Message] == ["force closed"] * 2
    assert [x.session_id for x in came if isinstance(x, p.Dismissal) and x.type == f.DISMISS] == [far]
    kinds = [type(x) for x in came]
    assert kinds.index(p.Stream) < kinds.index(p.Dismissal)
    assert all(
        x.type != f.DISMISS for x in came[: max(i for i, k in enumerate(kinds) if k is p.Message)] if hasattr(x, "type")
    )
    service.respond(request, b"late")
    assert world.core.exchange.pending_count == 0
    assert service.leg.streams == {}
    assert service.leg.connection.sessions.live.keys() == {1}


def test_pending_of_a_dismissed_stream_is_answered_on_the_side_that_asked(
    world: World, edge: Peer, service: Peer
) -> None:
    near, far = world.stream(edge, service, "files")
    asked = edge.call(b"m", session=near)
    service.take()
    service.dismiss(far)
    response = edge.response()
    assert (response.packet_id, response.data.error) == (asked, "force closed")


def test_other_streams_and_calls_go_on_when_one_stream_ends(world: World, edge: Peer, service: Peer) -> None:
    near, _ = world.stream(edge, service, "files")
    other_near, other_far = world.stream(edge, service, "files")
    service.call(b"m", custom=(5).to_bytes(8))
    edge.dismiss(near)
    world.advance(0.1)
    edge.stream(other_near, b"x")
    assert service.take(p.Stream)[0].session_id == other_far
    edge.respond(edge.request())
    assert service.response().data.error == ""


def test_a_peer_that_never_ends_its_goodbye_holds_nothing(world: World, edge: Peer, service: Peer) -> None:
    near, _ = world.stream(edge, service, "files")
    service.polite = False
    edge.dismiss(near)
    alive(world, 31)
    assert service.leg.connection.sessions.live.keys() == {1}
    assert service.leg.streams == {}


def test_unknown_sessions_are_dropped(world: World, edge: Peer, service: Peer) -> None:
    edge.stream(999, b"x")
    edge.call(b"m", session=999)
    edge.dismiss(999)
    edge.nothing()
    service.nothing()
    assert not edge.closed


def test_a_session_id_that_is_in_use_is_refused(world: World, edge: Peer) -> None:
    for negotiate in (0, 1):
        edge.send(p.Session(packet_id=3, negotiate_id=negotiate, data=SessionData(peer="files")))
        assert edge.one(p.SessionAck).data.error == "session id in use"


def test_session_one_may_end_while_streams_go_on(world: World, edge: Peer, service: Peer) -> None:
    _, far = world.stream(edge, service, "files")
    edge.dismiss(1)
    world.advance(0.1)
    service.stream(far, b"x")
    assert edge.take(p.Stream)[0].data == b"x"


def test_streams_may_be_opened_without_session_one(world: World, edge: Peer, service: Peer) -> None:
    edge.dismiss(1)
    world.advance(0.1)
    edge.take()
    near, far = world.stream(edge, service, "files")
    edge.stream(near, b"x")
    assert service.take(p.Stream)[0].session_id == far


@pytest.mark.parametrize("end", ["kick", "replaced"])
def test_an_opener_that_is_sent_away_holds_nothing_at_the_acceptor(
    world: World, edge: Peer, service: Peer, end: str
) -> None:
    edge.polite = False
    edge.open("files")
    asked = service.one(p.Session)
    if end == "kick":
        world.core.kick_edge(5)
    else:
        world.edge(5)
    far = service.ack_session(asked)
    world.advance(11)
    assert edge.closed
    assert service.take(f.FrameType.DISMISS)[0].session_id == far
    assert service.leg.connection.sessions.live.keys() == {1}
    assert edge.leg.streams == {}


def test_sessions_of_a_connection_are_bounded() -> None:
    from frontier_tx.wire.limits import Limits

    world = World(limits=Limits(sessions_per_connection=3))
    edge, service = world.edge(5), world.service("files")
    for _ in range(2):
        world.stream(edge, service, "files")
    edge.open("files")
    ack = edge.one(p.SessionAck)
    assert ack.data.error == ""
    world.advance(0.1)
    assert edge.one(f.FrameType.DISMISS).session_id == ack.session_id
    service.nothing()
    other = world.edge(6)
    other.open("files")
    assert other.one(p.SessionAck).data.error == ""
    world.advance(0.1)
    assert other.take(f.FrameType.DISMISS)


@pytest.mark.parametrize("how", ["dismiss", "cut"])
def test_calls_of_a_side_that_ends_a_stream_are_withdrawn_before_it_ends(
    world: World, edge: Peer, service: Peer, how: str
) -> None:
    near, far = world.stream(service, edge, "5")
    service.call(b"m", session=near)
    request = edge.request()
    if how == "dismiss":
        service.dismiss(near)
    else:
        service.cut()
    cancel, end = edge.take()
    assert (cancel.packet_id, cancel.session_id, cancel.reason) == (request.packet_id, far, p.CANCELED)
    assert isinstance(end, p.Dismissal)


def test_a_cancel_stays_behind_the_call_that_is_held_back(world: World, edge: Peer, service: Peer) -> None:
    negotiated = edge.open("files")
    far = service.ack_session(service.one(p.Session))
    near = edge.one(p.SessionAck).session_id
    assert negotiated != near
    asked = service.call(b"m", session=far)
    service.cancel(asked, session=far)
    edge.nothing()
    world.advance(0.05)
    request, cancel = edge.take()
    assert cancel.packet_id == request.packet_id
