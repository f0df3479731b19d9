"""A user's program is type-checked against the package as it is installed, without plugins."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from .test_twistd import PATIENCE

#: Lines that a type checker must not let pass say so.
PROGRAM = """\
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.protocol import Factory
from twisted.protocols.basic import LineReceiver

from frontier_tx import aio
from frontier_tx.clients import Bounds, ClusterService, Edge, EdgeNotOnline, Message, Request, Service, Stream
from frontier_tx.clients.protocol import ClientProtocol
from frontier_tx.clients.transport import StreamClientEndpoint, StreamServerEndpoint
from frontier_tx.wire.frame import Frame


class Counting(ClientProtocol):
    frames = 0

    def frame_received(self, frame: Frame) -> None:
        self.frames += 1
        super().frame_received(frame)


class CountingEdge(Edge):
    protocol = Counting


async def coroutine(request: Request) -> bytes:
    return request.data + request.custom + str(request.edge_id).encode()


def plain(request: Request) -> bytes | None:
    return None


def later(request: Request) -> "Deferred[bytes]":
    return succeed(b"")


async def twisted(reactor: Any) -> None:
    async with Service("h:1", name="n", topics=["t"], reactor=reactor, bounds=Bounds(messages=5)) as service:
        edge = CountingEdge("h", 1, meta=b"m", reactor=reactor)
        await edge.connect(keep_trying=True)
        for handler in (coroutine, plain, later):
            await edge.register("m", handler)
        try:
            answer: bytes = await service.call(edge.edge_id, "m", b"x", timeout=5)
        except EdgeNotOnline:
            answer = b""
        async for message in service:
            taken: Message = message
            taken.ack()
        stream: Stream = await edge.open_stream("n")
        stream.write(answer + await stream.read(5))
        stream.attach(LineReceiver()).loseConnection()
        await StreamServerEndpoint(service).listen(Factory.forProtocol(LineReceiver))
        await StreamClientEndpoint(edge, "n").connect(Factory.forProtocol(LineReceiver))
        await service.register_get_edge_id(lambda meta: int(meta))
        cluster = ClusterService(["h:1"], name="n", reactor=reactor)
        print(await cluster.call(7, "m"))


async def asynchronous() -> None:
    async with aio.Edge("h") as edge, aio.Service("h", topics=["t"]) as service:
        await edge.register("m", coroutine)
        stream: aio.Stream = await edge.open_stream("n")
        print(await stream.readexactly(5), await service.call(edge.edge_id, "m"))


def wrong(service: Service, edge: Edge, other: aio.Edge) -> None:
    edge.call("m", "text")  # wrong
    service.call("7", "m")  # wrong
    edge.register("m", lambda request: 5)  # wrong
    Service("h", topicz=["t"])  # wrong
    Service("h", bounds=5)  # wrong
    ClusterService("h:1", topicz=["t"])  # wrong
    aio.Service("h", topicz=["t"])  # wrong
    aio.ClusterService("h:1", topicz=["t"])  # wrong
    other.publish("t", "text")  # wrong
"""


@pytest.mark.timeout(180)
def test_a_program_of_a_user(tmp_path: Path) -> None:
    file = tmp_path / "program.py"
    file.write_text(PROGRAM)
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--config-file=", "--no-error-summary", file.name],
        cwd=tmp_path, capture_output=True, text=True, timeout=4 * PATIENCE, check=False,
    )  # fmt: skip
    assert not done.stderr
    found = {int(line.split(":")[1]) for line in done.stdout.splitlines() if ": error: " in line}
    wanted = {number for number, line in enumerate(PROGRAM.splitlines(), 1) if line.endswith("# wrong")}
    assert found == wanted, done.stdout
