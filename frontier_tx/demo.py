"""``python -m frontier_tx.demo``: a gateway, an edge and a service on this machine do everything once, in plain sight.

The gateway is a process of its own, ``twistd -n frontier`` on its embedded defaults; the edge and the service are two
clients in this process, and all that they exchange goes through the gateway's sockets.
"""

import argparse
import hashlib
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.error import ConnectionRefusedError as PortRefused
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.task import deferLater, react
from twisted.python.failure import Failure

from frontier_tx.clients import Edge, Request, Service, Stream
from frontier_tx.wire.errors import RemoteError

BLOCK = 32_768
START_SECONDS = 15.0
CALLS = 2000


def say(who: str, text: str) -> None:
    """One line of the story."""
    print(f"{who:>8} | {text}", flush=True)


class GatewayProcess(ProcessProtocol):
    """The gateway; its log is kept for the case that it does not come up."""

    def __init__(self) -> None:
        self.output = b""
        self.ended: Deferred[None] = Deferred()
        self.running = True

    def childDataReceived(self, child: int, data: bytes) -> None:
        self.output = (self.output + data)[-20_000:]

    def processEnded(self, reason: Failure) -> None:
        self.running = False
        self.ended.callback(None)


async def start_gateway(reactor: Any) -> GatewayProcess:
    """Start it and wait until its ports are open."""
    process = GatewayProcess()
    twistd = shutil.which("twistd", path=f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}") or "twistd"
    say("gateway", "twistd -n --pidfile= frontier")
    folder = tempfile.gettempdir()
    arguments = [sys.executable, twistd, "-n", "--pidfile=", "frontier", "--log-output", "stdout"]
    reactor.spawnProcess(process, sys.executable, arguments, os.environ, folder)
    until = reactor.seconds() + START_SECONDS
    while b"edgebound listens" not in process.output or b"servicebound listens" not in process.output:
        if not process.running or reactor.seconds() > until:
            print(process.output.decode(errors="replace"), file=sys.stderr)
            raise SystemExit("demo: the gateway did not start; its log is above")
        await deferLater(reactor, 0.05)
    say("gateway", "edges connect to 127.0.0.1:30012, services to 127.0.0.1:30011")
    return process


async def talk(reactor: Any, edge: Edge, service: Service, size: int) -> None:
    """Everything that edges and services do with each other."""
    say("edge", f"online as {edge.edge_id}")
    say("service", f"online as {service.service_id}, named 'files', takes the topic 'readings'")

    async def temperature(request: Request) -> bytes:
        return b"21.5 C"

    async def where(request: Request) -> bytes:
        return f"edge {request.edge_id}, you are in hall 3".encode()

    await edge.register("temperature", temperature)
    await service.register("where", where)
    answer = await service.call(edge.edge_id, "temperature")
    say("service", f"calls temperature at the edge: {answer.decode()}")
    answer = await edge.call("where")
    say("edge", f"calls where at the service: {answer.decode()}")
    try:
        await service.call(4711, "temperature")
    except RemoteError as error:
        say("service", f"calls an edge that is not there: {error}")

    sent = edge.publish("readings", b"21.5")
    message = await service.receive()
    say("service", f"gets {message.data.decode()!r} on {message.topic!r} from edge {message.edge_id}")
    message.ack()
    await sent
    say("edge", "its message is acknowledged")
    sent = service.publish(edge.edge_id, b"close the valve")
    message = await edge.receive()
    message.fail("the valve is stuck")
    try:
        await sent
    except RemoteError as error:
        say("service", f"tells the edge {message.data.decode()!r}, which refuses: {error}")

    began = time.monotonic()
    for _ in range(CALLS // 50):
        calls = [service.call(edge.edge_id, "temperature") for _ in range(50)]
        for call in calls:
            await call
    rate = CALLS / (time.monotonic() - began)
    say("service", f"{CALLS} calls, 50 under way: {rate:.0f} calls/s")
    await stream_file(edge, service, size)


async def stream_file(edge: Edge, service: Service, size: int) -> None:
    """The edge sends a file over a stream; both sides compute its digest."""
    accepting = service.accept_stream()
    opened = await edge.open_stream("files", b"firmware.bin")
    accepted = await accepting
    say("edge", f"opens a stream to 'files' and sends {size / 1e6:.0f} MB")
    receiving = ensureDeferred(receive_file(accepted, size))
    digest = hashlib.sha256()
    left = size
    while left:
        block = os.urandom(min(BLOCK, left))
        digest.update(block)
        opened.write(block)
        await opened.drain()
        left -= len(block)
    await opened.close()
    received = await receiving
    if received != digest.hexdigest():
        raise SystemExit("demo: the file came out different")
    say("service", f"has the whole file, sha256 {received[:16]}..., as sent")


async def receive_file(stream: Stream, size: int) -> str:
    """Read to the end, with a bar on a terminal."""
    digest, got, began, shown = hashlib.sha256(), 0, time.monotonic(), -1
    while block := await stream.read():
        digest.update(block)
        got += len(block)
        tenth = got * 40 // size
        if tenth != shown and (sys.stdout.isatty() or tenth % 10 == 0):
            shown = tenth
            rate = got / 1e6 / max(time.monotonic() - began, 1e-6)
            end = "\r" if sys.stdout.isatty() and got < size else "\n"
            bar = "#" * tenth + "." * (40 - tenth)
            print(f"{'service':>8} | [{bar}] {got * 100 // size:3d} %  {rate:.0f} MB/s", end=end, flush=True)
    return digest.hexdigest()


async def main(reactor: Any, size: int) -> None:
    """The whole story."""
    process = await start_gateway(reactor)
    try:
        edge = Edge("127.0.0.1", meta=b"demo-edge", reactor=reactor)
        service = Service("127.0.0.1", name="files", topics=["readings"], reactor=reactor)
        try:
            async with edge, service:
                await talk(reactor, edge, service, size)
        except PortRefused as error:
            raise SystemExit(f"demo: cannot connect: {error}") from None
    finally:
        if process.running:
            process.transport.signalProcess("TERM")  # type: ignore[union-attr]
            await process.ended
    say("gateway", "everybody left, stopped")


def run() -> None:
    """Entry of ``python -m frontier_tx.demo``."""
    parser = argparse.ArgumentParser(prog="python -m frontier_tx.demo", description=__doc__.splitlines()[0])
    parser.add_argument("--megabytes", type=int, default=64, help="size of the streamed file (default 64)")
    size = max(1, parser.parse_args().megabytes) * 1_000_000
    react(lambda reactor: ensureDeferred(main(reactor, size)))


if __name__ == "__main__":
    run()
