"""Honest pairs of an edge and a service. Run as a program it works until its standard input ends, then says how it was.

Each pair calls in both directions, publishes in both directions, and sends bytes through streams, all of it compared
with what is to come. Nothing reconnects: a connection that is cut is an error.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable

from frontier_tx.aio import Edge, Service, Stream

MARK = b"innocent"
#: Bytes of a payload, and of a block of a stream, where much is asked for and where little is.
SIZES = {"large": ((0, 10, 200, 3000, 20_000), 65_536), "small": ((0, 10, 200, 3000), 2048)}
READ = 65_536


class Pair:
    """One edge and one service with names of their own."""

    def __init__(self, number: int, edge: str, service: str, seed: int, pause: float, sizes: str) -> None:
        self.pause = pause
        self.sizes, self.block = SIZES[sizes]
        self.name = f"innocent-{number}"
        self.edge = Edge(edge, reconnect=None, meta=MARK, on_offline=self._cut)
        self.service = Service(service, name=self.name, topics=[self.name], reconnect=None, on_offline=self._cut)
        self.chance = random.Random(seed)
        self.done: Counter[str] = Counter()
        self.errors: list[str] = []
        self.slowest: dict[str, float] = {}
        self._working = True
        self._tasks: set[asyncio.Task[None]] = set()

    def _cut(self, reason: str) -> None:
        if self._working:
            self.errors.append(f"{self.name}: cut: {reason}")

    async def start(self) -> None:
        await self.service.connect()
        await self.edge.connect()
        await self.service.register(self.name, lambda request: request.data)
        await self.edge.register("echo", lambda request: request.data)

    async def work(self, stop: asyncio.Event) -> None:
        acceptor = [asyncio.create_task(self._accept()), asyncio.create_task(self._hear_edges())]
        jobs = (self._call_service, self._call_edge, self._publish, self._publish_to_edge, self._stream)
        await asyncio.gather(*(self._repeat(job, stop) for job in jobs))
        self._working = False
        for task in (*acceptor, *self._tasks):
            task.cancel()
        for client in (self.edge, self.service):
            with contextlib.suppress(Exception):
                await client.close()

    async def _repeat(self, job: Callable[[], Awaitable[None]], stop: asyncio.Event) -> None:
        what = job.__name__.strip("_")
        while not stop.is_set() and len(self.errors) < 20:
            begun = time.monotonic()
            try:
                async with asyncio.timeout(60):
                    await job()
            except Exception as error:
                took = time.monotonic() - begun
                self.errors.append(f"{self.name}: {what} after {took:.1f} s: {type(error).__name__}: {error}")
                await asyncio.sleep(0.5)
            else:
                self.done[what] += 1
                self.slowest[what] = max(self.slowest.get(what, 0.0), time.monotonic() - begun)
            await asyncio.sleep(self.pause)

    def _payload(self) -> bytes:
        return MARK + self.chance.randbytes(self.chance.choice(self.sizes))

    async def _call_service(self) -> None:
        sent = self._payload()
        assert await self.edge.call(self.name, sent) == sent, "another answer"

    async def _call_edge(self) -> None:
        sent = self._payload()
        assert await self.service.call(self.edge.edge_id, "echo", sent) == sent, "another answer"

    async def _publish(self) -> None:
        sent = self._payload()
        self._expected = hashlib.sha256(sent).digest()
        self._heard = asyncio.get_running_loop().create_future()
        await self.edge.publish(self.name, sent)
        assert self._heard.done(), "acknowledged and not received"

    async def _hear_edges(self) -> None:
        """Others may publish to this topic too."""
        while True:
            message = await self.service.receive()
            if message.data.startswith(MARK) and message.edge_id == self.edge.edge_id:
                if hashlib.sha256(message.data).digest() == self._expected and not self._heard.done():
                    self._heard.set_result(None)
                else:
                    self.errors.append(f"{self.name}: a message that was not sent, or twice")
            message.ack()

    async def _publish_to_edge(self) -> None:
        sent = self._payload()
        publishing = asyncio.create_task(self.service.publish(self.edge.edge_id, sent))
        while True:
            message = await self.edge.receive()
            message.ack()
            if message.data.startswith(MARK):
                assert message.data == sent, "another message"
                break
        await publishing

    async def _stream(self) -> None:
        """What goes in comes back."""
        stream = await self.edge.open_stream(self.name, MARK)
        try:
            for _ in range(4):
                sent = self.chance.randbytes(self.block)
                stream.write(sent)
                await stream.drain()
                assert await stream.readexactly(self.block) == sent, "other bytes"
        finally:
            await stream.close()
        self.done["stream bytes"] += 8 * self.block

    async def _accept(self) -> None:
        while True:
            stream = await self.service.accept_stream()
            task = asyncio.create_task(self._echo(stream))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _echo(self, stream: Stream) -> None:
        """Serve whoever comes, ten seconds at most where it is not one of us."""
        with contextlib.suppress(Exception):
            async with asyncio.timeout(60 if stream.meta == MARK else 10):
                while data := await stream.read(READ):
                    stream.write(data)
                    await stream.drain()
        with contextlib.suppress(Exception):
            await stream.close()


async def main(edge: str, service: str, count: int, seed: int, pause: float, sizes: str) -> None:
    pairs = [Pair(number, edge, service, seed + number, pause, sizes) for number in range(count)]
    for pair in pairs:
        await pair.start()
    print(json.dumps({"edges": [x.edge.edge_id for x in pairs], "names": [x.name for x in pairs]}), flush=True)
    stop = asyncio.Event()
    working = asyncio.gather(*(pair.work(stop) for pair in pairs))
    await asyncio.to_thread(sys.stdin.read)
    stop.set()
    await working
    done: Counter[str] = sum((pair.done for pair in pairs), Counter())
    slowest: dict[str, float] = {}
    for pair in pairs:
        for what, seconds in pair.slowest.items():
            slowest[what] = max(slowest.get(what, 0.0), round(seconds, 3))
    print(json.dumps({"done": done, "slowest": slowest, "errors": [x for pair in pairs for x in pair.errors]}))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), float(sys.argv[5]), sys.argv[6]))
