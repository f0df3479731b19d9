"""A client is closed while somebody is still writing to a stream: its reader must not take what came for all of it."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import Protocol
from twisted.internet.task import deferLater
from zope.interface import implementer

from frontier_tx import aio
from frontier_tx.clients import Edge, ForceClosed, Service, Stream
from frontier_tx.testing import MemoryGateway
from frontier_tx.testing import aio as testing
from frontier_tx.wire.limits import Limits

CUT = r"^force closed: aborted$"
MUCH = 1 << 20


@implementer(IPushProducer)
class Producer:
    """One that has more to write."""

    stopped = False

    def pauseProducing(self) -> None:
        """It writes nothing by itself."""

    def resumeProducing(self) -> None:
        """It writes nothing by itself."""

    def stopProducing(self) -> None:
        self.stopped = True


def pair(gateway: MemoryGateway) -> tuple[Edge, Service]:
    edge, service = gateway.edge(), gateway.service(name="s")
    gateway.run(edge.connect())
    gateway.run(service.connect())
    return edge, service


def read_all(gateway: MemoryGateway, stream: Stream) -> bytes:
    got = b""
    while data := gateway.run(stream.read()):
        got += data
    return got


async def read_all_of(stream: aio.Stream) -> None:
    while await stream.read():
        pass


def served(gateway: MemoryGateway, serve: Callable[[Stream], Any]) -> tuple[Service, Stream]:
    """A service whose callback serves a stream, and the far end of that."""
    edge, service = pair(gateway)
    service.on_stream(serve)
    stream = gateway.run(edge.open_stream("s"))
    assert gateway.run(stream.read()) == b"half"
    return service, stream


def test_a_callback_of_twisted_that_is_still_writing_has_its_stream_cut() -> None:
    told: list[Exception] = []

    async def serve(stream: Stream) -> None:
        stream.write(b"half")
        await deferLater(gateway.clock, 5)
        try:
            stream.write(b"the rest")
        except Exception as error:
            told.append(error)
            raise

    with MemoryGateway() as gateway:
        service, stream = served(gateway, serve)
        gateway.run(service.close())
        with pytest.raises(ForceClosed, match=CUT):
            gateway.run(stream.read())
        gateway.advance(6)
        assert [str(error) for error in told] == ["EOF"]


def test_a_callback_that_came_to_its_end_leaves_a_stream_that_ends_clean() -> None:
    async def serve(stream: Stream) -> None:
        stream.write(b"half")
        await deferLater(gateway.clock, 1)
        stream.write(b"the rest")

    with MemoryGateway() as gateway:
        service, stream = served(gateway, serve)
        gateway.advance(2)
        gateway.run(service.close())
        assert read_all(gateway, stream) == b"the rest"


def test_a_callback_may_close_its_own_client_when_it_has_written_all() -> None:
    async def serve(stream: Stream) -> None:
        stream.write(b"half")
        await deferLater(gateway.clock, 1)
        stream.write(b"the rest")
        await service.close()

    with MemoryGateway() as gateway:
        service, stream = served(gateway, serve)
        gateway.advance(2)
        assert read_all(gateway, stream) == b"the rest"


def test_who_waits_to_write_on_has_his_stream_cut() -> None:
    with MemoryGateway(limits=Limits(stream_window_bytes=65_536)) as gateway:
        edge, service = pair(gateway)
        stream = gateway.run(edge.open_stream("s"))
        accepted = gateway.run(service.accept_stream())
        stream.write(bytes(MUCH))
        draining = stream.drain()
        closing = edge.close()
        with pytest.raises(Exception, match=r"^(force closed: aborted|force closed|EOF)$"):
            gateway.run(draining)
        with pytest.raises(ForceClosed, match=CUT):
            read_all(gateway, accepted)
        gateway.run(closing)


def test_what_was_written_by_somebody_who_wants_no_more_is_sent_first() -> None:
    with MemoryGateway(limits=Limits(stream_window_bytes=65_536)) as gateway:
        edge, service = pair(gateway)
        stream = gateway.run(edge.open_stream("s"))
        accepted = gateway.run(service.accept_stream())
        stream.write(bytes(MUCH))
        closing = edge.close()
        assert len(read_all(gateway, accepted)) == MUCH
        gateway.run(closing)


@pytest.mark.parametrize("registered", [True, False])
def test_a_producer_that_is_registered_has_more_to_write(registered: bool) -> None:
    with MemoryGateway() as gateway:
        edge, service = pair(gateway)
        transport = gateway.run(edge.open_stream("s")).attach(Protocol())
        accepted = gateway.run(service.accept_stream())
        producer = Producer()
        transport.registerProducer(producer, True)
        transport.write(b"half")
        if not registered:
            transport.unregisterProducer()
        gateway.run(edge.close())
        if registered:
            with pytest.raises(ForceClosed, match=CUT):
                read_all(gateway, accepted)
        else:
            assert read_all(gateway, accepted) == b"half"
        assert producer.stopped is registered


@pytest.mark.parametrize("how", ["callback", "drain"])
@pytest.mark.asyncio
async def test_in_asyncio_who_is_still_writing_has_his_stream_cut(how: str) -> None:
    async def serve(stream: aio.Stream) -> None:
        stream.write(b"half" if how == "callback" else bytes(MUCH))
        await (asyncio.sleep(60) if how == "callback" else stream.drain())

    async with testing.MemoryGateway(limits=Limits(stream_window_bytes=65_536)) as gateway:
        edge, service = gateway.edge(), gateway.service(name="s")
        await edge.connect()
        await service.connect()
        if how == "callback":
            service.on_stream(serve)
            stream = await edge.open_stream("s")
            writing = None
        else:
            stream = await edge.open_stream("s")
            writing = asyncio.create_task(serve(await service.accept_stream()))
        assert await stream.read(4) in (b"half", bytes(4))
        await service.close()
        with pytest.raises(ForceClosed, match=CUT):
            await read_all_of(stream)
        if writing is not None:
            with pytest.raises(Exception, match=r"^(force closed|EOF)"):
                await writing


@pytest.mark.asyncio
async def test_in_asyncio_a_callback_may_close_its_own_client_when_it_has_written_all() -> None:
    async def serve(stream: aio.Stream) -> None:
        stream.write(b"all")
        await service.close()

    async with testing.MemoryGateway() as gateway:
        edge, service = gateway.edge(), gateway.service(name="s")
        await edge.connect()
        await service.connect()
        service.on_stream(serve)
        stream = await edge.open_stream("s")
        assert await stream.read() == b"all"
        assert await stream.read() == b""
