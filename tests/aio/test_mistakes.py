"""What an asyncio program, or one with a cluster service, gets to hear that hands over the wrong thing.

What is common to all clients is in test_mistakes.py.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor

from frontier_tx import aio, clients
from frontier_tx.aio import ForceClosed, NoSuchRPC, RemoteError
from frontier_tx.testing.aio import MemoryGateway
from tests.aio.test_client import in_thread
from tests.clients.conftest import World
from tests.clients.test_cluster import Cluster, cluster

__all__ = ["cluster"]


@pytest.mark.parametrize("value", ["text", 5, ["x"], ""], ids=repr)
@pytest_twisted.ensureDeferred
async def test_a_handler_that_returns_no_bytes_fails_its_call_and_nothing_else(world: World, value: Any) -> None:
    async def main() -> None:
        async with (
            aio.Edge(f"127.0.0.1:{world.edge_port}") as edge,
            aio.Service(f"127.0.0.1:{world.service_port}") as service,
        ):
            await edge.register("bad", lambda request: value)
            await edge.register("good", lambda request: bytearray(b"fine"))
            with pytest.raises(RemoteError, match=f"'bad' returns: expected bytes, not {type(value).__name__}"):
                await service.call(edge.edge_id, "bad")
            assert await service.call(edge.edge_id, "good") == b"fine"

    await in_thread(main)


@pytest.mark.parametrize(
    ("make", "error", "says"),
    [
        (lambda: aio.Edge(""), ValueError, "empty"),
        (lambda: aio.Edge("host:1", 2), ValueError, "two ports"),
        (lambda: aio.Edge("unix:/x", tls=ssl.create_default_context()), ValueError, "tls= go with a host name"),
        (lambda: aio.Edge("tls:host:1"), ValueError, "neither a host name"),
        (lambda: aio.Edge(None), TypeError, "host: expected a host name or a function, not NoneType"),  # type: ignore
        (lambda: aio.Edge(meta="roof"), TypeError, "meta: expected bytes"),  # type: ignore[arg-type]
        (lambda: aio.Service(topics="t"), TypeError, "topics: expected a list"),
        (lambda: aio.Service(service_id="7"), TypeError, "wanted id: expected int"),  # type: ignore[arg-type]
        (lambda: aio.ClusterService(topics="t"), TypeError, "topics: expected a list"),
        (lambda: aio.ClusterService(service_id="7"), TypeError, "service_id: expected int"),  # type: ignore[arg-type]
        (lambda: clients.ClusterService(topics="t", reactor=reactor), TypeError, "topics: expected a list"),
        (lambda: clients.ClusterService(service_id=-1, reactor=reactor), ValueError, "service_id: -1 is not"),
        (lambda: clients.ClusterService("host", reactor=reactor), ValueError, "the port is missing"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_connected(make: Any, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        make()


@pytest.mark.asyncio
async def test_a_handler_is_looked_at_before_there_is_a_connection() -> None:
    for client in (aio.Edge(), aio.ClusterService()):
        with pytest.raises(TypeError, match="expected a function"):
            await client.register("m", b"answer")  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="method: expected str"):
            await client.register(b"m", len)  # type: ignore[arg-type]
        assert client.intake.methods == {}


@pytest_twisted.ensureDeferred
async def test_a_cluster_service_refuses_what_cannot_travel(cluster: Cluster) -> None:
    edge = await (await cluster.frontier("f1")).edge("e")
    service = await cluster.service()
    wrong: list[tuple[Any, str]] = [
        (service.call(edge.edge_id, "m", "text"), r"^data: expected bytes, not str; encode it$"),
        (service.call(str(edge.edge_id), "m"), r"^edge_id: expected int, not str$"),
        (service.publish(edge.edge_id, None), r"^data: expected bytes"),
        (service.register("m", b"answer"), r"^handler of 'm': expected a function"),
    ]
    for operation, says in wrong:
        with pytest.raises(TypeError, match=says):
            await operation
    for operation in (service.call(-1, "m"), service.open_stream(-1), service.open_stream("edge")):
        with pytest.raises(ValueError, match=r"-1 is not from 0|'edge' is not the id"):
            await operation
    assert await service.call(edge.edge_id, "who") == b"e at f1"
    # A method that a gateway does not take is not announced at the next one.
    with pytest.raises(RemoteError, match=r"^method name too long$"):
        await service.register("m" * 5000, lambda request: b"")
    assert list(service.intake.methods) == []


@pytest_twisted.ensureDeferred
async def test_what_came_of_a_stream_that_was_lost_can_be_read(world: World) -> None:
    service = await world.service(name="s")

    async def main() -> None:
        async with aio.Edge("127.0.0.1", world.edge_port, reconnect=None) as edge:
            stream = await edge.open_stream("s")
            stream.write(b"more")
            with pytest.raises(ForceClosed):
                await stream.readexactly(5)
            assert await stream.read() == b"half"
            with pytest.raises(ForceClosed):
                await stream.read()

    running = in_thread(main)
    stream = await service.accept_stream()
    assert await stream.read() == b"more"
    stream.write(b"half")
    (edge_id,) = world.core.repository.edges
    with pytest.raises(NoSuchRPC):
        # By the time that it answers it has what came before.
        await service.call(edge_id, "nothing")
    for connection in world.core.connections():
        connection.abort("cut")
    await running


@pytest.mark.asyncio
async def test_a_handler_that_ends_with_no_ordinary_exception_answers_all_the_same(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Stop(BaseException):
        pass

    async def handler(request: Any) -> bytes:
        raise Stop("now")

    async with MemoryGateway() as gateway:
        edge, service = gateway.edge(), gateway.service()
        await edge.connect()
        await service.connect()
        await service.register("m", handler)
        with pytest.raises(RemoteError, match=r"^rpc handler failed: reference \d+$"):
            await asyncio.wait_for(edge.call("m"), 5)
    assert "now" in caplog.text


async def _told(stream: aio.Stream) -> str:
    """What the far side of a stream reads in place of a clean end; empty if that is what it reads."""
    try:
        while await asyncio.wait_for(stream.read(), 5):
            pass
    except ForceClosed as error:
        return str(error)
    return ""


@pytest.mark.parametrize("how", ["closed", "closed in with", "cancelled", "stopped"])
@pytest.mark.asyncio
async def test_what_a_callback_was_about_to_write_does_not_look_complete(how: str) -> None:
    class Stop(BaseException):
        pass

    async def serve(stream: aio.Stream) -> None:
        stream.write(b"half")
        if how == "cancelled":
            raise asyncio.CancelledError
        if how == "stopped":
            raise Stop
        if how == "closed":
            await asyncio.sleep(60)
        async with stream:
            await asyncio.sleep(60)

    async with MemoryGateway() as gateway:
        edge, service = gateway.edge(), gateway.service(name="s")
        await edge.connect()
        await service.connect()
        service.on_stream(serve)
        stream = await edge.open_stream("s")
        if how.startswith("closed"):
            assert await stream.read() == b"half"
            await service.close()
        assert await _told(stream) == "force closed: aborted"


@pytest.mark.asyncio
async def test_a_callback_that_closed_its_stream_may_be_cancelled_with_its_client() -> None:
    async def serve(stream: aio.Stream) -> None:
        stream.write(b"all")
        await stream.close()
        await asyncio.sleep(60)

    async with MemoryGateway() as gateway:
        edge, service = gateway.edge(), gateway.service(name="s")
        await edge.connect()
        await service.connect()
        service.on_stream(serve)
        stream = await edge.open_stream("s")
        assert await stream.read() == b"all"
        await service.close()
        assert await stream.read() == b""
