"""asyncio clients, each test's loop in a thread of its own, against a gateway and Twisted clients in the reactor's."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import hashlib
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.threads import deferToThread
from zope.interface.verify import verifyObject

from frontier_tx import aio
from frontier_tx.aio.client import AioProtocol
from frontier_tx.aio.loop import LoopClock
from frontier_tx.aio.transport import tcp
from frontier_tx.clients import Request
from frontier_tx.errors import EdgeNotOnline, EndClosed, ForceClosed, OperationTimeout, RemoteError
from frontier_tx.testing.aio import MemoryGateway
from frontier_tx.wire.frame import REGISTER_ACK, Frame
from tests.clients.conftest import World


def in_thread(main: Callable[[], Awaitable[Any]]) -> Deferred[Any]:
    """Run it in a loop of its own in which nothing may be left, and nothing may go wrong unseen."""

    async def bounded() -> Any:
        complaints: list[Any] = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: complaints.append(context))
        async with asyncio.timeout(30):
            result = await main()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        assert not left, f"tasks that nobody ended: {left}"
        assert not complaints, complaints
        return result

    return deferToThread(lambda: asyncio.run(bounded()))


@pytest_twisted.ensureDeferred
async def test_edge_and_service_of_asyncio(world: World) -> None:
    async def main() -> None:
        async with (
            aio.Edge("127.0.0.1", world.edge_port, meta=b"m") as edge,
            aio.Service("127.0.0.1", world.service_port, name="s", topics=["t"]) as service,
        ):
            seen: list[Request] = []

            async def reverse(request: Request) -> bytes:
                seen.append(request)
                await asyncio.sleep(0)
                return request.data[::-1]

            def refuse(request: Request) -> bytes:
                raise aio.HandlerError("not today")

            await service.register("reverse", reverse)
            await edge.register("refuse", refuse)
            assert await edge.call("reverse", b"abc", b"user") == b"cba"
            assert (seen[0].custom, seen[0].edge_id) == (b"user", edge.edge_id)
            with pytest.raises(RemoteError, match=r"^not today$"):
                await service.call(edge.edge_id, "refuse")
            with pytest.raises(EdgeNotOnline, match=r"^edge not online$"):
                await service.call(5, "refuse")
            async with asyncio.TaskGroup() as group:
                sending = group.create_task(edge.publish("t", b"data"))
                message = await service.receive()
                assert (message.data, message.edge_id) == (b"data", edge.edge_id)
                assert not sending.done()
                message.ack()
        with pytest.raises(EndClosed, match=r"(?m)^EOF$"):
            await edge.call("reverse")
        with pytest.raises(EndClosed):
            await edge.receive()

    await in_thread(main)


@pytest_twisted.ensureDeferred
async def test_cancelling_the_task_cancels_the_handler(world: World) -> None:
    async def main() -> None:
        async with (
            aio.Edge("127.0.0.1", world.edge_port) as edge,
            aio.Service("127.0.0.1", world.service_port) as service,
        ):
            started, ended = asyncio.Event(), asyncio.Event()

            async def slow(request: Request) -> bytes:
                started.set()
                try:
                    await asyncio.sleep(60)
                finally:
                    ended.set()
                return b""

            await edge.register("slow", slow)
            calling = asyncio.create_task(service.call(edge.edge_id, "slow"))
            await started.wait()
            calling.cancel()
            with pytest.raises(asyncio.CancelledError):
                await calling
            await ended.wait()
            ended.clear()
            with pytest.raises(OperationTimeout):
                await service.call(edge.edge_id, "slow", timeout=0.05)
            await ended.wait()

    await in_thread(main)


@pytest_twisted.ensureDeferred
async def test_edge_of_asyncio_with_a_service_of_twisted(world: World) -> None:
    service = await world.service(name="files", topics=["t"])
    await service.register("echo", lambda request: request.data)
    total = 8 * 1024 * 1024

    async def main() -> str:
        async with aio.Edge("127.0.0.1", world.edge_port) as edge:
            await edge.register("double", lambda request: request.data * 2)
            assert await edge.call("echo", b"x" * 100_000) == b"x" * 100_000
            await edge.publish("t", edge.edge_id.to_bytes(8))
            stream = await edge.open_stream("files", b"name")
            digest = hashlib.sha256()
            for number in range(total // 65_536):
                block = bytes([number % 256]) * 65_536
                digest.update(block)
                stream.write(block)
                await stream.drain()
            assert await stream.readexactly(4) == b"done"
            with pytest.raises(asyncio.IncompleteReadError):
                await stream.readexactly(1)
            return digest.hexdigest()

    running = in_thread(main)
    message = await service.receive()
    assert await service.call(int.from_bytes(message.data), "double", b"ab") == b"abab"
    message.ack()
    stream = await service.accept_stream()
    assert stream.meta == b"name"
    digest, count = hashlib.sha256(), 0
    while count < total:
        data = await stream.read()
        digest.update(data)
        count += len(data)
    stream.write(b"done")
    await stream.close()
    assert await running == digest.hexdigest()


@pytest_twisted.ensureDeferred
async def test_it_comes_back_and_registers_again(world: World) -> None:
    async def main() -> None:
        offline: list[str] = []
        edge = aio.Edge("127.0.0.1", world.edge_port, reconnect=aio.Backoff(0.01), on_offline=offline.append)
        async with edge, aio.Service("127.0.0.1", world.service_port) as service:
            await edge.register("m", lambda request: b"yes")
            pending = asyncio.create_task(edge.publish("none", b""))
            call = asyncio.create_task(service.call(edge.edge_id, "m"))
            assert await call == b"yes"
            with contextlib.suppress(RemoteError):
                await pending
            assert edge.reconnector.connection is not None
            edge.reconnector.connection.transport.abort("cut")
            with pytest.raises((ForceClosed, EndClosed)):
                await edge.call("x")
            await edge.when_online()
            assert await service.call(edge.edge_id, "m") == b"yes"
            assert offline == ["cut"] and edge.reconnector.reconnects == 1

    await in_thread(main)


@pytest_twisted.ensureDeferred
async def test_nobody_listens_is_told(world: World) -> None:
    async def main() -> None:
        with pytest.raises(ConnectionRefusedError):
            await aio.Edge("127.0.0.1", 1).connect()

    await in_thread(main)


@pytest.mark.asyncio
async def test_the_clock_is_a_reactors_clock() -> None:
    clock = LoopClock(asyncio.get_running_loop())
    ran: list[int] = []
    call = clock.callLater(0.01, ran.append, 1)
    other = clock.callLater(0.01, ran.append, 2)
    assert verifyObject(IReactorTime, clock) and verifyObject(IDelayedCall, call)
    other.cancel()
    call.reset(0)
    await asyncio.sleep(0.02)
    assert ran == [1] and not call.active() and not other.active()


@pytest_twisted.ensureDeferred
async def test_the_class_of_connections_can_be_ones_own(world: World) -> None:
    frames: list[int] = []

    class Noting(AioProtocol):
        def frame_received(self, frame: Frame) -> None:
            frames.append(frame.type)
            super().frame_received(frame)

    class NotingEdge(aio.Edge):
        protocol = Noting

    async def main() -> None:
        async with NotingEdge("127.0.0.1", world.edge_port) as edge:
            await edge.register("m", lambda request: b"")

    await in_thread(main)
    assert frames == [REGISTER_ACK]


@pytest_twisted.ensureDeferred
async def test_an_edge_that_starts_before_its_gateway_keeps_trying_if_told_so(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    reach = tcp("127.0.0.1", world.edge_port, None)
    attempts: list[int] = []

    async def late(factory: Any) -> None:
        attempts.append(1)
        if len(attempts) < 4:
            raise ConnectionRefusedError("nobody is there yet")
        await reach(factory)

    async def main() -> None:
        edge = aio.Edge(late, reconnect=aio.Backoff(first=0.01))
        await edge.connect(keep_trying=True)
        assert edge.online
        await edge.close()
        given_up = aio.Edge(late, reconnect=aio.Backoff(first=0.01))
        attempts.clear()
        connecting = asyncio.create_task(given_up.connect(keep_trying=True))
        await asyncio.sleep(0)
        connecting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await connecting
        with pytest.raises(ValueError, match="keep_trying"):
            await aio.Edge(late, reconnect=None).connect(keep_trying=True)

    await in_thread(main)
    said = [record.getMessage() for record in caplog.records if record.name == "frontier.client"]
    assert len(said) == 1 and said[0].endswith("> cannot connect: nobody is there yet; it keeps trying")


@pytest.mark.asyncio
async def test_calls_leave_nothing_to_the_garbage_collector() -> None:
    async with MemoryGateway() as gateway:
        edge, service = gateway.edge(), gateway.service()
        await edge.connect()
        await service.connect()
        await edge.register("m", lambda request: b"x")
        await service.call(edge.edge_id, "m", timeout=5)
        gc.collect()
        gc.disable()
        try:
            for _ in range(100):
                await service.call(edge.edge_id, "m", timeout=5)
            left = gc.collect()
        finally:
            gc.enable()
    assert left < 100
