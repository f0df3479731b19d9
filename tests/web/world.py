"""``python -m tests.web.world``: a Frontier with its control plane, edges and services. It prints the control port.

With ``token`` as argument the control plane takes ``all-roles-token-0`` and ``read-only-token-0``, and nobody without.
"""

from __future__ import annotations

import socket
import sys
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.stdio import StandardIO
from twisted.internet.task import deferLater, react
from twisted.python.failure import Failure

from frontier_tx.clients import Edge, RemoteError, Request, Service
from frontier_tx.config.loading import parse_frontier
from frontier_tx.gateway.service import make_service

HOST = "127.0.0.1"
EDGES = 120
HOSTILE_META = '<img src=x onerror="document.title=1">\u202egnp.exe\x00\n'.encode()
HOSTILE_METHOD = '<script>document.title="2"</script>'
TOKENS = """
  access:
    tokens:
    - {name: operator, token: all-roles-token-0, roles: [read, act, call]}
    - {name: reader, token: read-only-token-0, roles: [read]}
    anonymous: []
"""
CONFIG = """
edgebound:
  listen: {{addr: "127.0.0.1:{0}"}}
  edgeid_alloc_when_no_idservice_on: true
servicebound:
  listen: {{addr: "127.0.0.1:{1}"}}
observability: {{enable: false}}
controlplane:
  enable: true
  listen: {{addr: "127.0.0.1:{2}"}}
"""


def free_ports(count: int) -> list[int]:
    """TCP ports of the loopback that were free a moment ago."""
    trials = [socket.create_server((HOST, 0)) for _ in range(count)]
    ports = [trial.getsockname()[1] for trial in trials]
    for trial in trials:
        trial.close()
    return ports


class Input(Protocol):
    """Fires ``ended`` when whoever started this process is gone."""

    def __init__(self) -> None:
        self.ended: Deferred[None] = Deferred()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.ended.callback(None)


def echo(request: Request) -> bytes:
    return request.data


def fail(request: Request) -> bytes:
    raise RemoteError("<b>no</b> such file")


async def take(edge: Edge) -> None:
    """Acknowledge whatever comes."""
    async for message in edge:
        message.ack()


async def main(reactor: Any, *arguments: str) -> None:
    """Start all, say where, and end with the input."""
    ports = free_ports(3)
    text = CONFIG.format(*ports) + (TOKENS if "token" in arguments else "")
    gateway = make_service(parse_frontier(text).config)
    gateway.startService()
    reactor.addSystemEventTrigger("before", "shutdown", gateway.stopService)

    async def slow(request: Request) -> bytes:
        await deferLater(reactor, 5)
        return b""

    async def join(meta: bytes, method: str) -> None:
        edge = Edge(HOST, ports[0], meta=meta, reactor=reactor, reconnect=None)
        await edge.connect()
        for name, handler in ((method, echo), ("fail", fail), ("slow", slow)):
            await edge.register(name, handler)
        Deferred.fromCoroutine(take(edge))

    for name in ("billing", "archive"):
        await Service(HOST, ports[1], name=name, topics=["orders"], reactor=reactor).connect()
    metas = [f"plant-{number % 3}/sensor-{number:03}".encode() for number in range(EDGES)]
    await gatherResults([Deferred.fromCoroutine(join(meta, "echo")) for meta in metas])
    await join(HOSTILE_META, HOSTILE_METHOD)
    waiting = Input()
    StandardIO(waiting)
    sys.stdout.write(f"{ports[2]}\n")
    sys.stdout.flush()
    await waiting.ended


if __name__ == "__main__":
    react(main, sys.argv[1:])
