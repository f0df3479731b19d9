"""A client in the wrong thread, loop or process says so at once; it used to wait for ever, or write into a socket."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.task import Clock
from twisted.internet.threads import deferToThread

from frontier_tx import aio
from frontier_tx.clients import ClusterService, Edge
from frontier_tx.clients.core import home
from frontier_tx.testing import aio as testing
from tests.clients.conftest import World


def twisted_uses(edge: Any, service: Any, cluster: Any, stream: Any, message: Any) -> list[Callable[[], Any]]:
    """Every public method of each class, with arguments that would do."""
    shared: list[Callable[[], Any]] = []
    for client in (edge, service, cluster):
        shared += [
            client.connect,
            client.when_online,
            client.close,
            client.receive,
            client.accept_stream,
            client.list_streams,
            lambda client=client: client.on_stream(None),
            lambda client=client: client.register("m", len),
            lambda client=client: client.open_stream("1"),
        ]
    for client in (service, cluster):
        shared += [
            lambda client=client: client.call(1, "m"),
            lambda client=client: client.publish(1),
            lambda client=client: client.register_get_edge_id(len),
            lambda client=client: client.register_edge_online(len),
            lambda client=client: client.register_edge_offline(len),
        ]
    return [
        *shared,
        lambda: edge.call("m"),
        lambda: edge.publish("t"),
        lambda: stream.call("m"),
        lambda: stream.publish("t"),
        lambda: stream.register("m", len),
        stream.receive,
        lambda: stream.write(b"x"),
        stream.drain,
        stream.read,
        stream.close,
        stream.abort,
        message.ack,
        lambda: message.fail("no"),
    ]


@pytest_twisted.ensureDeferred
async def test_a_thread_that_is_not_the_reactors(world: World) -> None:
    edge, service = await world.edge(), await world.service(name="s", topics=["t"])
    stream = await edge.open_stream("s")
    sent = edge.publish("t")
    message = await service.receive()
    cluster = ClusterService("127.0.0.1:1", reactor=reactor)
    uses = [*twisted_uses(edge, service, cluster, stream, message), lambda: stream.attach(object())]

    def elsewhere() -> None:
        for use in uses:
            with pytest.raises(RuntimeError, match=r"reactor's thread alone.*callFromThread"):
                use()

    await deferToThread(elsewhere)
    message.ack()
    await sent
    assert edge.online and stream.open
    await cluster.close()


@pytest.mark.asyncio
async def test_another_loop_and_another_thread() -> None:
    async with testing.MemoryGateway() as gateway:
        edge, service = gateway.edge(), gateway.service(name="s", topics=["t"])
        cluster = aio.ClusterService("127.0.0.1:1")
        cluster.on_stream(None)
        with pytest.raises(aio.FrontlasUnavailable):
            await cluster.connect()
        for client in (edge, service):
            await client.connect()
        stream = await edge.open_stream("s")
        sending = asyncio.create_task(edge.publish("t"))
        message = await service.receive()
        uses = [*twisted_uses(edge, service, cluster, stream, message), lambda: stream.readexactly(1)]

        async def use_all() -> None:
            for use in uses:
                with pytest.raises(RuntimeError, match=r"belongs to another event loop.*run_coroutine_threadsafe"):
                    await use()

        def no_loop() -> None:
            for use in (lambda: stream.write(b"x"), stream.abort, message.ack, edge.list_streams):
                with pytest.raises(RuntimeError, match="belongs to another event loop"):
                    use()

        def both() -> None:
            no_loop()
            asyncio.run(use_all())

        await asyncio.to_thread(both)
        message.ack()
        await sending
        assert edge.online and stream.open


def test_the_loop_that_comes_after_the_clients_own() -> None:
    edge = aio.Edge("127.0.0.1", 1)
    asyncio.run(edge.register("m", len))

    async def first() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(edge.receive(), 0.01)

    asyncio.run(first())
    for use in (edge.connect, edge.receive, edge.close):
        with pytest.raises(RuntimeError, match="belongs to another event loop"):
            asyncio.run(use())


@pytest.fixture
def forked() -> Iterator[Callable[[Callable[[], None]], str]]:
    """Runs something in a fork, which hands back what went wrong."""

    def run(work: Callable[[], None]) -> str:
        read, write = os.pipe()
        child = os.fork()
        if not child:
            try:
                work()
                said = "nothing"
            except BaseException as error:
                said = repr(error)
            os.write(write, said.encode())
            os._exit(0)
        os.close(write)
        os.waitpid(child, 0)
        with os.fdopen(read, "rb") as pipe:
            return pipe.read().decode()

    return run


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_fork_of_the_process(forked: Callable[[Callable[[], None]], str]) -> None:
    place = home.Home()
    place.check()
    place.settle()
    place.check()
    assert "before the process was forked" in forked(place.check)
    # What was only made and not connected goes along.
    assert forked(lambda: home.Home().settle()) == "nothing"

    loop = asyncio.new_event_loop()
    edge = aio.Edge("127.0.0.1", 1)

    async def wait(edge: Any) -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(edge.receive(), 0.01)

    loop.run_until_complete(wait(edge))
    # The very same loop object, in a child: its descriptors are shared with the parent.
    assert "before the process was forked" in forked(lambda: loop.run_until_complete(edge.close()))
    fresh = aio.Edge("127.0.0.1", 1)
    assert forked(lambda: asyncio.run(wait(fresh))) == "nothing"
    loop.run_until_complete(edge.close())
    loop.close()


def test_the_thread_is_that_of_the_clients_own_reactor() -> None:
    """A program may run several: that another one runs elsewhere makes no difference."""
    turns: list[tuple[Callable[..., None], Any]] = []

    class Other(Clock):
        def callFromThread(self, function: Callable[..., None], *args: Any) -> None:
            turns.append((function, args))

    edge = Edge("127.0.0.1", 1, reactor=Other())
    edge.when_online().addErrback(lambda failure: None)
    turn = threading.Thread(target=lambda: [function(*args) for function, args in turns])
    turn.start()
    turn.join()
    with pytest.raises(RuntimeError, match="callFromThread"):
        edge.when_online()
