"""Clients that are not ours, beside connections that send requests by the hundred, on a real port."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from typing import Any

import pytest
import pytest_twisted

from tests.rpc.live import Live, in_thread
from tests.rpc.support import message, method

grpc = pytest.importorskip("grpc", reason="needs grpcio")

LOOK = b"GET /cluster/v1/frontier?edge_id=1 HTTP/1.1\r\nHost: x\r\n\r\n"
FRONTIER_OF = method("GetFrontierByEdge")


@contextmanager
def pipelines(port: int, count: int) -> Iterator[None]:
    """So many connections that always have hundreds of requests sent ahead."""
    over = threading.Event()
    blob = LOOK * 300

    def attack() -> None:
        sockets = [socket.create_connection(("127.0.0.1", port)) for _ in range(count)]
        for each in sockets:
            each.setblocking(False)
        while not over.wait(0.05):
            for each in sockets:
                for act in (lambda: each.send(blob), lambda: each.recv(1 << 18)):  # noqa: B023
                    try:
                        act()
                    except OSError:
                        continue
        for each in sockets:
            each.close()

    attacker = threading.Thread(target=attack, daemon=True)
    attacker.start()
    time.sleep(0.5)
    try:
        yield
    finally:
        over.set()
        attacker.join(10)


@pytest_twisted.ensureDeferred
async def test_look_ups_beside_pipelines() -> None:
    live = await Live().open()

    def look() -> list[float]:
        took = []
        with pipelines(live.port, 150), grpc.insecure_channel(live.address) as channel:
            call: Any = channel.unary_unary(
                FRONTIER_OF.path,
                request_serializer=lambda request: request.SerializeToString(),
                response_deserializer=FRONTIER_OF.response.FromString,
            )
            for number in range(5):
                began = time.monotonic()
                assert call(FRONTIER_OF.request(edge_id=number), timeout=30).fontier.frontier_id == f"f{number}"
                connection = HTTPConnection("127.0.0.1", live.port, timeout=30)
                connection.request("GET", "/cluster/v1/frontier?edge_id=9")
                assert b'"f9"' in connection.getresponse().read()
                connection.close()
                took.append(time.monotonic() - began)
        return took

    took = await in_thread(look)
    # Before requests were served in turn each of them took as long as all that was sent ahead.
    assert sorted(took)[2] < 3
    await live.close()


@pytest_twisted.ensureDeferred
async def test_large_metadata_fails_its_call_alone() -> None:
    live = await Live().open()

    def calls() -> None:
        with grpc.insecure_channel(live.address, options=[("grpc.max_metadata_size", 1 << 20)]) as channel:
            call: Any = channel.unary_unary(
                FRONTIER_OF.path,
                request_serializer=lambda request: request.SerializeToString(),
                response_deserializer=FRONTIER_OF.response.FromString,
            )
            for size in (17_000, 60_000):
                large = call.future(FRONTIER_OF.request(edge_id=1), metadata=[("x-large", "y" * size)], timeout=30)
                beside = [call.future(FRONTIER_OF.request(edge_id=2), timeout=30) for _ in range(20)]
                assert large.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
                frontier = message("Frontier", frontier_id="f2", advertised_sb_addr="h:1")
                assert all(each.result().fontier == frontier for each in beside)

    await in_thread(calls)
    assert live.factory.closed_log.total == 0
    await live.close()
