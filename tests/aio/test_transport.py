"""Twisted protocols on asyncio's transports: the transport keeps what Twisted promises, and attempts leave nothing."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IConsumer, IPushProducer, IStreamClientEndpoint, ITransport
from twisted.internet.protocol import Factory, Protocol
from twisted.python.failure import Failure
from zope.interface.verify import verifyObject

from frontier_tx import aio
from frontier_tx.aio.futures import Tasks
from frontier_tx.aio.transport import Carrier, LoopEndpoint
from frontier_tx.wire.connection import Connection
from frontier_tx.wire.events import ConnReceived
from frontier_tx.wire.states import Role

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Any]


class Recorder(Protocol):
    """A protocol, and a producer, that notes what happens to it."""

    def __init__(self) -> None:
        self.data = b""
        self.told: list[str] = []
        self.lost: asyncio.Future[Failure] = asyncio.get_running_loop().create_future()

    def dataReceived(self, data: bytes) -> None:
        self.data += data

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        self.lost.set_result(reason)

    def pauseProducing(self) -> None:
        self.told.append("pause")

    def resumeProducing(self) -> None:
        self.told.append("resume")

    def stopProducing(self) -> None:
        self.told.append("stop")


async def until(true: Callable[[], Any]) -> None:
    for _ in range(10_000):
        if true():
            return
        await asyncio.sleep(0.001)
    raise AssertionError("it did not come about")


def waited(deferred: Deferred[Any]) -> asyncio.Future[Any]:
    return deferred.asFuture(asyncio.get_running_loop())


def endpoint_at(port: int, tasks: Tasks | None = None) -> LoopEndpoint:
    loop = asyncio.get_running_loop()
    return LoopEndpoint(lambda factory: loop.create_connection(factory, "127.0.0.1", port), tasks or Tasks())


@asynccontextmanager
async def served(handler: Handler) -> AsyncIterator[int]:
    server = await asyncio.start_server(handler, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def connected(port: int) -> Recorder:
    protocol: Recorder = await waited(endpoint_at(port).connect(Factory.forProtocol(Recorder)))
    return protocol


@pytest.mark.asyncio
async def test_bytes_and_addresses_of_a_connection() -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readexactly(4))
        await reader.read()
        writer.close()

    async with served(echo) as port:
        protocol = await connected(port)
        transport: Any = protocol.transport
        assert transport.getPeer() == IPv4Address("TCP", "127.0.0.1", port)
        assert transport.getHost().host == "127.0.0.1"
        transport.writeSequence([b"ab", b"cd"])
        await until(lambda: len(protocol.data) == 4)
        assert protocol.data == b"abcd"
        transport.loseConnection()
        assert isinstance((await protocol.lost).value, ConnectionDone)
        transport.write(b"late")


@pytest.mark.asyncio
async def test_a_producer_is_paused_while_the_peer_takes_nothing_and_is_waited_for_at_the_end() -> None:
    go_on, total = asyncio.Event(), 0

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal total
        await go_on.wait()
        while data := await reader.read(65_536):
            total += len(data)
        writer.close()

    async with served(slow) as port:
        protocol = await connected(port)
        transport: Any = protocol.transport
        with pytest.raises(ValueError, match="push"):
            transport.registerProducer(protocol, False)
        transport.registerProducer(protocol, True)
        with pytest.raises(RuntimeError, match="already"):
            transport.registerProducer(protocol, True)
        sent = 0
        while not protocol.told:
            transport.write(bytes(65_536))
            sent += 65_536
        assert protocol.told == ["pause"]
        go_on.set()
        await until(lambda: len(protocol.told) == 2)
        assert protocol.told == ["pause", "resume"]
        transport.loseConnection()
        transport.write(b"end")
        transport.unregisterProducer()
        assert isinstance((await protocol.lost).value, ConnectionDone)
        await until(lambda: total == sent + 3)


@pytest.mark.asyncio
async def test_a_lost_connection_stops_the_producer_and_says_why() -> None:
    async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # No time to linger: the kernel sends a reset.
        linger = struct.pack("ii", 1, 0)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        writer.transport.abort()

    async with served(cut) as port:
        protocol = await connected(port)
        transport: Any = protocol.transport
        transport.registerProducer(protocol, True)
        assert "reset" in (await protocol.lost).getErrorMessage()
        assert protocol.told == ["stop"]
        transport.registerProducer(protocol, True)
        assert protocol.told == ["stop", "stop"]


@pytest.mark.asyncio
async def test_reading_is_paused_for_the_protocol() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"news")
        await reader.read()
        writer.close()

    async with served(talk) as port:
        protocol = await connected(port)
        transport: Any = protocol.transport
        transport.pauseProducing()
        await asyncio.sleep(0.05)
        assert protocol.data == b""
        transport.resumeProducing()
        await until(lambda: protocol.data)
        transport.abortConnection()
        await protocol.lost


@pytest.mark.asyncio
async def test_a_factory_that_makes_nothing_fails_the_attempt() -> None:
    async def quiet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    factory = Factory()
    factory.buildProtocol = lambda addr: None  # type: ignore[method-assign]
    async with served(quiet) as port:
        with pytest.raises(RuntimeError, match="no protocol"):
            await waited(endpoint_at(port).connect(factory))


@pytest.mark.asyncio
async def test_attempts_end_with_the_reason_and_leave_no_task() -> None:
    tasks = Tasks()
    with pytest.raises(ConnectionRefusedError):
        await waited(endpoint_at(1, tasks).connect(Factory.forProtocol(Recorder)))

    async def never(factory: Any) -> None:
        await asyncio.sleep(60)

    async def nothing(factory: Any) -> None:
        pass

    with pytest.raises(TimeoutError, match=r"^no connection within 0\.05 s$"):
        await waited(LoopEndpoint(never, tasks, 0.05).connect(Factory.forProtocol(Recorder)))
    for dial in (never, nothing):
        attempt = LoopEndpoint(dial, tasks).connect(Factory.forProtocol(Recorder))
        attempt.addErrback(lambda failure: None)
        if dial is never:
            attempt.cancel()
        await tasks.ended()
        assert attempt.called
    assert not len(tasks)


@pytest.mark.asyncio
async def test_a_peer_that_is_slow_but_takes_something_is_not_dropped() -> None:
    """The whole takes longer than a peer may take nothing at all."""
    taken = 0

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal taken
        machine = Connection(Role.SERVER, 0.0)
        while not machine.connected:
            for told in machine.receive(await reader.read(1000), 0.0):
                if isinstance(told, ConnReceived):
                    machine.accept(1, 0.0)
            writer.write(machine.take_output())
        while data := await reader.read(65_536):
            taken += len(data)
            await asyncio.sleep(0.03)
        writer.close()

    listening = small_buffers()
    listening.bind(("127.0.0.1", 0))
    async with await asyncio.start_server(slow, sock=listening):

        async def dial(factory: Callable[[], asyncio.Protocol]) -> None:
            loop, near = asyncio.get_running_loop(), small_buffers()
            await loop.sock_connect(near, listening.getsockname())
            await loop.create_connection(factory, sock=near)

        edge = aio.Edge(dial, write_stall_seconds=1.0, reconnect=None)
        await edge.connect()
        await edge.publish("t", bytes(4_000_000), at_most_once=True)
        await until(lambda: taken >= 5_000_000 or not edge.online)
        end = edge.reconnector.connection
        assert end is not None
        # Nobody is there to answer a goodbye.
        end.transport.abort("the test is over")
        await edge.close()


def small_buffers() -> socket.socket:
    made = socket.socket()
    made.setblocking(False)
    for name in (socket.SO_RCVBUF, socket.SO_SNDBUF):
        made.setsockopt(socket.SOL_SOCKET, name, 65_536)
    return made


def test_interfaces() -> None:
    carrier = Carrier(Factory(), Deferred())
    for interface in (ITransport, IConsumer, IPushProducer):
        assert verifyObject(interface, carrier)
    assert verifyObject(IStreamClientEndpoint, LoopEndpoint(lambda factory: asyncio.sleep(0), Tasks()))
