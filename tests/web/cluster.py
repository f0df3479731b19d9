"""``python -m tests.web.cluster``: a Frontlas, two Frontiers with 120 edges, and one that left. It prints its port."""

from __future__ import annotations

import sys
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater, react

from frontier_tx.clients import Edge, Service
from frontier_tx.config.loading import parse_frontier
from frontier_tx.gateway.service import Gateway
from frontier_tx.gateway.service import make_service as make_gateway
from frontlas_tx.config import parse_frontlas
from frontlas_tx.service import make_service as make_frontlas
from tests.web.world import HOST, Input, StandardIO, echo, free_ports, take

EDGES = 120
FIRST = 9_100_000_000_000_000_000
HOSTILE = '<img src=x onerror="document.title=1">'
FRONTLAS = """
control_plane: {{listen: {{addr: "127.0.0.1:{0}"}}}}
frontier_plane: {{listen: {{addr: "127.0.0.1:{1}"}}}}
observability: {{enable: false}}
"""
FRONTIER = """
daemon: {{frontier_id: '{0}'}}
edgebound: {{listen: {{addr: "127.0.0.1:{1}"}}}}
servicebound: {{listen: {{addr: "127.0.0.1:{2}"}}}}
observability: {{enable: false}}
frontlas: {{enable: true, dial: {{addrs: ["127.0.0.1:{3}"]}}}}
"""


async def until(reactor: Any, condition: Any) -> None:
    """Wait for something to be so."""
    while not condition():
        await deferLater(reactor, 0.05)


async def main(reactor: Any) -> None:
    """Start all, say where, and end with the input."""
    ports = free_ports(8)
    frontlas = make_frontlas(parse_frontlas(FRONTLAS.format(ports[0], ports[1])).config)
    frontlas.startService()
    reactor.addSystemEventTrigger("before", "shutdown", frontlas.stopService)

    async def frontier(name: str, edge_port: int, service_port: int) -> Gateway:
        made = make_gateway(parse_frontier(FRONTIER.format(name, edge_port, service_port, ports[1])).config)
        made.startService()
        service = Service(HOST, service_port, name="billing", reactor=reactor)
        await service.connect()
        await service.register_get_edge_id(lambda meta: FIRST + int(meta[-3:]))
        return made

    async def edge(number: int) -> None:
        port = ports[2 + 2 * (number % 2)]
        meta = f"plant-{number % 3}/sensor-{number:03}".encode()
        made = Edge(HOST, port, meta=meta, reactor=reactor, reconnect=None)
        await made.connect()
        await made.register("echo", echo)
        Deferred.fromCoroutine(take(made))

    for name, own in (("east", ports[2:4]), ("west", ports[4:6])):
        reactor.addSystemEventTrigger("before", "shutdown", (await frontier(name, *own)).stopService)
    await gatherResults([Deferred.fromCoroutine(edge(number)) for number in range(EDGES)])
    third = await frontier(HOSTILE, *ports[6:8])

    def here(frontiers: int) -> bool:
        figures = frontlas.registry.metrics()
        return bool((figures["frontiers"], figures["edges"]) == (frontiers, EDGES))

    await until(reactor, lambda: here(3))
    await third.stopService()
    await until(reactor, lambda: here(2))
    waiting = Input()
    StandardIO(waiting)
    sys.stdout.write(f"{ports[0]}\n")
    sys.stdout.flush()
    await waiting.ended


if __name__ == "__main__":
    react(main)
