"""The same for asyncio programs, and a loop whose time the test moves."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from frontier_tx.errors import OperationTimeout, RemoteError
from frontier_tx.testing import aio

pytest_plugins = ["frontier_tx.testing.fixtures"]


async def talk(gateway: aio.MemoryGateway) -> None:
    async with gateway.service(name="s", topics=["t"]) as service, gateway.edge() as edge:

        async def greet(request: Any) -> bytes:
            return b"hello " + request.data

        await service.register("greet", greet)
        assert await edge.call("greet", b"you", timeout=5) == b"hello you"
        publishing = asyncio.ensure_future(edge.publish("t", b"m"))
        (await service.receive()).ack()
        await publishing


@pytest.mark.asyncio
async def test_without_a_port(frontier_aio: aio.MemoryGateway) -> None:
    await talk(frontier_aio)
    assert not frontier_aio.core.repository.edges


@pytest.mark.asyncio
async def test_on_free_ports(frontier_aio_local: aio.LocalGateway) -> None:
    assert frontier_aio_local.edge_port != frontier_aio_local.service_port != 0
    await talk(frontier_aio_local)


@pytest.mark.asyncio
async def test_clients_come_back_when_they_were_cut(frontier_aio: aio.MemoryGateway) -> None:
    gone = asyncio.Event()
    async with frontier_aio.edge(on_offline=lambda reason: gone.set()) as edge:
        frontier_aio.cut()
        await asyncio.wait_for(gone.wait(), 5)
        await asyncio.wait_for(edge.when_online(), 10)


def test_time_that_the_test_moves() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, aio.MovableLoop)
        async with aio.MemoryGateway() as gateway, gateway.service() as service, gateway.edge() as edge:
            await service.register("silent", silent)
            calling = asyncio.ensure_future(edge.call("silent", timeout=25))
            await loop.advance(24)
            assert not calling.done() and edge.online
            await loop.advance(2)
            with pytest.raises((OperationTimeout, RemoteError)):
                await calling

    async def silent(request: Any) -> None:
        await asyncio.sleep(1000)

    with asyncio.Runner(loop_factory=aio.MovableLoop) as runner:
        runner.run(main())
