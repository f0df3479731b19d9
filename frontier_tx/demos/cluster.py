"""``python -m frontier_tx.demos.cluster``: Redis, Frontlas and three gateways, and what happens when one dies.

Every server is a process of its own. The edges take whichever gateway they get, as behind a load balancer; a cluster
service, which knows nothing but the address of Frontlas, calls all of them.
"""

import argparse
import random
import shutil
import time
from collections import Counter
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.interfaces import IProtocolFactory, IStreamClientEndpoint
from twisted.internet.task import deferLater
from zope.interface import implementer

from frontier_tx.clients import Backoff, Edge, Request
from frontier_tx.clients.cluster.service import ClusterService
from frontier_tx.demos.stage import HOST, Servers, chapter, free_ports, play, say, with_servers
from frontier_tx.errors import FrontierError

GATEWAYS = 3


@implementer(IStreamClientEndpoint)
class AnyOf:
    """A load balancer in one class: connects to one of the gateways, at random."""

    def __init__(self, reactor: Any, ports: list[int]) -> None:
        self._endpoints = [TCP4ClientEndpoint(reactor, HOST, port) for port in ports]

    def connect(self, protocolFactory: IProtocolFactory) -> "Deferred[Any]":
        """See IStreamClientEndpoint."""
        return random.choice(self._endpoints).connect(protocolFactory)


async def start_cluster(reactor: Any, servers: Servers) -> tuple[int, list[int]]:
    """Start everything; return the port of Frontlas and those of the gateways for edges."""
    program = shutil.which("redis-server")
    if program is None:
        raise SystemExit("demo: there is no redis-server; install it, or see scripts/install-system-packages")
    chapter(f"A cluster: Redis, Frontlas and {GATEWAYS} Frontiers, each a process")
    redis, api, plane, *ports = free_ports(3 + 2 * GATEWAYS)
    servers.start("redis", [program, "--port", str(redis), "--save", "", "--appendonly", "no", "--bind", HOST])
    await servers.ready(reactor, "redis", redis)
    say("redis", f"on port {redis}")
    servers.twistd(
        "frontlas",
        "frontlas",
        {
            "control_plane": {"listen": {"addr": f"{HOST}:{api}"}},
            "frontier_plane": {"listen": {"addr": f"{HOST}:{plane}"}},
            "redis": {"mode": "standalone", "standalone": {"addr": f"{HOST}:{redis}"}},
            "observability": {"enable": False},
        },
    )
    await servers.ready(reactor, "frontlas", api)
    say("frontlas", f"services ask on port {api}, gateways report on port {plane}")
    edge_ports, service_ports = ports[:GATEWAYS], ports[GATEWAYS:]
    for n, (edge_port, service_port) in enumerate(zip(edge_ports, service_ports, strict=True), 1):
        name = f"frontier{n:02}"
        servers.twistd(
            name,
            "frontier",
            {
                "daemon": {"frontier_id": name},
                "edgebound": {"listen": {"addr": f"{HOST}:{edge_port}"}, "edgeid_alloc_when_no_idservice_on": True},
                "servicebound": {"listen": {"addr": f"{HOST}:{service_port}"}},
                "frontlas": {"enable": True, "dial": {"addr": [f"{HOST}:{plane}"]}},
                "observability": {"enable": False},
            },
        )
    for n, port in enumerate(edge_ports, 1):
        await servers.ready(reactor, f"frontier{n:02}", port)
        say(f"frontier{n:02}", f"edges connect to port {port}; reports to frontlas")
    return api, edge_ports


async def call_all(service: ClusterService, edges: list[Edge]) -> list[str]:
    """Call every edge; return what failed."""
    failed: list[str] = []
    for edge in edges:
        try:
            await service.call(edge.edge_id, "hello", timeout=5)
        except FrontierError as error:
            failed.append(f"{edge.edge_id}: {error}")
    return failed


async def until_all_answer(reactor: Any, service: ClusterService, edges: list[Edge], seconds: float) -> float:
    """Call all edges again and again until everyone answers; return how long that took."""
    began = time.monotonic()
    while True:
        failed = await call_all(service, edges)
        if not failed:
            return time.monotonic() - began
        if time.monotonic() - began > seconds:
            raise SystemExit(f"demo: {len(failed)} of {len(edges)} edges do not answer, the first: {failed[0]}")
        await deferLater(reactor, 0.2)


async def holders(service: ClusterService, edges: list[Edge]) -> str:
    """Who holds how many edges, as Frontlas counts."""
    counted: Counter[str] = Counter()
    for edge in edges:
        counted[(await service.frontlas.holder(edge.edge_id)).frontier_id] += 1
    return ", ".join(f"{name} {number}" for name, number in sorted(counted.items()))


async def story(reactor: Any, servers: Servers, number: int) -> None:
    """Build the cluster, use it, break it, use it again."""
    api, ports = await start_cluster(reactor, servers)
    balancer = AnyOf(reactor, ports)
    lost: list[str] = []
    edges = [
        Edge(balancer, meta=b"demo", reactor=reactor, reconnect=Backoff(), on_offline=lost.append)
        for _ in range(number)
    ]

    async def hello(request: Request) -> bytes:
        return b"hello"

    chapter(f"{number} edges, each at whichever Frontier the load balancer picked")
    for edge in edges:
        await edge.connect()
        await edge.register("hello", hello)
    say("edges", "all connected")
    service = ClusterService(f"{HOST}:{api}", name="console", reactor=reactor)
    await service.connect()
    try:
        took = await until_all_answer(reactor, service, edges, 20)
        say("service", f"knows the address of frontlas alone, and calls all {number}: all answer ({took:.2f} s)")
        say("frontlas", f"edges are at: {await holders(service, edges)}")
        victim = f"frontier{GATEWAYS:02}"
        chapter("A Frontier dies")
        servers.kill(victim)
        say(victim, "kill -9")
        began = time.monotonic()
        await deferLater(reactor, 0.1)
        while not all(edge.online for edge in edges):
            await deferLater(reactor, 0.02)
        say(
            "edges",
            f"{len(lost)} lost their connection; all are back, elsewhere, {time.monotonic() - began:.2f} s later",
        )
        took = await until_all_answer(reactor, service, edges, 60)
        say("service", f"calls all {number} again: all answer ({took:.2f} s)")
        say("frontlas", f"edges are at: {await holders(service, edges)}")
    finally:
        await service.close()
        for edge in edges:
            await edge.close()


def run() -> None:
    """Entry of ``python -m frontier_tx.demos.cluster``."""
    parser = argparse.ArgumentParser(
        prog="python -m frontier_tx.demos.cluster", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--edges", type=int, default=30, help="number of edges (default 30)")
    number = max(1, parser.parse_args().edges)
    play(lambda reactor: with_servers(lambda servers: story(reactor, servers, number)))


if __name__ == "__main__":
    run()
