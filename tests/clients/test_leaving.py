"""Ends, in both flavours: beside what is unread, without a connection, twice. Callbacks that are coroutines."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from twisted.internet.defer import Deferred, ensureDeferred, succeed
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from frontier_tx import aio
from frontier_tx.clients import Backoff, Edge, EndClosed, ForceClosed, Service
from frontier_tx.testing import MemoryGateway
from frontier_tx.testing import aio as testing
from frontier_tx.wire.limits import Limits
from tests.aio.test_transport import until

MIB = 1 << 20


class Gateway(MemoryGateway):
    """With an edge and a service that are connected."""

    def pair(self, **options: Any) -> tuple[Edge, Service]:
        edge, service = self.edge(**options), self.service(name="s", **options)
        self.run(edge.connect())
        self.run(service.connect())
        self.run(service.register("alive", lambda request: b"yes"))
        self.run(edge.register("alive", lambda request: b"yes"))
        return edge, service


class Sink(Protocol):
    """Notes what comes."""

    def __init__(self) -> None:
        self.size = 0
        self.lost: Deferred[type] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        self.size += len(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost.callback(reason.type)


@pytest.mark.parametrize(
    ("end", "reason"),
    [("loseConnection", ConnectionDone), ("abortConnection", ConnectionAborted), ("stopProducing", ConnectionDone)],
)
def test_a_paused_transport_ends_when_it_is_told_to(end: str, reason: type) -> None:
    with Gateway() as gateway:
        edge, service = gateway.pair()
        mine = gateway.run(edge.open_stream("s"))
        theirs = gateway.run(service.accept_stream())
        sink = Sink()
        transport = mine.attach(sink)
        transport.pauseProducing()
        theirs.write(bytes(3 * MIB))
        gateway.advance()
        getattr(transport, end)()
        getattr(transport, end)()
        assert gateway.run(sink.lost) is reason
        transport.resumeProducing()
        transport.pauseProducing()
        transport.write(b"late")
        assert sink.size == 0
        assert gateway.run(edge.call("alive")) == b"yes"
        assert gateway.run(service.call(edge.edge_id, "alive")) == b"yes"


def test_a_paused_transport_is_told_of_the_loss_when_it_ends() -> None:
    with Gateway() as gateway:
        edge, _ = gateway.pair(reconnect=None)
        sink = Sink()
        transport = gateway.run(edge.open_stream("s")).attach(sink)
        transport.pauseProducing()
        gateway.cut()
        gateway.advance()
        transport.loseConnection()
        assert not sink.lost.called, "not inside its own call"
        assert gateway.run(sink.lost) is ConnectionLost


def test_a_producer_whose_far_side_stops_reading_is_paused_and_the_service_goes_on() -> None:
    class Endless:
        paused = stopped = False

        def __init__(self, transport: Any) -> None:
            self.transport = transport

        def run(self) -> None:
            while not (self.paused or self.stopped):
                self.transport.write(bytes(65_536))

        def pauseProducing(self) -> None:
            self.paused = True

        def resumeProducing(self) -> None:
            self.paused = False
            self.run()

        def stopProducing(self) -> None:
            self.stopped = True

    with Gateway() as gateway:
        edge, service = gateway.pair()
        visitor = gateway.run(edge.open_stream("s"))
        transport = gateway.run(service.accept_stream()).attach(Sink())
        download = Endless(transport)
        transport.registerProducer(download, True)
        download.run()
        gateway.advance()
        assert download.paused
        gateway.run(visitor.close())
        gateway.advance()
        assert download.stopped and gateway.run(edge.call("alive")) == b"yes"


@pytest.mark.parametrize("end", ["close", "abort"])
def test_a_stream_with_a_mebibyte_unread_ends_in_no_time(end: str) -> None:
    with Gateway() as gateway:
        edge, service = gateway.pair()
        mine = gateway.run(edge.open_stream("s"))
        theirs = gateway.run(service.accept_stream())
        theirs.write(bytes(2 * MIB))
        gateway.advance()
        before = gateway.clock.seconds()
        ended = getattr(mine, end)()
        if end == "close":
            gateway.run(ended)
        assert gateway.run(edge.call("alive")) == b"yes"
        gateway.run(mine.close())
        mine.abort()
        assert gateway.clock.seconds() - before < 0.1
        assert edge.list_streams() == []
        gateway.advance()
        assert service.list_streams() == []


def test_a_client_closes_in_no_time_whatever_is_unread_and_as_often_as_one_likes() -> None:
    with Gateway() as gateway:
        edge, service = gateway.pair()
        gateway.run(edge.open_stream("s"))
        gateway.run(service.accept_stream()).write(bytes(2 * MIB))
        gateway.advance()
        before = gateway.clock.seconds()
        closing = [edge.close(), edge.close()]
        for each in (*closing, edge.close()):
            gateway.run(each)
        gateway.run(edge.close())
        assert gateway.clock.seconds() - before < 0.1


@pytest.mark.parametrize("state", ["never connected", "connecting", "reconnecting", "lost"])
def test_everything_ends_while_there_is_no_connection(state: str) -> None:
    with Gateway() as gateway:
        edge, _ = gateway.pair(reconnect=None if state == "lost" else Backoff(5.0))
        stream = gateway.run(edge.open_stream("s"))
        stream.write(b"x")
        if state == "never connected":
            edge = gateway.edge()
        elif state == "connecting":
            edge = gateway.edge()
            gateway.listen(False)
            edge.connect(keep_trying=True).addErrback(lambda failure: failure.trap(EndClosed) and None)
        else:
            gateway.listen(state == "lost")
            gateway.cut()
        gateway.advance()
        waits = [edge.when_online(), edge.receive(), edge.accept_stream(), stream.drain()]
        ends: list[Any] = []
        for wait in waits:
            wait.addBoth(ends.append)
        stream.abort()
        gateway.run(stream.close(), within=0.0)
        stream.abort()
        for _ in range(2):
            gateway.run(edge.close(), within=0.1)
        gateway.advance()
        assert len(ends) == 4, "whoever waited is told"
        with pytest.raises((EndClosed, ForceClosed)):
            gateway.run(stream.drain(), within=0.0)
        gateway.listen(True)


CREDIT = Limits(stream_window_bytes=MIB)


@pytest.mark.parametrize("where", ["stream", "client"])
@pytest.mark.parametrize("fails", [False, True])
def test_who_fails_in_the_middle_cuts_the_stream(where: str, fails: bool) -> None:
    with Gateway(limits=CREDIT) as gateway:
        edge, service = gateway.pair()

        async def send() -> None:
            stream = await edge.open_stream("s")
            async with stream if where == "stream" else edge:
                stream.write(b"half")
                await deferLater(gateway.clock, 0.1)
                if fails:
                    raise ZeroDivisionError

        async def receive() -> bytes:
            stream, got = await service.accept_stream(), b""
            while data := await stream.read():
                got += data
            return got

        if where == "client":
            # It is entered here for its end alone.
            edge.connect = lambda: succeed(None)  # type: ignore[method-assign, assignment]
        sending, receiving = ensureDeferred(send()), ensureDeferred(receive())
        sending.addErrback(lambda failure: failure.trap(ZeroDivisionError) and None)
        if fails:
            with pytest.raises(ForceClosed, match=r"^force closed: aborted$"):
                gateway.run(receiving)
        else:
            assert gateway.run(receiving) == b"half"
        gateway.run(sending)


@pytest.mark.parametrize("end", ["abortConnection", "failing protocol", "failing on_stream", "lost edge"])
def test_whatever_cuts_a_stream_its_reader_is_told(end: str) -> None:
    class Broken(Protocol):
        def dataReceived(self, data: bytes) -> None:
            raise ZeroDivisionError

    def fail(stream: Any) -> None:
        raise ZeroDivisionError

    with Gateway(limits=CREDIT) as gateway:
        edge, service = gateway.pair(reconnect=None)
        sink = Sink()
        if end == "failing on_stream":
            edge.on_stream(fail)
            gateway.run(service.open_stream(edge.edge_id)).attach(sink)
        else:
            theirs = gateway.run(edge.open_stream("s"))
            mine = gateway.run(service.accept_stream())
            mine.attach(sink)
            if end == "abortConnection":
                theirs.attach(Sink()).abortConnection()
            elif end == "failing protocol":
                theirs.attach(Broken())
                mine.write(b"x")
            else:
                assert edge.reconnector.connection is not None
                edge.reconnector.connection.transport.abort("cut")
        assert gateway.run(sink.lost) is ConnectionLost


# -- callbacks ---------------------------------------------------------------------------------------------


def test_callbacks_of_twisted_may_be_coroutines(caplog: pytest.LogCaptureFixture) -> None:
    told: list[Any] = []

    async def on_online() -> None:
        told.append("online")
        told.append(await edge.call("alive"))
        raise ZeroDivisionError("by hand")

    async def on_offline(reason: str) -> None:
        told.append("offline")
        raise ZeroDivisionError("by hand")

    async def on_stream(stream: Any) -> None:
        told.append(await stream.read())
        raise ZeroDivisionError("by hand")

    with Gateway() as gateway:
        service = gateway.service(name="s")
        gateway.run(service.connect())
        gateway.run(service.register("alive", lambda request: b"yes"))
        waiting = gateway.edge()
        gateway.run(waiting.connect())
        early = gateway.run(waiting.open_stream("s"))
        gateway.advance()
        # One that waits already is given to it too.
        service.on_stream(on_stream)
        edge = gateway.edge(on_online=on_online, on_offline=on_offline)
        gateway.run(edge.connect())
        early.write(b"hello")
        gateway.advance()
        assert not early.open
        gateway.cut()
        gateway.advance()
    assert told[:3] == ["online", b"yes", b"hello"] and "offline" in told


@pytest.mark.asyncio
async def test_callbacks_of_asyncio_may_be_coroutines(caplog: pytest.LogCaptureFixture) -> None:
    told: list[Any] = []
    failed = asyncio.Event()

    async def on_online() -> None:
        told.append(await edge.call("alive"))
        try:
            await asyncio.sleep(600)
        except asyncio.CancelledError:
            told.append("cancelled")
            raise

    async def on_offline(reason: str) -> None:
        failed.set()
        raise ZeroDivisionError("by hand")

    async def on_stream(stream: aio.Stream) -> None:
        told.append(await stream.read())
        raise ZeroDivisionError("by hand")

    async with testing.MemoryGateway() as gateway:
        service = gateway.service(name="s")
        await service.connect()
        await service.register("alive", lambda request: b"yes")
        edge = gateway.edge(on_online=on_online, on_offline=on_offline, reconnect=None)
        await edge.connect()
        early = await edge.open_stream("s")
        early.write(b"hello")
        await asyncio.sleep(0)
        service.on_stream(on_stream)
        await until(lambda: not early.open)
        assert told == [b"yes", b"hello"]
        assert edge.reconnector.connection is not None
        edge.reconnector.connection.transport.abort("cut")
        await failed.wait()
        await asyncio.wait_for(edge.close(), 3)
        assert told[-1] == "cancelled"
    async with testing.MemoryGateway() as gateway:

        async def at_the_end(reason: str) -> None:
            await asyncio.sleep(0.001)
            told.append("the end")

        edge = gateway.edge(on_offline=at_the_end)
        await edge.connect()
        await edge.close()
        assert told[-1] == "the end", "what is told of the end of a client comes to its own end"
    said = [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
    assert said == ["on_stream failed; the stream is closed", "on_offline failed"]


# -- asyncio -----------------------------------------------------------------------------------------------

Use = Callable[[aio.Edge, aio.Service], Awaitable[None]]


async def unread_and_closed(edge: aio.Edge, service: aio.Service) -> None:
    mine = await edge.open_stream("s")
    (await service.accept_stream()).write(bytes(2 * MIB))
    await mine.read(1)
    await mine.close()
    await mine.close()


async def unread_and_aborted(edge: aio.Edge, service: aio.Service) -> None:
    mine = await edge.open_stream("s")
    (await service.accept_stream()).write(bytes(2 * MIB))
    await mine.read(1)
    mine.abort("enough")
    with pytest.raises(ForceClosed, match=r"^force closed: enough$"):
        await mine.read()
    await mine.close()


async def opened_and_given_up(edge: aio.Edge, service: aio.Service) -> None:
    opening = asyncio.create_task(edge.open_stream("s"))
    await service.accept_stream()
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    await until(lambda: not service.list_streams())


async def waits_given_up(edge: aio.Edge, service: aio.Service) -> None:
    for _ in range(20):
        for wait in (service.receive, service.accept_stream, service.when_online):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(wait(), 0.0001)
    mine = await edge.open_stream("s")
    theirs = await service.accept_stream()
    for _ in range(9):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(theirs.readexactly(10), 0.001)
        mine.write(b"z")
    mine.write(b"z" * 11)
    assert await theirs.readexactly(20) == b"z" * 20


@pytest.mark.parametrize("use", [unread_and_closed, unread_and_aborted, opened_and_given_up, waits_given_up])
@pytest.mark.asyncio
async def test_ends_of_asyncio(use: Use) -> None:
    async with testing.MemoryGateway() as gateway:
        edge, service = gateway.edge(), gateway.service(name="s")
        await edge.connect()
        await service.connect()
        await service.register("alive", lambda request: b"yes")
        async with asyncio.timeout(5):
            await use(edge, service)
            assert await edge.call("alive") == b"yes"
            assert edge.reconnector.connection is not None and not edge.reconnector.connection.streams.keys() - {
                stream.id for stream in edge.list_streams()
            }
            for client in (edge, service):
                await client.close()
                await client.close()
