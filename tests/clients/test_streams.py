"""Streams of Twisted clients: bytes, calls and messages on them, and protocols that run over them."""

from __future__ import annotations

import hashlib
import io

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost, NoProtocol
from twisted.internet.interfaces import IConsumer, IPushProducer, ITransport
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import deferLater
from twisted.protocols.basic import FileSender, LineReceiver
from twisted.python.failure import Failure
from zope.interface.verify import verifyObject

from frontier_tx.clients import Bounds, Request, Stream
from frontier_tx.clients.transport import StreamClientEndpoint, StreamServerEndpoint, StreamTransport
from frontier_tx.errors import EndClosed, ForceClosed, RemoteError
from tests.clients.conftest import World


@pytest_twisted.ensureDeferred
async def test_bytes_both_ways_and_the_end(world: World) -> None:
    edge, service = await world.edge(), await world.service(name="files")
    mine = await edge.open_stream("files", b"about")
    theirs = await service.accept_stream()
    assert isinstance(theirs, Stream) and theirs.meta == b"about" and mine.peer == "files"
    assert edge.list_streams() == [mine] and service.list_streams() == [theirs]
    mine.write(b"there")
    assert await theirs.read(3) == b"the"
    assert await theirs.read() == b"re"
    theirs.write(b"back")
    assert await mine.read() == b"back"
    theirs.write(b"last words")
    await theirs.close()
    assert await mine.read() == b"last words"
    assert await mine.read() == b""
    with pytest.raises(EndClosed):
        mine.write(b"too late")
    assert edge.list_streams() == []


@pytest_twisted.ensureDeferred
async def test_calls_and_messages_on_a_stream(world: World) -> None:
    edge, service = await world.edge(), await world.service(name="s")
    theirs = await service.open_stream(edge.edge_id)
    mine = await edge.accept_stream()
    seen: list[Request] = []

    def up(request: Request) -> bytes:
        seen.append(request)
        return request.data.upper()

    await mine.register("up", up)
    assert await theirs.call("up", b"abc", b"twelve bytes") == b"ABC"
    assert seen[0].custom == b"twelve bytes" and seen[0].edge_id == 0
    with pytest.raises(RemoteError, match=r"^no such rpc: up$"):
        await service.call(edge.edge_id, "up")
    sent = mine.publish("t", b"m", b"twelve bytes")
    message = await theirs.receive()
    assert (message.data, message.custom, message.edge_id) == (b"m", b"twelve bytes", 0)
    message.ack()
    await sent
    pending = mine.publish("t", b"never acked")
    await theirs.receive()
    await theirs.close()
    with pytest.raises((ForceClosed, RemoteError), match=r"^force closed$"):
        await pending
    with pytest.raises(EndClosed):
        await mine.receive()


@pytest_twisted.ensureDeferred
async def test_a_stream_to_nobody_ends_at_once(world: World) -> None:
    edge = await world.edge()
    stream = await edge.open_stream("nobody")
    with pytest.raises(ForceClosed, match=r"^force closed: service not online$"):
        await stream.read()


@pytest_twisted.ensureDeferred
async def test_a_slow_reader_holds_the_writer_and_loses_nothing(world: World) -> None:
    bounds = Bounds(stream_bytes=65_536, high_water=65_536, low_water=16_384)
    edge = await world.edge(bounds=bounds)
    service = await world.service(name="s", bounds=bounds)
    mine = await edge.open_stream("s")
    theirs = await service.accept_stream()
    digest = hashlib.sha256()
    total = 24 * 1024 * 1024
    read = 0

    async def write() -> None:
        block = bytes(range(256)) * 1024
        for _ in range(total // len(block)):
            digest.update(block)
            mine.write(block)
            await mine.drain()
        await mine.close()

    writing = ensureDeferred(write())
    got = hashlib.sha256()
    while data := await theirs.read():
        assert len(data) < 1_000_000
        got.update(data)
        read += len(data)
    await writing
    assert read == total and got.digest() == digest.digest()


class Lines(LineReceiver):
    """Answers each line in upper case; ``bye`` ends it."""

    delimiter = b"\n"

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.made: Deferred[None] = Deferred()
        self.lost: Deferred[None] = Deferred()

    def connectionMade(self) -> None:
        self.made.callback(None)

    def lineReceived(self, line: bytes) -> None:
        self.lines.append(line)
        if line == b"bye":
            self.sendLine(b"BYE")
            assert self.transport is not None
            self.transport.loseConnection()
        elif line != line.upper():
            self.sendLine(line.upper())

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost.callback(None)


@pytest_twisted.ensureDeferred
async def test_any_protocol_runs_over_a_stream(world: World) -> None:
    edge, service = await world.edge(), await world.service(name="lines")
    served: list[Lines] = []

    def build() -> Lines:
        served.append(Lines())
        return served[-1]

    port = await StreamServerEndpoint(service).listen(Factory.forProtocol(build))
    client = await StreamClientEndpoint(edge, "lines").connect(Factory.forProtocol(Lines))
    assert isinstance(client, Lines)
    transport = client.transport
    assert isinstance(transport, StreamTransport)
    for interface in (ITransport, IConsumer, IPushProducer):
        assert verifyObject(interface, transport)
    client.sendLine(b"hello")
    client.sendLine(b"bye")
    await client.lost
    await served[0].lost
    assert served[0].lines == [b"hello", b"bye"] and client.lines == [b"HELLO", b"BYE"]
    assert transport.disconnected
    await port.stopListening()


class Sink(Protocol):
    """Counts and digests."""

    def __init__(self) -> None:
        self.count = 0
        self.digest = hashlib.sha256()
        self.lost: Deferred[BaseException | None] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        self.count += len(data)
        self.digest.update(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost.callback(reason.value)


class Pusher:
    """Writes blocks until it is paused."""

    def __init__(self, transport: StreamTransport, blocks: int) -> None:
        self.transport = transport
        self.left = blocks
        self.paused = False
        self.pauses = 0
        self.stopped = False

    def run(self) -> None:
        while self.left and not self.paused:
            self.left -= 1
            self.transport.write(b"x" * 65_536)
        if not self.left:
            self.transport.unregisterProducer()
            self.transport.loseConnection()

    def pauseProducing(self) -> None:
        self.paused = True
        self.pauses += 1

    def resumeProducing(self) -> None:
        self.paused = False
        self.run()

    def stopProducing(self) -> None:
        self.stopped = True


@pytest_twisted.ensureDeferred
async def test_producers_of_both_kinds(world: World) -> None:
    edge, service = await world.edge(), await world.service(name="s")
    mine = await edge.open_stream("s")
    sink = Sink()
    (await service.accept_stream()).attach(sink)
    pusher = Pusher(mine.attach(Protocol()), 256)
    mine_transport = pusher.transport
    mine_transport.registerProducer(pusher, True)
    pusher.run()
    await sink.lost
    assert sink.count == 256 * 65_536 and pusher.pauses > 0 and not pusher.stopped

    again = await edge.open_stream("s")
    second = Sink()
    (await service.accept_stream()).attach(second)
    transport = again.attach(Protocol())
    content = bytes(range(256)) * 20_000
    await FileSender().beginFileTransfer(io.BytesIO(content), transport)
    transport.loseConnection()
    await second.lost
    assert second.digest.digest() == hashlib.sha256(content).digest()


@pytest_twisted.ensureDeferred
async def test_a_paused_protocol_gets_nothing_until_it_resumes(world: World) -> None:
    edge, service = await world.edge(), await world.service(name="s")
    mine = await edge.open_stream("s")
    theirs = await service.accept_stream()
    sink = Sink()
    transport = theirs.attach(sink)
    transport.pauseProducing()
    mine.write(b"abc")
    await mine.close()
    assert sink.count == 0 and not sink.lost.called
    transport.resumeProducing()
    await sink.lost
    assert sink.count == 3


class Broken(Protocol):
    """Fails at the first byte."""

    lost: Failure | None = None

    def dataReceived(self, data: bytes) -> None:
        raise ZeroDivisionError

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost = reason


@pytest_twisted.ensureDeferred
async def test_a_protocol_that_fails_loses_its_stream_alone(world: World) -> None:
    edge, service = await world.edge(), await world.service(name="s")
    await service.register("m", lambda request: b"alive")
    stream = await edge.open_stream("s")
    broken = Broken()
    (await service.accept_stream()).attach(broken)
    stream.write(b"x")
    with pytest.raises(ForceClosed, match=r"^force closed: aborted$"):
        await stream.read()
    assert broken.lost is not None and broken.lost.check(ZeroDivisionError)
    assert await edge.call("m") == b"alive"


@pytest_twisted.ensureDeferred
async def test_on_stream_that_fails_closes_the_stream_alone(world: World) -> None:
    edge, service = await world.edge(), await world.service(name="s")
    await service.register("m", lambda request: b"alive")
    service.on_stream(lambda stream: 1 // 0)
    stream = await edge.open_stream("s")
    with pytest.raises(ForceClosed, match=r"^force closed: aborted$"):
        await stream.read()
    assert await edge.call("m") == b"alive"


@pytest_twisted.ensureDeferred
async def test_losing_the_connection_ends_streams(world: World) -> None:
    edge, service = await world.edge(reconnect=None), await world.service(name="s")
    stream = await edge.open_stream("s")
    theirs = await service.accept_stream()
    sink = Sink()
    theirs.attach(sink)
    other, own_sink = await edge.open_stream("s"), Sink()
    other.attach(own_sink)
    call = stream.call("x")
    assert edge.reconnector.connection is not None
    edge.reconnector.connection.transport.abort("cut")
    with pytest.raises(ForceClosed, match=r"^force closed$"):
        await call
    for _ in range(2):
        with pytest.raises(ForceClosed, match=r"^force closed$"):
            await stream.read()
    # Neither can know whether more was to come.
    assert isinstance(await own_sink.lost, ConnectionLost)
    assert isinstance(await sink.lost, ConnectionLost)


@pytest_twisted.ensureDeferred
async def test_a_client_that_closes_ends_its_streams_in_order(world: World) -> None:
    edge, service = await world.edge(reconnect=None), await world.service(name="s")
    stream, attached, sink = await edge.open_stream("s"), await edge.open_stream("s"), Sink()
    attached.attach(sink)
    theirs = await service.accept_stream()
    theirs.write(b"left")
    await edge.close()
    assert await stream.read() in (b"left", b"")
    assert await stream.read() == b""
    assert isinstance(await sink.lost, ConnectionDone)


@pytest_twisted.ensureDeferred
async def test_aborting_a_stream_tells_its_protocol_at_once_and_as_any_transport_does(world: World) -> None:
    edge, service = await world.edge(), await world.service(name="s")
    stream, sink = await edge.open_stream("s"), Sink()
    theirs = await service.accept_stream()
    transport = stream.attach(sink)
    transport.abortConnection()
    assert not sink.lost.called
    theirs.write(b"too late")
    assert isinstance(await sink.lost, ConnectionAborted)
    assert sink.count == 0
    with pytest.raises(ForceClosed, match=r"^force closed: aborted$"):
        await theirs.read()


@pytest_twisted.ensureDeferred
async def test_a_stream_on_which_too_much_waits_is_lost_for_its_protocol(world: World) -> None:
    edge = await world.edge(bounds=Bounds(unsent_bytes=-1))
    await world.service(name="s")
    stream, sink = await edge.open_stream("s"), Sink()
    stream.attach(sink).write(b"x")
    lost = await sink.lost
    assert isinstance(lost, ConnectionLost) and "send buffer full" in str(lost)


class Counted(Factory):
    """Tells how often it was started and stopped."""

    noisy = False

    def __init__(self, protocol: type[Protocol] | None) -> None:
        self.protocol = protocol
        self.steps: list[str] = []

    def startFactory(self) -> None:
        self.steps.append("start")

    def stopFactory(self) -> None:
        self.steps.append("stop")

    def buildProtocol(self, addr: object) -> Protocol | None:
        return None if self.protocol is None else self.protocol()


@pytest_twisted.ensureDeferred
async def test_a_client_factory_is_stopped_with_its_stream(world: World) -> None:
    edge, service = await world.edge(), await world.service(name="s")
    factory = Counted(Sink)
    protocol = await StreamClientEndpoint(edge, "s").connect(factory)
    assert factory.steps == ["start"]
    await (await service.accept_stream()).close()
    await protocol.lost
    await deferLater(reactor, 0)  # type: ignore[arg-type]
    assert factory.steps == ["start", "stop"]
    nobody = Counted(None)
    with pytest.raises(NoProtocol):
        await StreamClientEndpoint(edge, "s").connect(nobody)
    assert nobody.steps == ["start", "stop"]
    assert await (await service.accept_stream()).read() == b""
    await edge.close()
    with pytest.raises(EndClosed):
        await StreamClientEndpoint(edge, "s").connect(nobody)
    assert nobody.steps == ["start", "stop"] * 2
