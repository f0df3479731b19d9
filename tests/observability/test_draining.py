"""A server that stops says so from the first moment on, and until it is gone."""

from __future__ import annotations

import asyncio
import signal
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.testing import MemoryReactorClock, StringTransport

from frontier_tx.aio import Edge, Request, Service
from frontier_tx.runtime.launch import Ports
from frontlas_tx.config import parse_frontlas
from frontlas_tx.service import Frontlas
from tests.launch.test_twistd import Running, configured
from tests.redis.servers import free_ports

pytestmark = pytest.mark.timeout(60)


def ready(port: int) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


async def answer_during_a_stop(server: Running, edges: int, services: int, status: int) -> bytes:
    """A call is under way while the gateway is asked to stop; it ends well."""
    started, finish = asyncio.Event(), asyncio.Event()

    async def slow(request: Request) -> bytes:
        started.set()
        await finish.wait()
        return b"done"

    async with Service(f"127.0.0.1:{services}", name="s") as service, Edge(f"127.0.0.1:{edges}") as edge:
        await service.register("slow", slow)
        calling = asyncio.create_task(edge.call("slow", b""))
        await started.wait()
        assert await asyncio.to_thread(ready, status) == (200, "ready")
        server.process.send_signal(signal.SIGTERM)
        await asyncio.to_thread(server.wait_for, "draining")
        assert await asyncio.to_thread(ready, status) == (503, "not ready: draining")
        finish.set()
        return await calling


def test_a_gateway(tmp_path: Path) -> None:
    edges, services, status = free_ports(3)
    listens: dict[str, object] = {
        "edgebound": {"listen": {"addr": f"127.0.0.1:{edges}"}, "edgeid_alloc_when_no_idservice_on": True},
        "servicebound": {"listen": {"addr": f"127.0.0.1:{services}"}},
        "observability": {"addr": f"127.0.0.1:{status}"},
    }
    server = Running(tmp_path, "frontier", "-c", configured(tmp_path, **listens))
    server.wait_for("edgebound listens")
    assert asyncio.run(answer_during_a_stop(server, edges, services, status)) == b"done"
    assert server.process.wait(20) in (0, -signal.SIGTERM)


def test_frontlas_keeps_its_status_port_until_the_end() -> None:
    clock: Any = MemoryReactorClock()  # type: ignore[no-untyped-call]
    frontlas = Frontlas(parse_frontlas("observability: {addr: 127.0.0.1:9092}").config, Ports(clock, "frontlas"), clock)
    frontlas.startService()
    site = next(factory for port, factory, *_ in clock.tcpServers if port == 9092)
    answer: Any = StringTransport()  # type: ignore[no-untyped-call]
    connection = site.buildProtocol(None)
    connection.makeConnection(answer)
    over: list[object] = []
    frontlas.stopService().addCallback(over.append)
    connection.dataReceived(b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n")
    assert answer.value().startswith(b"HTTP/1.1 503 ")
    assert answer.value().endswith(b"not ready: draining")
    for _ in range(20):
        clock.advance(1)
    assert over == [None]
