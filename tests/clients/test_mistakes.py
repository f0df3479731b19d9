"""What a program gets to hear that hands a client the wrong thing: at once, by name, and its connection goes on."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, ensureDeferred
from twisted.internet.ssl import optionsForClientTLS
from twisted.internet.task import deferLater

from frontier_tx import aio
from frontier_tx.clients import Backoff, Bounds, Edge, Service
from frontier_tx.clients.core.values import host_of
from frontier_tx.errors import EndClosed, ForceClosed, RemoteError
from tests.aio.test_client import in_thread
from tests.clients.conftest import World


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("value", ["text", 5, ["x"], {"a": 1}, ""], ids=repr)
async def test_a_handler_that_returns_no_bytes_fails_its_call_and_nothing_else(world: World, value: Any) -> None:
    edge, service = await world.edge(), await world.service()
    await edge.register("bad", lambda request: value)
    await edge.register("good", lambda request: bytearray(b"fine"))
    kind = type(value).__name__
    with pytest.raises(RemoteError, match=f"'bad' returns: expected bytes, not {kind}"):
        await service.call(edge.edge_id, "bad")
    assert await service.call(edge.edge_id, "good") == b"fine"
    assert edge.online and service.online


@pytest_twisted.ensureDeferred
async def test_values_that_cannot_travel_are_refused_before_anything_is_sent(world: World) -> None:
    edge, service = await world.edge(), await world.service(name="s")
    await edge.register("echo", lambda request: request.data + request.custom)
    stream = await edge.open_stream("s")
    anything: Any = edge
    wrong: list[tuple[Any, str]] = [
        (anything.call("m", "text"), r"^data: expected bytes, not str; encode it$"),
        (anything.call("m", b"", "text"), r"^custom: expected bytes, not str"),
        (anything.call(b"m", b""), r"^method: expected str, not bytes; decode it$"),
        (anything.publish(b"t", b""), r"^topic: expected str, not bytes"),
        (anything.publish("t", None), r"^data: expected bytes, not NoneType$"),
        (anything.register(b"m", len), r"^method: expected str"),
        (anything.register("m", b"answer"), r"^handler of 'm': expected a function, not bytes$"),
        (service.call(str(edge.edge_id), "echo"), r"^edge_id: expected int, not str$"),  # type: ignore[arg-type]
        (service.call(edge.edge_id, "echo", b"", "text"), r"^custom: expected bytes"),  # type: ignore[arg-type]
        (stream.call("m", "text"), r"^data: expected bytes"),  # type: ignore[arg-type]
        (stream.register("m", b"answer"), r"^handler of 'm': expected a function, not bytes$"),  # type: ignore[arg-type]
        (stream.read("all"), r"^read: expected a number of bytes, not str$"),  # type: ignore[arg-type]
        (anything.open_stream(7), r"^target: expected str, not int$"),
        (anything.open_stream("s", "meta"), r"^meta: expected bytes, not str"),
        (anything.call("m", timeout="5"), r"^timeout: expected a number of seconds, not str$"),
        (anything.call("m", deadline=datetime.now()), r"^deadline: expected a number of seconds, not datetime$"),
        (anything.register("m", len, timeout="5"), r"^timeout: expected a number of seconds, not str$"),
    ]
    for deferred, says in wrong:
        with pytest.raises(TypeError, match=says):
            await deferred
    with pytest.raises(TypeError, match=r"^data: expected bytes"):
        stream.write("text")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"^on_stream: expected a function, not int$"):
        anything.on_stream(5)
    with pytest.raises(TypeError, match=r"^register_get_edge_id: expected a function, not int$"):
        await service.register_get_edge_id(7)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"^edge_id: -1 is not from 0 to 18446744073709551615$"):
        await service.call(-1, "echo")
    with pytest.raises(ValueError, match=r"^target: -1 is not from 0 to 18446744073709551615$"):
        await service.open_stream(-1)
    with pytest.raises(ValueError, match=r"^'pump' is not the id of an edge$"):
        await service.open_stream("pump")
    for never in (float("inf"), float("nan"), 1e300):
        with pytest.raises(ValueError, match=r"^timeout: .* None is no limit$"):
            await edge.publish("t", timeout=never)
    with pytest.raises(UnicodeEncodeError):
        await edge.call("\ud800")
    assert await service.call(edge.edge_id, "echo", memoryview(b"ab"), bytearray(b"c")) == b"abc"  # type: ignore[arg-type]
    assert edge.online and service.online


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"topics": "readings"}, r"^topics: expected a list of str, not str; write \['readings'\]$"),
        ({"topics": [b"t"]}, r"^topics: expected str, not bytes"),
        ({"name": b"n"}, r"^name: expected str"),
        ({"service_id": "7"}, r"^wanted id: expected int"),
        ({"topics": 5}, r"^topics: expected a list of str, not int$"),
        ({"reconnect": True}, r"^reconnect: expected Backoff or None, not bool$"),
        ({"bounds": {"messages": 5}}, r"^bounds: expected Bounds or None, not dict$"),
        ({"on_online": "log"}, r"^on_online: expected a function, not str$"),
    ],
)
def test_a_service_says_what_is_wrong_with_its_introduction(options: dict[str, Any], says: str) -> None:
    with pytest.raises(TypeError, match=says):
        Service(reactor=reactor, **options)


def test_an_edge_says_that_its_meta_is_to_be_bytes() -> None:
    with pytest.raises(TypeError, match=r"^meta: expected bytes, not str; encode it$"):
        Edge(reactor=reactor, meta="roof")  # type: ignore[arg-type]


def test_bounds_and_waits_that_are_none() -> None:
    with pytest.raises(TypeError, match=r"^messages: expected int, not str$"):
        Bounds(messages="5")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"^waits are to be above 0"):
        Backoff(first=0)


@pytest.mark.parametrize("flavour", ["twisted", "asyncio"])
@pytest_twisted.ensureDeferred
async def test_a_traceback_says_why_there_is_no_connection(world: World, flavour: str) -> None:
    async def main() -> None:
        edge: Any = (
            Edge("127.0.0.1", world.edge_port, reactor=reactor)
            if flavour == "twisted"
            else aio.Edge("127.0.0.1", world.edge_port)
        )
        with pytest.raises(EndClosed) as early:
            await edge.call("m")
        assert early.value.__notes__ == ["the client is not connected: await connect(), or use it with `async with`"]
        await edge.connect()
        await edge.close()
        for late in (lambda: edge.call("m"), lambda: edge.register("m", len)):
            with pytest.raises(EndClosed) as closed:
                await late()
            assert closed.value.__notes__ == ["the client is closed"]

    await (main() if flavour == "twisted" else in_thread(main))


def test_tls_is_never_left_out_because_the_endpoint_is_spelt_another_way() -> None:
    tls = optionsForClientTLS("host")
    for endpoint in ("tcp:host:30012", "tls:host:30012", "unix:/run/edge.sock"):
        with pytest.raises(ValueError, match="tls= go with a host name"):
            Edge(endpoint, reactor=reactor, tls=tls)
    with pytest.raises(ValueError, match="two ports"):
        Edge("host:30012", 30012, reactor=reactor)


def test_an_endpoint_that_is_none() -> None:
    with pytest.raises(TypeError, match=r"^endpoint: expected a host name or a client endpoint, not NoneType$"):
        Edge(None, reactor=reactor)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "port", "found"),
    [
        ("host", None, ("host", 7)),
        ("host", 5, ("host", 5)),
        ("host:5", None, ("host", 5)),
        ("::1", None, ("::1", 7)),
        ("[::1]", 5, ("::1", 5)),
        ("[::1]:5", None, ("::1", 5)),
        ("fe80::1%eth0", None, ("fe80::1%eth0", 7)),
        (":5", None, ("127.0.0.1", 5)),
        ("tcp:host:5", None, None),
        ("unix:/run/x", None, None),
        ("tls:host", None, None),
    ],
)
def test_hosts_and_ports(text: str, port: int | None, found: tuple[str, int] | None) -> None:
    assert host_of(text, port, 7) == found


@pytest.mark.parametrize(("text", "port"), [("", None), ("host", 0), ("host", 70_000), ("host:0", None)])
def test_hosts_and_ports_that_are_none(text: str, port: int | None) -> None:
    with pytest.raises(ValueError, match=r"empty|not from 1"):
        host_of(text, port, 7)


@pytest_twisted.ensureDeferred
async def test_a_method_that_the_gateway_does_not_take(world: World) -> None:
    edge = await world.edge()
    with pytest.raises(RemoteError, match=r"^method name too long$"):
        await edge.register("m" * 5000, lambda request: b"")
    assert edge.intake.methods == {}
    await edge.register("m", lambda request: b"")
    assert list(edge.intake.methods) == ["m"]


@pytest_twisted.ensureDeferred
async def test_an_attempt_that_is_given_up_ends_as_such(world: World) -> None:
    closed = Edge("127.0.0.1", world.edge_port, reactor=reactor)
    connecting = closed.connect()
    await closed.close()
    with pytest.raises(EndClosed, match=r"^EOF$"):
        await connecting
    cancelled = Edge("127.0.0.1", world.edge_port, reactor=reactor)
    connecting = cancelled.connect()
    connecting.cancel()
    with pytest.raises(CancelledError):
        await connecting
    await deferLater(reactor, 0.1)  # type: ignore[arg-type]
    assert not world.core.connections()


@pytest_twisted.ensureDeferred
async def test_who_learns_of_a_loss_finds_the_client_offline(world: World) -> None:
    edge = await world.edge(reconnect=None)
    found: list[Any] = []
    pending = edge.call("never")

    async def look() -> None:
        try:
            await pending
        except ForceClosed:
            found.append(edge.online)
            await edge.register("m", lambda request: b"")
            found.append("kept")
            try:
                await edge.open_stream("s")
            except EndClosed:
                found.append("EOF")

    done = ensureDeferred(look())
    assert edge.reconnector.connection is not None
    edge.reconnector.connection.transport.abort("cut")
    await done
    assert found == [False, "kept", "EOF"]
