"""Connections that attack a gateway: many at a time, each of a kind, for a time."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import struct
from collections import Counter
from dataclasses import dataclass, field

from tests.hostile.mutation import Mutator, recorded
from tests.interop.raw_peer import (
    CONN,
    MESSAGE,
    MESSAGE_ACK,
    REGISTER,
    REQUEST,
    RESPONSE,
    SESSION,
    SESSION_ACK,
    b64,
    frame,
)

_HEADER = struct.Struct(">BBQI")
#: How long one connection goes on, in seconds, at most.
LIFE = 3.0


@dataclass
class Target:
    """Whom to attack. ``names`` are methods, topics and services of honest ends, ``edges`` the ids of honest edges."""

    edge: str
    service: str
    names: list[str]
    edges: list[int] = field(default_factory=list)


class Attacker:
    """Opens connections until it is stopped.

    :param width: how many it has at a time.
    :param rate: frames that each sends in a second, about.
    """

    def __init__(self, target: Target, seed: int, width: int = 20, rate: float = 100.0) -> None:
        self.target = target
        self.chance = random.Random(seed)
        self.width = width
        self.rate = rate
        self.done: Counter[str] = Counter()
        self._scripts = {leg: recorded(leg) for leg in ("edge", "service")}

    async def run(self, seconds: float) -> None:
        until = asyncio.get_running_loop().time() + seconds
        async with asyncio.TaskGroup() as group:
            for _ in range(self.width):
                group.create_task(self._one_after_the_other(until))

    async def _one_after_the_other(self, until: float) -> None:
        while asyncio.get_running_loop().time() < until:
            leg = self.chance.choice(("edge", "edge", "service"))
            life = self.chance.random() * LIFE
            with contextlib.suppress(OSError, asyncio.IncompleteReadError, TimeoutError):
                async with asyncio.timeout(life + 1):
                    await self._connection(leg, life)
            self.done["connections"] += 1

    async def _connection(self, leg: str, life: float) -> None:
        address = self.target.edge if leg == "edge" else self.target.service
        host, _, port = address.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        tails = [] if leg == "edge" else [edge.to_bytes(8) for edge in self.target.edges]
        names = [*self.target.names, "attacker", "evil"]
        mutator = Mutator(random.Random(self.chance.random()), names, tails, self.chance.random() < 0.6)
        reading: asyncio.Task[None] | None = None
        try:
            match self.chance.randrange(8):
                case 0:
                    await self._deliver(writer, mutator, self._replayed(mutator, leg))
                case 1:
                    await self._deliver(writer, mutator, [mutator.make() for _ in range(3)])
                case _:
                    await self._shake_hands(reader, writer, leg, mutator)
                    if self.chance.random() < 0.85:
                        reading = asyncio.create_task(self._read(reader, mutator))
                    until = asyncio.get_running_loop().time() + life
                    while asyncio.get_running_loop().time() < until and not (
                        writer.is_closing() or (reading is not None and reading.done())
                    ):
                        frames = [mutator.make() for _ in range(self.chance.choice((1, 1, 3, 20)))]
                        await self._deliver(writer, mutator, frames)
                        await asyncio.sleep(len(frames) / self.rate)
        finally:
            if reading is not None:
                reading.cancel()
            if self.chance.random() < 0.5:
                writer.transport.abort()
            else:
                writer.close()

    def _replayed(self, mutator: Mutator, leg: str) -> list[bytes]:
        frames = list(self.chance.choice(self._scripts[leg]))
        for _ in range(self.chance.randrange(3)):
            at = self.chance.randrange(len(frames))
            frames[at] = mutator.mutated(frames[at])
        if self.chance.random() < 0.3:
            self.chance.shuffle(frames)
        if self.chance.random() < 0.3:
            frames *= 5
        return frames

    async def _shake_hands(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, leg: str, mutator: Mutator
    ) -> None:
        meta = b"attacker" if leg == "edge" else b'{"service":"attacker","topics":["attacker"]}'
        data: dict[str, object] = {"meta": b64(meta)}
        if self.chance.random() < 0.5:
            data |= {"frame_limit": 16_777_216, "stream_window": self.chance.choice((4096, 1 << 20))}
        wanted = self.chance.choice((b"\x18\0" + bytes(8), b"\x10\0" + self.chance.randbytes(8)))
        writer.write(frame(CONN, mutator.fresh(), wanted + json.dumps(data).encode()))
        await self._frame(reader)
        if leg == "service":
            writer.write(frame(REGISTER, mutator.fresh(), (1).to_bytes(8) + b"evil"))

    @staticmethod
    async def _frame(reader: asyncio.StreamReader) -> tuple[int, int, bytes]:
        _, kind, packet_id, size = _HEADER.unpack(await reader.readexactly(_HEADER.size))
        return kind, packet_id, await reader.readexactly(size)

    async def _read(self, reader: asyncio.StreamReader, mutator: Mutator) -> None:
        """Learn what the gateway asks, so that answers of every kind reach others."""
        with contextlib.suppress(OSError, EOFError):
            while True:
                kind, packet_id, body = await self._frame(reader)
                self.done["frames read"] += 1
                if kind in (REQUEST, MESSAGE):
                    answer = RESPONSE if kind == REQUEST else MESSAGE_ACK
                    mutator.asked.append((answer, packet_id, int.from_bytes(body[:8])))
                elif kind == SESSION:
                    mutator.sessions.append(int.from_bytes(body[2:10]))
                elif kind == SESSION_ACK and len(mutator.sessions) < 20:
                    mutator.sessions.append(int.from_bytes(body[10:18]))

    async def _deliver(self, writer: asyncio.StreamWriter, mutator: Mutator, frames: list[bytes]) -> None:
        chance = mutator.chance
        self.done["frames"] += len(frames)
        match chance.randrange(6):
            case 0:
                chance.shuffle(frames)
            case 1:
                frames = [item for item in frames for _ in range(chance.choice((1, 2, 10)))]
        data = b"".join(frames)
        if chance.random() < 0.2:
            for _ in range(chance.randrange(1, 30)):
                size = chance.choice((1, 1, 2, 13, 14, 15, 100))
                if writer.is_closing():
                    return
                writer.write(data[:size])
                data = data[size:]
                await asyncio.sleep(0.001)
        if chance.random() < 0.03:
            data = data[: len(data) // 2]
        writer.write(data)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1.0):
                await writer.drain()
