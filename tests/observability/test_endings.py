"""Why connections ended, by word."""

from collections.abc import Callable

import pytest

from frontier_tx.gateway import endings
from frontier_tx.gateway.drain import Drain
from frontier_tx.wire import frame as f
from frontier_tx.wire.errors import IllegalPacket, IllegalState, OversizedPacket, UnsupportedPacket
from tests.switch.world import World


def goodbye(world: World) -> None:
    world.edge().leave()


def lost(world: World) -> None:
    world.edge().cut()


def closed(world: World) -> None:
    world.edge().transport.loseConnection()


def heartbeat(world: World) -> None:
    world.edge()
    world.advance(50)


def heartbeat_without_goodbye(world: World) -> None:
    world.edge().polite = False
    world.advance(50)


def handshake(world: World) -> None:
    world.connect(world.core.edges).raw(b"\x01")
    world.advance(21)


def refused(world: World) -> None:
    world.connect(world.core.edges).conn(kind="service")


def silent(world: World) -> None:
    world.connect(world.core.edges).cut()


def protocol(world: World) -> None:
    world.edge().send_bare(f.FrameType.CONN)


def foreign(world: World) -> None:
    world.connect(world.core.edges).raw(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")


def stalled(world: World) -> None:
    world.edge().raw(b"\x01")
    world.advance(21)


def takes_nothing(world: World) -> None:
    edge, service = world.edge(), world.service()
    edge.transport.block()
    service.publish(bytes(1000), custom=edge.id.to_bytes(8))
    for _ in range(4):
        world.advance(10)
        edge.send_bare(f.FrameType.HEARTBEAT)
    world.advance(10)


def replaced(world: World) -> None:
    world.edge(5)
    world.edge(5)


def kicked(world: World) -> None:
    edge = world.edge(5)
    world.core.kick_edge(edge.id)


def kicked_without_goodbye(world: World) -> None:
    edge = world.edge(5)
    edge.polite = False
    world.core.kick_edge(edge.id)
    world.advance(1)
    edge.leg.transport.abort("kicked, and it did not say goodbye")


def draining(world: World) -> None:
    world.edge()
    Drain(world.core, world.clock, 5).start()
    world.advance(5)


@pytest.mark.parametrize(
    ("word", "happens"),
    [
        ("goodbye", goodbye),
        ("lost", lost),
        ("closed", closed),
        ("heartbeat", heartbeat),
        ("heartbeat", heartbeat_without_goodbye),
        ("handshake", handshake),
        ("refused", refused),
        ("silent", silent),
        ("protocol", protocol),
        ("protocol", foreign),
        ("stalled", stalled),
        ("stalled", takes_nothing),
        ("replaced", replaced),
        ("kicked", kicked),
        ("kicked", kicked_without_goodbye),
        ("draining", draining),
    ],
)
def test_one_word_for_each_end(word: str, happens: Callable[[World], None]) -> None:
    world = World()
    happens(world)
    world.advance(1)
    assert {name: count for name, count in world.core.edges.ended_by.items() if count} == {word: 1}


@pytest.mark.parametrize(
    "error", [UnsupportedPacket(99), IllegalPacket("x"), OversizedPacket(9, 1), IllegalState("CONN while connected")]
)
def test_errors_of_the_protocol(error: Exception) -> None:
    assert endings.of_end(str(error)) == "protocol"


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("TLS: tlsv1 alert unknown ca", "tls"),
        ("internal error", "error"),
        ("timeout: the gateway is short of memory, and the rest of a frame took too long", "memory"),
        ("[Errno 110] Connection timed out", "lost"),
    ],
)
def test_other_texts(text: str, word: str) -> None:
    assert endings.of_end(text) == word


def test_who_is_turned_away() -> None:
    world = World(connections=1)
    world.edge()
    assert world.core.edges.buildProtocol(world.peers[0].transport.address) is None
    world.core.edges.closed = True
    assert world.core.edges.buildProtocol(world.peers[0].transport.address) is None
    assert world.core.edges.refused == {"draining": 1, "limit": 1}
