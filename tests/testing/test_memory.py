"""The gateway in memory: calls, time that only the test moves, and faults, without a socket."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.interfaces import IConsumer, IPushProducer, IStreamClientEndpoint, ITransport
from twisted.internet.task import Clock
from zope.interface.verify import verifyObject

from frontier_tx.clients import Edge, Service
from frontier_tx.errors import DeadlineExceeded, RemoteError
from frontier_tx.testing import MemoryGateway, Stuck
from frontier_tx.testing.transports import MemoryTransport

pytest_plugins = ["frontier_tx.testing.fixtures"]


def online(gateway: MemoryGateway, **options: Any) -> tuple[Edge, Service]:
    edge, service = gateway.edge(meta=b"e"), gateway.service(name="s", **options)
    gateway.run(service.connect())
    gateway.run(edge.connect())
    return edge, service


def test_interfaces() -> None:
    gateway = MemoryGateway()
    assert verifyObject(IStreamClientEndpoint, gateway.edge_endpoint)
    transport = MemoryTransport(Clock(), None, None)  # type: ignore[arg-type]
    for interface in (ITransport, IConsumer, IPushProducer):
        assert verifyObject(interface, transport)


def test_a_call_and_a_message_take_no_time(frontier_memory: MemoryGateway) -> None:
    edge, service = online(frontier_memory, topics=["t"])

    async def greet(request: Any) -> bytes:
        return b"hello " + request.data

    frontier_memory.run(service.register("greet", greet))
    before = frontier_memory.clock.seconds()
    assert frontier_memory.run(edge.call("greet", b"you")) == b"hello you"
    published = edge.publish("t", b"m")
    message = frontier_memory.run(service.receive())
    message.ack()
    frontier_memory.run(published)
    assert frontier_memory.clock.seconds() - before < 0.1


def test_a_deadline_passes_when_the_test_says_so(frontier_memory: MemoryGateway) -> None:
    edge, service = online(frontier_memory)
    never: list[Any] = []

    async def silent(request: Any) -> bytes:
        from twisted.internet.defer import Deferred

        waiting: Any = Deferred()
        never.append(waiting)
        return await waiting  # type: ignore[no-any-return]

    frontier_memory.run(service.register("silent", silent))
    calling = edge.call("silent", deadline=frontier_memory.wall_clock() + 20)
    outcome: list[Any] = []
    calling.addBoth(outcome.append)
    frontier_memory.advance(19)
    assert never and not outcome
    frontier_memory.advance(2)
    outcome[0].trap(DeadlineExceeded, RemoteError)


def test_what_never_comes_is_said(frontier_memory: MemoryGateway) -> None:
    _, service = online(frontier_memory, topics=["t"])
    with pytest.raises(Stuck, match="no result within 5 s"):
        frontier_memory.run(service.receive(), within=5)


def test_a_cut_network_and_a_gateway_that_is_down(frontier_memory: MemoryGateway) -> None:
    edge, service = online(frontier_memory)
    frontier_memory.listen(False)
    frontier_memory.cut()
    frontier_memory.advance(1)
    assert not (edge.online or service.online)
    assert not frontier_memory.core.repository.edges
    frontier_memory.listen(True)
    frontier_memory.run(edge.when_online(), within=60)
    frontier_memory.run(service.when_online(), within=60)
    assert list(frontier_memory.core.repository.edges) == [edge.edge_id]


def test_an_hour_of_heartbeats(frontier_memory: MemoryGateway) -> None:
    edge, _ = online(frontier_memory)
    edge_id = edge.edge_id
    frontier_memory.advance(3600)
    assert edge.online and edge.edge_id == edge_id


def test_a_stream_carries_megabytes_through_small_buffers(frontier_memory: MemoryGateway) -> None:
    edge, service = online(frontier_memory)
    blob = bytes(range(256)) * 16384

    async def send() -> None:
        stream = await service.open_stream(edge.edge_id)
        for start in range(0, len(blob), 65536):
            stream.write(blob[start : start + 65536])
            await stream.drain()
        await stream.close()

    async def take() -> bytes:
        stream = await edge.accept_stream()
        parts = []
        while part := await stream.read():
            parts.append(part)
        return b"".join(parts)

    from twisted.internet.defer import ensureDeferred

    sending = ensureDeferred(send())
    assert frontier_memory.run(take(), within=30) == blob
    frontier_memory.run(sending, within=30)


def test_nothing_is_left_when_it_is_closed() -> None:
    gateway = MemoryGateway()
    online(gateway)
    gateway.close()
    assert not gateway.core.connections()
    assert not gateway.clock.getDelayedCalls()
