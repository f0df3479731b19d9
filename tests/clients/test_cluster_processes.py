"""An asyncio ClusterService in a cluster of real processes, whose parts die under it."""

from __future__ import annotations

import asyncio
import hashlib
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from frontier_tx.aio import ClusterService, Edge, FrontierError, Request, Stream
from tests.cluster.processes import Frontier
from tests.cluster.test_cluster import Cluster, cluster

__all__ = ["cluster"]

EDGES = 5


async def until(true: Callable[[], Any], what: str, seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        await asyncio.sleep(0.05)


@pytest.fixture
def no_reactor(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The reactor of other tests of this process out of sight, so that its use would be seen."""
    monkeypatch.delitem(sys.modules, "twisted.internet.reactor", raising=False)
    monkeypatch.delattr("twisted.internet.reactor", raising=False)
    yield
    assert "twisted.internet.reactor" not in sys.modules


@asynccontextmanager
async def edges_at(*gateways: Frontier) -> AsyncIterator[list[Edge]]:
    """Edges that answer calls with the name of their gateway, and send what comes on streams back."""

    async def back(stream: Stream) -> None:
        while data := await stream.read():
            stream.write(data)
            await stream.drain()

    async with AsyncExitStack() as stack, asyncio.TaskGroup() as group:
        made = []
        for gateway in gateways:
            for _ in range(EDGES):
                edge = await stack.enter_async_context(Edge("127.0.0.1", gateway.edge_port))
                await edge.register("where", lambda request, name=gateway.name: name.encode())
                edge.on_stream(lambda stream: group.create_task(back(stream)))
                made.append(edge)
        yield made


def connected(service: ClusterService) -> int:
    return sum(state.online for state in service.frontiers)


async def all_answer(service: ClusterService, edges: list[Edge], seconds: float = 60) -> dict[int, bytes]:
    """Call all edges, until each of them answers; what they said."""
    end = time.monotonic() + seconds
    while True:
        results = await asyncio.gather(
            *(service.call(edge.edge_id, "where", timeout=5) for edge in edges), return_exceptions=True
        )
        failed = [result for result in results if isinstance(result, BaseException)]
        if not failed:
            return {edge.edge_id: result for edge, result in zip(edges, results, strict=True)}  # type: ignore[misc]
        assert time.monotonic() < end, f"not within {seconds} s: {failed}"
        await asyncio.sleep(0.1)


async def both_ways(service: ClusterService, edges: list[Edge]) -> None:
    """Calls and messages of all edges come here, messages and streams go to all of them."""
    for edge in (edges[0], edges[-1]):
        assert await edge.call("echo", b"up", timeout=5) == b"%d up" % edge.edge_id
        async with asyncio.TaskGroup() as group:
            group.create_task(edge.publish("news", b"up", timeout=5))
            message = await service.receive()
            assert (message.edge_id, message.data) == (edge.edge_id, b"up")
            message.ack()
        async with asyncio.TaskGroup() as group:
            group.create_task(service.publish(edge.edge_id, b"down", timeout=5))
            message = await edge.receive()
            assert message.data == b"down"
            message.ack()
        opened = await edge.open_stream("console", b"meta")
        opened.write(b"hello")
        accepted = await service.accept_stream()
        assert accepted.meta == b"meta" and await accepted.readexactly(5) == b"hello"
        await accepted.close()
        stream = await service.open_stream(edge.edge_id)
        block = bytes(range(256)) * 256
        for _ in range(32):
            stream.write(block)
            await stream.drain()
        came = await stream.readexactly(32 * len(block))
        assert hashlib.sha256(came).digest() == hashlib.sha256(block * 32).digest()
        await stream.close()


@pytest.mark.timeout(200)
def test_a_cluster_service_through_the_death_of_the_parts(cluster: Cluster, no_reactor: None) -> None:
    """One story, as starting the processes is what takes the time."""

    async def story() -> None:
        addresses = [f"127.0.0.1:{each.api}" for each in (cluster.a, cluster.b)]
        async with (
            ClusterService(addresses, name="console", topics=["news"]) as service,
            edges_at(cluster.one, cluster.two) as edges,
        ):

            def echo(request: Request) -> bytes:
                return b"%d " % request.edge_id + request.data

            await service.register("echo", echo)
            await until(lambda: connected(service) == 2, "both are connected")
            said = await all_answer(service, edges)
            assert [said[edge.edge_id] for edge in edges] == [b"one"] * EDGES + [b"two"] * EDGES
            await both_ways(service, edges)

            # The Frontlas that is asked is killed: another is, and no call to anybody fails.
            cluster.a.send(signal.SIGKILL)
            for edge in edges:
                service.routes.drop(edge.edge_id)
                assert await service.call(edge.edge_id, "where", timeout=10)
            assert service.frontlas.trouble == ""

            # Both are: what is known goes on, what is not says why.
            cluster.b.send(signal.SIGKILL)
            for edge in edges:
                assert await service.call(edge.edge_id, "where", timeout=5) == said[edge.edge_id]
                assert await edge.call("echo", b"up", timeout=5) == b"%d up" % edge.edge_id
            with pytest.raises(FrontierError, match="no Frontlas can be asked"):
                await service.call(4711, "where", timeout=10)
            cluster.a.start()
            cluster.b.start()
            await until(lambda: not service.frontlas.trouble, "Frontlas answers again")

            # A gateway is killed: its edges are away, those of the other one are not.
            mine, others = edges[:EDGES], edges[EDGES:]
            cluster.two.send(signal.SIGKILL)
            await until(lambda: connected(service) == 1, "the loss is noticed")
            for edge in mine:
                assert await service.call(edge.edge_id, "where", timeout=5) == b"one"
            began = time.monotonic()
            with pytest.raises(FrontierError):
                await service.call(others[0].edge_id, "where", timeout=20)
            assert time.monotonic() - began < 10, "an edge that is gone holds its caller up"

            # It comes back, and with it its edges, under new ids.
            cluster.two.start()
            await until(lambda: all(edge.online for edge in others), "the edges are back")
            await until(lambda: connected(service) == 2, "both are connected again", 60)
            said = await all_answer(service, edges)
            assert [said[edge.edge_id] for edge in others] == [b"two"] * EDGES
            await both_ways(service, edges)

    asyncio.run(story())
