"""Connections that each make the gateway hold what they may: half frames, unread answers, sessions, calls, metas.

Sockets of one process, each with an address of its own kind (127.1.x.y), so that a bound per address does not end it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections import Counter
from collections.abc import Awaitable, Callable

from tests.hostile.attack import Target
from tests.interop.raw_peer import CONN, MESSAGE, REGISTER, REQUEST, SESSION, STREAM, b64, frame, on_session

#: Connections that begin in a second, about: it is memory that is fought for here, not time.
PACE = 250
#: Writes of one connection at most.
WRITES = 40
#: What all together try to have held, in bytes, and one of them at most and at least.
ALL, MOST, LEAST = 3_000_000_000, 4_000_000, 50_000
NAME = "hoard"


class Line:
    """One connection: it writes as long as the gateway takes it, and reads nothing behind its ConnAck."""

    def __init__(self, loop: asyncio.AbstractEventLoop, link: socket.socket, most: int) -> None:
        self._loop = loop
        self.link = link
        self.sent = 0
        self.writes = 0
        self._most = most

    @property
    def goes_on(self) -> bool:
        """Whether it has not sent what it wants to."""
        self.writes += 1
        return self.sent < self._most and self.writes <= WRITES

    async def write(self, data: bytes) -> None:
        async with asyncio.timeout(20):
            await self._loop.sock_sendall(self.link, data)
        self.sent += len(data)

    async def shake_hands(self, meta: bytes, number: int) -> None:
        body = json.dumps({"meta": b64(meta), "frame_limit": 16_777_216, "stream_window": 1 << 20}).encode()
        await self.write(frame(CONN, number, b"\x18\0" + bytes(8) + body))
        async with asyncio.timeout(20):
            await self._loop.sock_recv(self.link, 23)


def request(number: int, method: str, value: bytes) -> bytes:
    fields = {"key": b64(method.encode()), "value": b64(value)}
    return frame(REQUEST, number, on_session(1, fields))


async def half_a_frame(line: Line, target: Target, number: int) -> None:
    await line.shake_hands(b"x", number)
    await line.write(frame(STREAM, 2)[:10] + (10_000_000).to_bytes(4))
    while line.goes_on:
        await line.write(bytes(20_000))
        await asyncio.sleep(0.1)


async def half_a_handshake(line: Line, target: Target, number: int) -> None:
    await line.write(frame(CONN, 1)[:10] + (1_000_000).to_bytes(4))
    while line.goes_on and line.sent < 950_000:
        await line.write(bytes(20_000))
        await asyncio.sleep(0.1)


async def unread_answers(line: Line, target: Target, number: int) -> None:
    await line.shake_hands(b"x", number)
    while line.goes_on:
        await line.write(request(line.sent, target.names[number % len(target.names)], bytes(20_000)))
        await asyncio.sleep(0.1)


async def unanswered_calls(line: Line, target: Target, number: int) -> None:
    await line.shake_hands(b"x", number)
    while line.goes_on:
        await line.write(b"".join(request(line.sent + at, NAME, bytes(number % 3 * 1000)) for at in range(5)))
        await asyncio.sleep(0.1)


async def long_methods(line: Line, target: Target, number: int) -> None:
    await line.shake_hands(b"x", number)
    while line.goes_on:
        await line.write(request(line.sent, "m" * 40_000, b""))
        await asyncio.sleep(0.1)


async def unacknowledged_messages(line: Line, target: Target, number: int) -> None:
    await line.shake_hands(b"x", number)
    fields = {"value": b64(bytes(10_000)), "topic": NAME}
    while line.goes_on:
        await line.write(frame(MESSAGE, line.sent, on_session(1, fields)))
        await asyncio.sleep(0.1)


async def sessions(line: Line, target: Target, number: int) -> None:
    """Some with a meta, to a service that does not answer and to one that does, and many small ones."""
    await line.shake_hands(b"x", number)
    peers = (NAME, target.names[number % len(target.names)])
    while line.goes_on:
        large = json.dumps({"meta": b64(bytes(10_000)), "peer": peers[0]}).encode()
        small = json.dumps({"peer": peers[line.sent % 2]}).encode()
        for data in (large, small, small):
            await line.write(frame(SESSION, line.sent, b"\0\x10" + (line.sent + 2).to_bytes(8) + data))
        await asyncio.sleep(0.1)


async def metas_and_methods(line: Line, target: Target, number: int) -> None:
    await line.shake_hands("\U0001f600".encode() * (number % 5 * 35_000), number)
    while line.goes_on:
        name = b"%d" % line.sent + bytes(number % 2 * 4000)
        await line.write(frame(REGISTER, line.sent, (1).to_bytes(8) + name))
        await asyncio.sleep(0.05)


KINDS: tuple[Callable[[Line, Target, int], Awaitable[None]], ...] = (
    half_a_frame, half_a_handshake, unread_answers, unanswered_calls, long_methods, unacknowledged_messages, sessions,
    metas_and_methods,
)  # fmt: skip


class Hoard:
    """Opens ``count`` connections and keeps them until it is stopped."""

    def __init__(self, target: Target, count: int) -> None:
        self.target = target
        self.count = count
        self.done: Counter[str] = Counter()
        self._links: list[socket.socket] = []

    async def run(self) -> None:
        """Returns when all have been made, and each has done what it could."""
        for number in range(8):
            await self._idle_service(number)
        async with asyncio.TaskGroup() as group:
            for number in range(self.count):
                group.create_task(self._one(number))
                if not number % 20:
                    await asyncio.sleep(20 / PACE)

    def close(self) -> None:
        for link in self._links:
            link.close()

    async def _connect(self, address: str, number: int) -> Line:
        loop = asyncio.get_running_loop()
        host, _, port = address.rpartition(":")
        link = socket.socket()
        self._links.append(link)
        link.setblocking(False)
        link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        link.bind((f"127.1.{number // 20 % 250}.{1 + number // 5000 % 250}", 0))
        await loop.sock_connect(link, (host, int(port)))
        return Line(loop, link, max(LEAST, min(MOST, ALL // self.count)))

    async def _idle_service(self, number: int) -> None:
        """A service that takes everything for itself and never reads or answers."""
        line = await self._connect(self.target.service, number)
        await line.shake_hands(json.dumps({"service": NAME, "topics": [NAME]}).encode(), number + 1)
        await line.write(frame(REGISTER, 5, (1).to_bytes(8) + NAME.encode()))

    async def _one(self, number: int) -> None:
        kind = KINDS[number % len(KINDS)]
        with contextlib.suppress(OSError, TimeoutError):
            line = await self._connect(self.target.edge, number)
            self.done["connections"] += 1
            try:
                await kind(line, self.target, number)
                self.done["finished"] += 1
            finally:
                self.done["bytes"] += line.sent
                self.done[kind.__name__] += 1
