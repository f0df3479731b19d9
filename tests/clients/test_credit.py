"""Credit and cut marks from end to end: two clients and a gateway in memory."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import ensureDeferred

from frontier_tx.clients import Bounds, Edge, ForceClosed, Service
from frontier_tx.testing import MemoryGateway

MIB = 1 << 20
#: Window of either client, of the gateway towards each, and what may wait in the writer itself.
MOST_UNDER_WAY = 4 * MIB


class Gateway(MemoryGateway):
    """With an edge and a service that are connected, and a stream between them."""

    def __init__(self) -> None:
        super().__init__()

    def pair(self, **options: Any) -> tuple[Edge, Service]:
        edge, service = self.edge(reconnect=None, **options), self.service(name="s", reconnect=None, **options)
        for client in (edge, service):
            self.run(client.connect())
            self.run(client.register("alive", lambda request: b"yes"))
        return edge, service

    def stream(self, edge: Edge, service: Service) -> tuple[Any, Any]:
        mine = self.run(edge.open_stream("s"))
        return mine, self.run(service.accept_stream())


def test_unread_streams_stop_neither_calls_nor_messages_nor_other_streams() -> None:
    with Gateway() as gateway:
        edge, service = gateway.pair()
        other = gateway.edge()
        gateway.run(other.connect())
        pairs = [gateway.stream(edge, service) for _ in range(5)]
        written = [0] * len(pairs)

        async def upload(at: int, stream: Any) -> None:
            while True:
                stream.write(bytes(65_536))
                written[at] += 65_536
                await stream.drain()

        writers = [ensureDeferred(upload(at, pair[at % 2])) for at, pair in enumerate(pairs)]
        for writer in writers:
            writer.addErrback(lambda failure: None)
        for _ in range(3):
            assert gateway.run(edge.call("alive")) == b"yes"
            assert gateway.run(service.call(edge.edge_id, "alive")) == b"yes"
            assert gateway.run(other.call("alive")) == b"yes"
            mine, theirs = gateway.stream(edge, service)
            mine.write(b"quick")
            assert gateway.run(theirs.read()) == b"quick"
        assert all(MIB <= size <= MOST_UNDER_WAY for size in written), written
        # What goes on being read goes on being written.
        reader = pairs[0][1]
        for _ in range(200):
            gateway.run(reader.read())
        assert written[0] > 8 * MIB and max(written[1:]) <= MOST_UNDER_WAY
        for mine, theirs in pairs:
            mine.abort()
            theirs.abort()
        gateway.advance()
        assert len(service.list_streams()) == len(edge.list_streams()) == 3


def test_a_small_window_and_a_large_write_arrive_whole() -> None:
    with Gateway() as gateway:
        edge, service = gateway.pair(bounds=Bounds(stream_bytes=8192))
        mine, theirs = gateway.stream(edge, service)
        data = bytes(range(256)) * 8192
        mine.write(data)
        closing = mine.close()

        async def read_all() -> bytes:
            got = b""
            while block := await theirs.read(5000):
                got += block
            return got

        assert gateway.run(ensureDeferred(read_all()), within=60) == data
        gateway.run(closing)


@pytest.mark.parametrize("lost", ["edge", "service", "all"])
@pytest.mark.parametrize("queued", [10, 4 * MIB])
def test_what_is_left_of_a_writer_that_was_lost_is_no_whole(lost: str, queued: int) -> None:
    with Gateway() as gateway:
        edge, service = gateway.pair()
        pair = gateway.stream(edge, service)
        writer, reader = pair if lost == "edge" else pair[::-1]
        writer.write(bytes(queued))
        gateway.advance()
        if lost == "all":
            gateway.cut()
        else:
            keeper = (edge if lost == "edge" else service).reconnector
            assert keeper.connection is not None
            keeper.connection.transport.abort("cut")
        gateway.advance()
        got = 0

        async def read_all() -> None:
            nonlocal got
            while block := await reader.read():
                got += len(block)

        with pytest.raises(ForceClosed):
            gateway.run(ensureDeferred(read_all()), within=5)
        assert got <= queued


def test_a_reason_travels_to_the_far_end() -> None:
    with Gateway() as gateway:
        edge, service = gateway.pair()
        mine, theirs = gateway.stream(edge, service)
        mine.write(b"half of it")
        gateway.advance()
        mine.abort("the disk is full")
        gateway.advance()
        assert gateway.run(theirs.read()) == b"half of it"
        for _ in range(2):
            with pytest.raises(ForceClosed, match=r"^force closed: the disk is full$"):
                gateway.run(theirs.read())
