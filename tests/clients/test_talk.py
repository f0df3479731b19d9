"""Edges and services of Twisted through a gateway, over the loopback."""

from __future__ import annotations

import gc

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.internet.tcp import Client as TCPClient

from frontier_tx.clients import Backoff, HandlerError, Message, NoSuchRPC, Request
from frontier_tx.errors import (
    Canceled,
    EdgeNotOnline,
    EndClosed,
    OperationTimeout,
    PayloadTooLarge,
    RecordNotFound,
    RemoteError,
    TopicNotOnline,
)
from tests.clients.conftest import World


@pytest_twisted.ensureDeferred
async def test_calls_go_both_ways(world: World) -> None:
    edge, service = await world.edge(meta=b"m"), await world.service(name="s")
    seen: list[Request] = []

    async def at_service(request: Request) -> bytes:
        seen.append(request)
        return request.data[::-1]

    def at_edge(request: Request) -> bytes:
        seen.append(request)
        return b"edge:" + request.data

    await service.register("reverse", at_service)
    await edge.register("hello", at_edge)
    assert await edge.call("reverse", b"abc", b"user") == b"cba"
    assert await service.call(edge.edge_id, "hello", b"x", b"more") == b"edge:x"
    assert [(r.method, r.custom, r.edge_id) for r in seen] == [
        ("reverse", b"user", edge.edge_id),
        ("hello", b"more", 0),
    ]


@pytest_twisted.ensureDeferred
async def test_errors_have_the_text_and_the_class(world: World) -> None:
    edge, service = await world.edge(), await world.service()

    def refuse(request: Request) -> bytes:
        raise HandlerError("näh <&>")

    def crash(request: Request) -> bytes:
        raise ZeroDivisionError("by hand")

    await edge.register("refuse", refuse)
    await edge.register("crash", crash)
    with pytest.raises(RemoteError, match=r"^näh <&>$"):
        await service.call(edge.edge_id, "refuse")
    with pytest.raises(RemoteError, match=r"^rpc handler failed: ZeroDivisionError: by hand$"):
        await service.call(edge.edge_id, "crash")
    with pytest.raises(NoSuchRPC, match=r"^no such rpc: none$"):
        await service.call(edge.edge_id, "none")
    with pytest.raises(EdgeNotOnline) as caught:
        await service.call(4711, "refuse")
    assert isinstance(caught.value, RemoteError) and str(caught.value) == "edge not online"
    with pytest.raises(RecordNotFound):
        await edge.call("none")
    with pytest.raises(TopicNotOnline):
        await edge.publish("none", b"")


@pytest_twisted.ensureDeferred
async def test_messages_wait_for_their_ack(world: World) -> None:
    edge, service = await world.edge(), await world.service(topics=["t"])
    sent = edge.publish("t", b"one", b"c")
    message = await service.receive()
    assert (message.data, message.topic, message.custom, message.edge_id) == (b"one", "t", b"c", edge.edge_id)
    assert not sent.called
    message.ack()
    message.fail("too late")
    assert await sent is None
    back = service.publish(edge.edge_id, b"two", topic="any")
    (await edge.receive()).fail("not today")
    with pytest.raises(RemoteError, match=r"^not today$"):
        await back
    await service.publish(edge.edge_id, b"three", at_most_once=True)
    assert (await edge.receive()).data == b"three"


@pytest_twisted.ensureDeferred
async def test_messages_come_in_order_and_end_with_the_client(world: World) -> None:
    edge, service = await world.edge(), await world.service(topics=["t"])
    sent = [edge.publish("t", b"%d" % number) for number in range(3000)]
    taken: list[bytes] = []
    async for message in service:
        assert isinstance(message, Message)
        taken.append(message.data)
        message.ack()
        if len(taken) == 3000:
            service.close()
    assert taken == [b"%d" % number for number in range(3000)]
    for one in sent:
        one.addErrback(lambda failure: failure.trap(RemoteError))
    with pytest.raises(EndClosed):
        await service.receive()


@pytest_twisted.ensureDeferred
async def test_a_cancelled_call_cancels_its_handler(world: World) -> None:
    edge, service = await world.edge(), await world.service()
    started: Deferred[None] = Deferred()
    ended: Deferred[None] = Deferred()

    def slow(request: Request) -> Deferred[bytes]:
        started.callback(None)
        return Deferred(lambda _: ended.callback(None))

    await edge.register("slow", slow)
    call = service.call(edge.edge_id, "slow")
    await started
    call.cancel()
    with pytest.raises(Canceled, match=r"^context canceled$"):
        await call
    await ended


@pytest_twisted.ensureDeferred
async def test_a_timeout_ends_here_and_there(world: World) -> None:
    edge, service = await world.edge(), await world.service()
    ended: Deferred[None] = Deferred()
    deadlines: list[float | None] = []

    def slow(request: Request) -> Deferred[bytes]:
        deadlines.append(request.deadline)
        return Deferred(lambda _: ended.callback(None))

    await edge.register("slow", slow)
    with pytest.raises(OperationTimeout, match=r"^timeout$"):
        await service.call(edge.edge_id, "slow", timeout=0.05)
    await ended
    assert deadlines[0] is not None
    assert edge.reconnector.connection is not None
    await deferLater(reactor, 0.02, lambda: None)
    assert edge.reconnector.connection.running == 0 and service.reconnector.connection is not None
    assert service.reconnector.connection.pending == 0


@pytest_twisted.ensureDeferred
async def test_large_payloads_and_too_large_ones(world: World) -> None:
    edge, service = await world.edge(), await world.service()
    await edge.register("echo", lambda request: request.data)
    large = bytes(8 * 1024 * 1024)
    assert await service.call(edge.edge_id, "echo", large) == large
    with pytest.raises(PayloadTooLarge):
        await service.call(edge.edge_id, "echo", bytes(13 * 1024 * 1024))


@pytest_twisted.ensureDeferred
async def test_a_service_gives_ids_and_sees_edges_come_and_go(world: World) -> None:
    service = await world.service()
    events: list[tuple[str, int, bytes]] = []
    gone: Deferred[None] = Deferred()

    def offline(event: object) -> None:
        events.append(("offline", event.edge_id, event.meta))  # type: ignore[attr-defined]
        gone.callback(None)

    async def get_id(meta: bytes) -> int:
        if meta == b"bad":
            raise HandlerError("who are you")
        return 2**60 + 1

    await service.register_get_edge_id(get_id)
    await service.register_edge_online(lambda event: events.append(("online", event.edge_id, event.meta)))
    await service.register_edge_offline(offline)
    edge = await world.edge(meta=b"me")
    assert edge.edge_id == 2**60 + 1
    await edge.close()
    await gone
    assert events == [("online", 2**60 + 1, b"me"), ("offline", 2**60 + 1, b"me")]
    with pytest.raises(RemoteError, match=r"^who are you$"):
        await world.edge(meta=b"bad")


@pytest_twisted.ensureDeferred
async def test_operations_after_the_end(world: World) -> None:
    edge = await world.edge()
    await edge.close()
    with pytest.raises(EndClosed, match=r"(?m)^EOF$"):
        await edge.call("any")
    with pytest.raises(EndClosed):
        await edge.open_stream("any")
    with pytest.raises(EndClosed):
        await edge.when_online()


@pytest_twisted.ensureDeferred
async def test_operations_leave_nothing_to_the_cyclic_collector(world: World) -> None:
    edge, service = await world.edge(), await world.service(topics=["t"])
    await edge.register("m", lambda request: request.data)

    async def some() -> None:
        for _ in range(50):
            await service.call(edge.edge_id, "m", b"x")
            sent = edge.publish("t", b"x")
            (await service.receive()).ack()
            await sent

    await some()
    gc.collect()
    gc.disable()
    try:
        await some()
        assert gc.collect() < 50
    finally:
        gc.enable()


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("reconnect", [None, Backoff()])
async def test_a_client_that_is_closed_has_left_the_reactor(world: World, reconnect: Backoff | None) -> None:
    timers = set(reactor.getDelayedCalls())  # type: ignore[attr-defined]
    edge = await world.edge(reconnect=reconnect)
    await edge.close()
    left = [each for each in reactor.getReaders() if isinstance(each, TCPClient)]  # type: ignore[attr-defined]
    assert left == []
    core = world.core.alarms._call
    left = [each for each in reactor.getDelayedCalls() if each not in timers and each is not core]  # type: ignore[attr-defined]
    assert left == []
