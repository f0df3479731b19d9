"""``python -m frontier_tx.demos.gateway``: a gateway, an edge and a service do everything once, in plain sight.

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
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from frontier_tx.clients import Edge, EdgeNotOnline, RemoteError, Request, Service, Stream
from frontier_tx.demos.stage import HOST, chapter, environment, free_ports, is_free, play, say

BLOCK = 32_768
START_SECONDS = 15.0
CALLS = 2000
EDGE_PORT, SERVICE_PORT, HEALTH_PORT = 30012, 30011, 9091


class GatewayProcess(ProcessProtocol):
    """The gateway; its log is kept for the case that it does not come up."""

    def __init__(self) -> None:
        self.output = b""
        self.ended: Deferred[None] = Deferred()
        self.running = False

    def connectionMade(self) -> None:
        self.running = True

    def childDataReceived(self, child: int, data: bytes) -> None:
        self.output = (self.output + data)[-20_000:]

    def processEnded(self, reason: Failure) -> None:
        self.running = False
        self.ended.callback(None)


async def start_gateway(reactor: Any, process: GatewayProcess, folder: str) -> tuple[int, int]:
    """Start it and wait until its ports are open; return those for edges and for services."""
    chapter("A gateway, an edge and a service on this machine")
    twistd = shutil.which("twistd", path=f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}") or "twistd"
    options = ["-n", "--pidfile=", "frontier"]
    edge_port, service_port = EDGE_PORT, SERVICE_PORT
    if not all(is_free(port) for port in (edge_port, service_port, HEALTH_PORT)):
        edge_port, service_port, health_port = free_ports(3)
        (Path(folder) / "frontier.yaml").write_text(
            f"edgebound: {{listen: {{addr: '{HOST}:{edge_port}'}}, edgeid_alloc_when_no_idservice_on: true}}\n"
            f"servicebound: {{listen: {{addr: '{HOST}:{service_port}'}}}}\n"
            f"observability: {{addr: '{HOST}:{health_port}'}}\n"
        )
        options += ["-c", "frontier.yaml"]
        say("gateway", "the usual ports are in use here, so this one gets others")
    say("gateway", f"$ twistd {' '.join(options)}")
    arguments = [sys.executable, twistd, *options, "--log-output", "stdout"]
    reactor.spawnProcess(process, sys.executable, arguments, environment(), folder)
    until = reactor.seconds() + START_SECONDS
    while b"edgebound listens" not in process.output or b"servicebound listens" not in process.output:
        if not process.running or reactor.seconds() > until:
            print(process.output.decode(errors="replace"), file=sys.stderr)
            raise SystemExit("demo: the gateway did not start; its log is above")
        await deferLater(reactor, 0.05)
    say("gateway", f"edges connect to {HOST}:{edge_port}, services to {HOST}:{service_port}")
    return edge_port, service_port


async def talk(edge: Edge, service: Service, size: int) -> None:
    """Everything that edges and services do with each other."""
    say("edge", f"online, the gateway gave it the id {edge.edge_id}")
    say("service", "online, named 'files', takes messages of the topic 'readings'")

    async def temperature(request: Request) -> bytes:
        return b"21.5 C"

    async def where(request: Request) -> bytes:
        return f"edge {request.edge_id}, you are in hall 3".encode()

    chapter("Calls")
    await edge.register("temperature", temperature)
    await service.register("where", where)
    answer = await service.call(edge.edge_id, "temperature")
    say("service", f"calls 'temperature' at the edge   -> {answer.decode()}")
    answer = await edge.call("where")
    say("edge", f"calls 'where' at the service      -> {answer.decode()}")
    try:
        await service.call(4711, "temperature")
    except EdgeNotOnline as error:
        say("service", f"calls an edge that is not there   -> error: {error}")
    began = time.monotonic()
    for _ in range(CALLS // 50):
        for call in [service.call(edge.edge_id, "temperature") for _ in range(50)]:
            await call
    rate = CALLS / (time.monotonic() - began)
    say("service", f"{CALLS} calls, 50 under way           -> {rate:,.0f} calls/s")

    chapter("Messages")
    sent = edge.publish("readings", b"21.5")
    message = await service.receive()
    say("edge", "publishes '21.5' to the topic 'readings'")
    say("service", f"gets {message.data.decode()!r} from edge {message.edge_id}, and acknowledges it")
    message.ack()
    await sent
    say("edge", "has the acknowledgement")
    sent = service.publish(edge.edge_id, b"close the valve")
    message = await edge.receive()
    say("service", f"sends the edge {message.data.decode()!r}")
    message.fail("the valve is stuck")
    try:
        await sent
    except RemoteError as error:
        say("service", f"reads that the edge refused it: {error}")

    chapter("A stream")
    await stream_file(edge, service, size)


async def stream_file(edge: Edge, service: Service, size: int) -> None:
    """The edge sends a file over a stream; both sides compute its digest."""
    accepting = service.accept_stream()
    opened = await edge.open_stream("files", b"firmware.bin")
    accepted = await accepting
    say("edge", f"opens a stream to 'files' and sends {size / 1e6:.0f} MB as {accepted.meta.decode()!r}")
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
    """Read to the end, with a bar: one that moves on a terminal, four lines elsewhere."""
    digest, got, began, shown = hashlib.sha256(), 0, time.monotonic(), 0
    while block := await stream.read():
        digest.update(block)
        got += len(block)
        tenth = got * 40 // size
        if tenth != shown and (sys.stdout.isatty() or tenth % 10 == 0):
            shown = tenth
            rate = got / 1e6 / max(time.monotonic() - began, 1e-6)
            end = "\r" if sys.stdout.isatty() and got < size else "\n"
            bar = "#" * tenth + "." * (40 - tenth)
            print(f"{'service':>10} | [{bar}] {got * 100 // size:3d} %  {rate:.0f} MB/s", end=end, flush=True)
    return digest.hexdigest()


async def main(reactor: Any, size: int) -> None:
    """The whole story."""
    with tempfile.TemporaryDirectory(prefix="frontier-demo-") as folder:
        process = GatewayProcess()
        try:
            edge_port, service_port = await start_gateway(reactor, process, folder)
            edge = Edge(HOST, edge_port, meta=b"demo-edge", reactor=reactor)
            service = Service(HOST, service_port, name="files", topics=["readings"], reactor=reactor)
            async with edge, service:
                await talk(edge, service, size)
        finally:
            if process.running:
                process.transport.signalProcess("TERM")  # type: ignore[union-attr]
                await process.ended
    chapter("The end")
    say("demo", "all processes stopped")


def run() -> None:
    """Entry of ``python -m frontier_tx.demos.gateway``."""
    parser = argparse.ArgumentParser(prog="python -m frontier_tx.demos.gateway", description=__doc__.splitlines()[0])
    parser.add_argument("--megabytes", type=int, default=64, help="size of the streamed file (default 64)")
    size = max(1, parser.parse_args().megabytes) * 1_000_000
    play(lambda reactor: main(reactor, size))


if __name__ == "__main__":
    run()
