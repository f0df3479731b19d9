"""``python -m frontier_tx.demos.queue``: an edge's messages go to Redis, which is killed, and so is the gateway.

Redis and the gateway are processes of their own. The edge publishes to a topic that goes to a stream of Redis; a
consumer, which knows nothing but Redis, reads that stream. What Redis cannot have goes to the gateway's spool.
"""

import argparse
import json
import shutil
import time
import urllib.request
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread

from frontier_tx.clients import Backoff, Edge
from frontier_tx.config.redis import Redis
from frontier_tx.demos.stage import HOST, Servers, chapter, free_ports, play, say, with_servers
from frontier_tx.redis.address import Address
from frontier_tx.redis.connection import Connection, Login, open_connection

TOPIC = "readings"
PATIENCE = 30.0


class Consumer:
    """Reads the stream behind what it has read."""

    def __init__(self, reactor: Any, port: int) -> None:
        self._reactor = reactor
        self._address = Address(HOST, port)
        self._connection: Connection | None = None
        self._last = b"0"
        self.seen: list[bytes] = []

    async def read(self) -> list[dict[bytes, bytes]]:
        """Return the fields of what is new."""
        if self._connection is None:
            self._connection = await open_connection(self._reactor, self._address, Redis(), Login("", "", 0))
        entries: Any = await self._connection.send("XRANGE", TOPIC, b"(" + self._last, "+")
        found = []
        for number, fields in entries:
            self._last = number
            found.append(dict(zip(fields[::2], fields[1::2], strict=True)))
            self.seen.append(found[-1][b"value"])
        return found

    async def until(self, count: int) -> None:
        """Read until it has seen so many."""
        end = time.monotonic() + PATIENCE
        while len(self.seen) < count:
            if time.monotonic() > end:
                raise SystemExit(f"demo: the consumer has {len(self.seen)} of {count} messages")
            await self.read()
            await deferLater(self._reactor, 0.02)

    def leave(self) -> None:
        """Close the connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.abort()


class Story:
    """The processes, and what happens to them."""

    def __init__(self, reactor: Any, servers: Servers, count: int) -> None:
        self._reactor = reactor
        self._servers = servers
        self._count = count
        self._told = False
        self._redis, self._edges, self._services, self._health = free_ports(4)

    async def _start_redis(self) -> None:
        program = shutil.which("redis-server")
        if program is None:
            raise SystemExit("demo: there is no redis-server; install it, or see scripts/install-system-packages")
        durable = ["--save", "", "--appendonly", "yes", "--appendfsync", "always"]
        self._servers.start("redis", [program, "--port", str(self._redis), "--bind", HOST, *durable])
        await self._servers.ready(self._reactor, "redis", self._redis)
        say("redis", f"on port {self._redis}")

    async def _start_gateway(self) -> None:
        queue = {
            "enable": True,
            "addrs": [f"{HOST}:{self._redis}"],
            "stream": {"enable": True},
            "producer": {"channels": [TOPIC]},
        }
        mqm = {"redis": queue, "spool": {"enable": True, "path": "spool"}}
        if not self._told:
            say("gateway", f"mqm: {json.dumps(mqm)}")
        self._told = True
        self._servers.twistd(
            "gateway",
            "frontier",
            {
                "edgebound": {"listen": {"addr": f"{HOST}:{self._edges}"}, "edgeid_alloc_when_no_idservice_on": True},
                "servicebound": {"listen": {"addr": f"{HOST}:{self._services}"}},
                "observability": {"addr": f"{HOST}:{self._health}"},
                "mqm": mqm,
            },
        )
        await self._servers.ready(self._reactor, "gateway", self._health)
        say("gateway", f"edges connect to port {self._edges}")

    async def _readiness(self, wanted: str) -> str:
        """What /readyz says, once it says this."""
        end = time.monotonic() + PATIENCE
        while True:
            text = await deferToThread(_get, self._health, "/readyz")
            if wanted in text:
                return text
            if time.monotonic() > end:
                raise SystemExit(f"demo: /readyz never said {wanted!r}, but {text!r}")
            await deferLater(self._reactor, 0.05)

    async def _publish(self, edge: Edge, numbers: range) -> float:
        """Publish a message for each number, 200 under way; return messages per second."""
        began = time.monotonic()
        waiting: list[Deferred[None]] = []
        for number in numbers:
            waiting.append(edge.publish(TOPIC, b"%d" % number))
            if len(waiting) == 200:
                await waiting.pop(0)
        for each in waiting:
            await each
        return len(numbers) / (time.monotonic() - began)

    async def tell(self) -> None:
        """The whole story."""
        chapter("A gateway whose edges' messages go to Redis, an edge, and a consumer that reads Redis")
        await self._start_redis()
        await self._start_gateway()
        consumer = Consumer(self._reactor, self._redis)
        edge = Edge(HOST, self._edges, meta=b"demo", reactor=self._reactor, reconnect=Backoff())
        try:
            await edge.connect()
            await self._with(edge, consumer)
        finally:
            consumer.leave()
            await edge.close()

    async def _with(self, edge: Edge, consumer: Consumer) -> None:
        count = self._count
        await edge.publish(TOPIC, b"0")
        say("edge", f"published '0' to the topic {TOPIC!r} and has the acknowledgement: Redis has it")
        (fields,) = await consumer.read()
        of = ", ".join(f"{name.decode()} {fields[name].decode()}" for name in (b"value", b"edge-id", b"topic"))
        say("consumer", f"reads the stream {TOPIC!r}: {of}")
        rate = await self._publish(edge, range(1, count))
        await consumer.until(count)
        say("edge", f"published {count - 1} more                -> {rate:,.0f} messages/s, all acknowledged")
        say("consumer", f"has {len(consumer.seen)} messages")

        chapter("The broker dies")
        consumer.leave()
        self._servers.kill("redis")
        say("redis", "kill -9")
        rate = await self._publish(edge, range(count, 2 * count))
        say("edge", f"published {count} more                -> {rate:,.0f} messages/s, all acknowledged: on the disk")
        say("gateway", f"/readyz: {await self._readiness('in its spool')}")

        chapter("And so does the gateway")
        self._servers.kill("gateway")
        say("gateway", "kill -9")
        await self._start_gateway()
        say("gateway", f"/readyz: {await self._readiness('in its spool')}")

        chapter("Both are back")
        await self._start_redis()
        await consumer.until(2 * count)
        seen = list(dict.fromkeys(consumer.seen))
        if seen != [b"%d" % number for number in range(2 * count)]:
            raise SystemExit("demo: messages are missing, or out of order")
        say("consumer", f"has {len(seen)} messages, in the order in which they were published")
        while await self._readiness("ready") != "ready":
            await deferLater(self._reactor, 0.05)
        say("gateway", "/readyz: ready")


def _get(port: int, path: str) -> str:
    with urllib.request.urlopen(f"http://{HOST}:{port}{path}", timeout=5) as page:
        return str(page.read().decode())


def run() -> None:
    """Entry of ``python -m frontier_tx.demos.queue``."""
    parser = argparse.ArgumentParser(
        prog="python -m frontier_tx.demos.queue", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--messages", type=int, default=5000, help="messages of each chapter (default 5000)")
    count = max(2, parser.parse_args().messages)
    play(lambda reactor: with_servers(lambda servers: Story(reactor, servers, count).tell()))


if __name__ == "__main__":
    run()
