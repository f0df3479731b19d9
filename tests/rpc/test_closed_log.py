"""Connections that are closed for what they sent: one line each, within reason."""

from __future__ import annotations

import struct

import pytest
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import Logger

from frontier_tx.rpc.door import LINES, PERIOD, ClosedLog
from frontier_tx.rpc.http2_guard import PREFACE, FrameGuard, FrameTooLong
from tests.cluster_plane.world import a_world
from tests.logs import logged


def h2(kind: int, stream: int, payload: bytes = b"", length: int | None = None) -> bytes:
    size = len(payload) if length is None else length
    return struct.pack(">I", size)[1:] + bytes((kind, 0)) + struct.pack(">I", stream) + payload


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"\x00\x01\x02 garbage\r\n\r\n", "no HTTP request"),
        (b"GET / HTTP/1.1\r\nX: " + b"a" * 100_000 + b"\r\n\r\n", "too large a head"),
        (PREFACE + h2(4, 0, b"abc"), "HTTP/2: "),
        (PREFACE + h2(4, 0) + h2(0, 1, length=2**24 - 1), "a frame of 16777215 bytes"),
        (PREFACE + h2(4, 0) + h2(6, 0, b"12345678") * 5_000, "too many frames"),
    ],
)
def test_what_is_no_request_is_one_line_and_ends_at_once(data: bytes, says: str) -> None:
    with a_world() as world, logged() as lines:
        protocol = world.plane.factory.buildProtocol(None)
        transport = StringTransport()
        transport.abortConnection = transport.loseConnection  # type: ignore[method-assign]
        protocol.makeConnection(transport)
        protocol.dataReceived(data)
        for _ in range(40):
            world.clock.advance(0)
        assert transport.disconnecting
        [line] = lines
        assert line.startswith("control plane: the connection from 192.168.1.1:54321 is closed: ")
        assert says in line
        protocol.connectionLost()


def test_a_flood_of_them_is_counted() -> None:
    clock = Clock()
    closed_log = ClosedLog(Logger(), "port", clock.seconds)
    with logged() as lines:
        for n in range(1_000):
            closed_log.note(f"h:{n}", "garbage")
        assert len(lines) == LINES
        clock.advance(PERIOD)
        closed_log.note("h:1", "garbage")
    assert lines[-1] == f"port: the connection from h:1 is closed: garbage ({1_000 - LINES} more before it)"
    assert closed_log.total == 1_001


def test_a_frame_that_is_too_long_is_seen_by_its_header() -> None:
    guard = FrameGuard()
    guard.feed(h2(0, 1, b"x" * 16_384))
    assert guard.take() is not None
    guard.feed(h2(0, 1, length=16_385))
    with pytest.raises(FrameTooLong):
        guard.take()
