"""The asyncio ClusterService: its surface, and that it leaves nothing behind, whenever it is cancelled or closed.

What it does with a cluster is in test_cluster.py, for both kinds.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import re
import ssl
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.ssl import PrivateCertificate
from twisted.internet.threads import deferToThread

from frontier_tx import aio, clients
from frontier_tx.aio.transport import tcp
from frontier_tx.clients.cluster.frontlas_client import FrontlasUnavailable
from frontier_tx.errors import EndClosed, FrontierError
from tests.aio.test_client import in_thread
from tests.clients.test_cluster import Cluster
from tests.clients.test_tls import pair

__all__ = ["pair"]

#: Of a single connection, which a cluster service has several of.
OF_ONE = {"reconnector", "default_port", "tailed"}


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    made = Cluster(None)
    yield made
    pytest_twisted.blockon(ensureDeferred(made.stop()))


def public(kind: type) -> set[str]:
    return {name for name in dir(kind) if not name.startswith("_")}


@pytest.mark.parametrize("kind", [aio.Edge, aio.Service, aio.ClusterService, aio.Stream])
def test_its_operations_are_coroutine_functions(kind: type) -> None:
    plain = {"on_stream", "list_streams", "write", "abort"}
    for name in public(kind) - plain:
        operation = inspect.getattr_static(kind, name)
        if inspect.isfunction(operation):
            assert inspect.iscoroutinefunction(operation) and operation.__name__ == name


def test_its_surface_is_that_of_service_and_that_of_twisted() -> None:
    assert public(aio.Service) - OF_ONE <= public(aio.ClusterService)
    assert public(clients.ClusterService) - {"log"} <= public(aio.ClusterService)
    kinds = aio.Service, aio.ClusterService, clients.ClusterService
    for name in public(aio.Service) - OF_ONE - {"connect"}:
        one, several, twisted = (inspect.getattr_static(kind, name) for kind in kinds)
        if inspect.isfunction(one):
            parameters = [list(inspect.signature(each).parameters) for each in (one, several, twisted)]
            assert parameters[0] == parameters[1] == parameters[2], name
            # What waits is a coroutine, what does not is not.
            assert inspect.iscoroutinefunction(one) == inspect.iscoroutinefunction(several), name


@pytest.mark.asyncio
async def test_before_it_is_connected_it_is_quiet_and_says_so() -> None:
    service = aio.ClusterService("127.0.0.1:1", service_id=5)
    await service.register("m", lambda request: b"")
    service.on_stream(None)
    assert (service.online, service.frontiers, service.list_streams(), service.service_id) == (False, [], [], 5)
    for operation in (service.call(1, "m"), service.publish(1), service.open_stream(1)):
        with pytest.raises(EndClosed):
            await operation
    await service.close()
    with pytest.raises(ValueError, match="no address"):
        await aio.ClusterService([]).connect()


@pytest_twisted.ensureDeferred
async def test_what_was_registered_before_is_known_to_every_frontier(cluster: Cluster) -> None:
    edges = [await (await cluster.frontier(name)).edge("e") for name in ("f1", "f2")]
    connected: Deferred[asyncio.AbstractEventLoop] = Deferred()
    done = asyncio.Event()

    async def main() -> None:
        up = asyncio.Event()
        service = aio.ClusterService(cluster.addresses, on_online=up.set)
        await service.register("echo", lambda request: request.data)
        async with service:
            assert up.is_set()
            while not all(state.online for state in service.frontiers):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            reactor.callFromThread(connected.callback, asyncio.get_running_loop())
            await done.wait()
            with pytest.raises(RuntimeError, match="once"):
                await service.connect()

    running = in_thread(main)
    loop = await connected
    for edge in edges:
        assert await edge.call("echo", b"x") == b"x"
    loop.call_soon_threadsafe(done.set)
    await running


@pytest_twisted.ensureDeferred
async def test_cancelled_tasks_leave_nothing_and_withdraw_what_they_began(cluster: Cluster) -> None:
    frontier = await cluster.frontier("f1")
    edge = await frontier.edge("e")
    edge_id = edge.edge_id
    begun: list[Any] = []

    def hang(request: Any) -> Deferred[bytes]:
        begun.append(request)
        return Deferred()

    await edge.register("hang", hang)
    answering = cluster.registry.frontier_of_edge

    async def main() -> None:
        async with aio.ClusterService(cluster.addresses) as service:
            assert await service.call(edge_id, "who") == b"e at f1"
            calling = asyncio.create_task(service.call(edge_id, "hang"))
            while not begun:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
            calling.cancel()
            with pytest.raises(asyncio.CancelledError):
                await calling
            while not begun[0].canceled:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
            # While Frontlas is asked, and for what only waits.
            cluster.registry.frontier_of_edge = lambda edge_id: Deferred()  # type: ignore[method-assign]
            waiting = [
                service.call(99, "who"),
                service.publish(99),
                service.open_stream(edge_id),
                service.receive(),
                service.accept_stream(),
            ]
            tasks = [asyncio.create_task(each) for each in waiting]
            await asyncio.sleep(0.05)
            for task in tasks:
                task.cancel()
            outcomes = await asyncio.gather(*tasks, return_exceptions=True)
            assert [type(each) for each in outcomes] == [asyncio.CancelledError] * len(tasks)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await service.open_stream(edge_id)
            assert service.list_streams() == []

    try:
        await in_thread(main)
    finally:
        cluster.registry.frontier_of_edge = answering  # type: ignore[method-assign]


@pytest_twisted.ensureDeferred
async def test_closed_or_cancelled_at_any_moment_of_connecting(cluster: Cluster) -> None:
    for name in ("f1", "f2", "f3"):
        await cluster.frontier(name)

    async def main() -> None:
        ends: set[str] = set()
        for turn in range(60):
            service = aio.ClusterService(cluster.addresses)
            connecting = asyncio.create_task(service.connect())
            for _ in range(turn % 30):
                await asyncio.sleep(0 if turn % 30 < 20 else 0.001)
            if turn < 30:
                await service.close()
            else:
                connecting.cancel()
            try:
                await connecting
                ends.add("connected")
            except (EndClosed, asyncio.CancelledError) as error:
                ends.add(type(error).__name__)
                assert not len(service._callbacks)
            await service.close()
            assert not service.online and service.frontiers == []
            with pytest.raises(EndClosed):
                await service.receive()
        assert ends == {"connected", "EndClosed", "CancelledError"}

    await in_thread(main)


@pytest_twisted.ensureDeferred
async def test_handlers_are_cancelled_and_waited_for_at_the_end(cluster: Cluster) -> None:
    edge = await (await cluster.frontier("f1")).edge("e")
    ready: Deferred[None] = Deferred()

    async def main() -> list[str]:
        told: list[str] = []
        running = asyncio.Event()

        async def slow(request: aio.Request) -> bytes:
            running.set()
            try:
                await asyncio.sleep(60)
            finally:
                await asyncio.sleep(0.05)
                told.append("put away")
            return b""

        async with aio.ClusterService(cluster.addresses) as service:
            await service.register("slow", slow)
            reactor.callFromThread(ready.callback, None)
            await running.wait()
        return told

    working = in_thread(main)
    await ready
    calling = edge.call("slow")
    assert await working == ["put away"]
    with pytest.raises(FrontierError):
        await calling


@pytest_twisted.ensureDeferred
async def test_tls_to_frontlas_and_to_frontiers(cluster: Cluster, pair: bytes) -> None:
    frontier = await cluster.frontier("f1")
    edge = await frontier.edge("e")
    edge_id = edge.edge_id
    options = PrivateCertificate.loadPEM(pair).options
    plane = cluster.planes[0][0]
    for_frontlas = reactor.listenSSL(0, plane.factory, options(), interface="127.0.0.1")
    for_services = reactor.listenSSL(0, frontier.core.services, options(), interface="127.0.0.1")
    trusting = ssl.create_default_context(cadata=pair.decode()[pair.index(b"-----BEGIN CERT") :])
    port = for_services.getHost().port
    frontlas = f"127.0.0.1:{for_frontlas.getHost().port}"

    async def main() -> None:
        service = aio.ClusterService(
            frontlas, frontlas_tls=trusting, dialer_for=lambda host, listed: tcp(host, port, trusting)
        )
        async with service:
            assert await service.call(edge_id, "who") == b"e at f1"
        with pytest.raises(FrontlasUnavailable, match="certificate verify failed"):
            await aio.ClusterService(frontlas, frontlas_tls=ssl.create_default_context()).connect()

    try:
        await in_thread(main)
    finally:
        await for_frontlas.stopListening()
        await for_services.stopListening()


@pytest.mark.asyncio
async def test_a_frontlas_that_is_away_is_named_in_the_programs_log(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING), pytest.raises(FrontlasUnavailable, match=r"127\.0\.0\.1:1"):
        await aio.ClusterService("127.0.0.1:1").connect()
    (record,) = caplog.records
    assert record.name == "frontier.client" and "no Frontlas can be asked" in record.getMessage()


SCRIPTS = {
    "used in every way, and closed": """
        async def main(frontlas, edge):
            async with ClusterService(frontlas, name="s", topics=["t"]) as service:
                await service.register("m", lambda request: b"")
                assert (await service.call(edge, "who", timeout=5)).startswith(b"e at")
                stream = await service.open_stream(edge)
                await stream.close()
                try:
                    await service.call(4711, "who")
                except EdgeNotOnline as error:
                    assert str(error) == "redis: nil"
            assert "twisted.internet.reactor" not in sys.modules
        asyncio.run(main(*arguments))
    """,
    "never closed": """
        async def main(frontlas, edge):
            global service
            service = ClusterService(frontlas)
            await service.connect()
            global calling
            calling = asyncio.create_task(service.call(edge, "hang"))
            await asyncio.sleep(0.1)
        asyncio.run(main(*arguments))
    """,
    "closed while it connects, in a loop that is closed at once": """
        async def main(frontlas, edge):
            service = ClusterService(frontlas)
            connecting = asyncio.ensure_future(service.connect())
            await asyncio.sleep(0)
            await service.close()
            try:
                await connecting
            except EndClosed:
                return
            raise AssertionError("it connected")
        loop = asyncio.new_event_loop()
        loop.run_until_complete(main(*arguments))
        loop.close()
    """,
    "closed with calls under way, in a loop that is closed at once": """
        async def main(frontlas, edge):
            service = ClusterService(frontlas)
            await service.connect()
            calls = [asyncio.ensure_future(service.call(edge, method)) for method in ("hang", "who", "hang")]
            await asyncio.sleep(0.1)
            await service.close()
            for call in calls:
                try:
                    await call
                except ForceClosed:
                    pass
        loop = asyncio.new_event_loop()
        loop.run_until_complete(main(*arguments))
        loop.close()
    """,
    "the end of the loop cancels it while it connects": """
        async def main(frontlas, edge):
            service = ClusterService([frontlas, "127.0.0.1:1"])
            global connecting
            connecting = asyncio.create_task(service.connect())
            for _ in range(int(edge) % 7):
                await asyncio.sleep(0)
        asyncio.run(main(*arguments))
    """,
}


@pytest.mark.parametrize("name", SCRIPTS)
@pytest_twisted.ensureDeferred
async def test_a_program_ends_without_a_word(cluster: Cluster, name: str) -> None:
    """No reactor, no task destroyed while pending, no exception never retrieved, no connection left open."""
    edge = await (await cluster.frontier("f1")).edge("e")
    await edge.register("hang", lambda request: Deferred())
    head = """
        import asyncio, gc, sys
        from frontier_tx.aio import ClusterService
        from frontier_tx.errors import EdgeNotOnline
        from frontier_tx.errors import EndClosed, ForceClosed
        arguments = sys.argv[1], int(sys.argv[2])
    """
    tail = """
        gc.collect()
    """
    code = "".join(map(textwrap.dedent, (head, SCRIPTS[name], tail)))
    # Who does not close is told so by asyncio's ResourceWarning, which is as it should be.
    mode = ["-X", "dev"] if "closed" in name and "never" not in name else []
    command = [sys.executable, *mode, "-c", code, cluster.addresses[0], str(edge.edge_id)]
    ended = await deferToThread(subprocess.run, command, capture_output=True, text=True, timeout=40)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


@pytest_twisted.ensureDeferred
async def test_the_example_of_the_documentation(cluster: Cluster) -> None:
    frontier = await cluster.frontier("f1")
    text = (Path(__file__).parents[2] / "docs" / "cluster-service.md").read_text()
    code = text.split("```python\n")[1].split("```")[0]
    ports = {"40011": cluster.addresses[0].partition(":")[2], "30012": str(frontier.edge_port)}
    for usual, here in ports.items():
        assert code.count(usual) == 1
        code = code.replace(usual, here)
    command = [sys.executable, "-X", "dev", "-c", code]
    ended = await deferToThread(subprocess.run, command, capture_output=True, text=True, timeout=40)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert re.fullmatch(r"b'12\.50 for edge \d+'\nb'hello one paid'\n", ended.stdout)


@asynccontextmanager
async def silent() -> AsyncIterator[int]:
    """A server that takes connections and says nothing."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


@pytest.mark.asyncio
async def test_a_frontlas_that_says_nothing_is_given_up_in_time() -> None:
    async with silent() as port:
        with pytest.raises(FrontlasUnavailable, match=r"no gRPC connection to .* within 0\.1 s"):
            await aio.ClusterService(f"127.0.0.1:{port}", connect_timeout=0.1).connect()
