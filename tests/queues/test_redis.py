"""Redis: PUBLISH and streams, against a real server."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest
import pytest_twisted

from frontier_tx.config.queues import MQM, QueueBuffer, RedisQueue, RedisQueueProducer, RedisStream
from tests.queues.world import BODIES, numbered, way
from tests.redis.servers import RedisServer, free_ports


@pytest.fixture
def server() -> Iterator[RedisServer]:
    made = RedisServer(free_ports(1)[0]).start()
    yield made
    made.kill()


def section(server: RedisServer, **options: Any) -> RedisQueue:
    return RedisQueue(enable=True, addrs=(server.addr,), producer=RedisQueueProducer(channels=("t",)), **options)


class Raw:
    """Speaks RESP over a socket."""

    def __init__(self, server: RedisServer) -> None:
        self._socket = socket.create_connection(("127.0.0.1", server.port), 10)
        self._file = self._socket.makefile("rb")

    def ask(self, *words: bytes | str) -> Any:
        parts = [word.encode() if isinstance(word, str) else word for word in words]
        sent = b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts)
        self._socket.sendall(b"*%d\r\n%s" % (len(parts), sent))
        return self.read()

    def read(self) -> Any:
        line = self._file.readline().rstrip(b"\r\n")
        kind, rest = line[:1], line[1:]
        if kind == b"$":
            return self._file.read(int(rest) + 2)[:-2] if rest != b"-1" else None
        if kind == b"*":
            return [self.read() for _ in range(int(rest))]
        return int(rest) if kind == b":" else rest

    def close(self) -> None:
        self._file.close()
        self._socket.close()


@pytest_twisted.ensureDeferred
async def test_subscribers_read_every_byte(server: RedisServer) -> None:
    consumer = Raw(server)
    consumer.ask("SUBSCRIBE", "t")
    async with way(MQM(redis=section(server))) as redis:
        redis.publish("t", *BODIES)
        await redis.ended(len(BODIES))
    assert redis.acknowledged == BODIES
    assert [consumer.read() for _ in BODIES] == [[b"message", b"t", body] for body in BODIES]
    consumer.close()


@pytest_twisted.ensureDeferred
async def test_streams_keep_messages_with_their_origin_up_to_a_bound(server: RedisServer) -> None:
    stream = RedisStream(enable=True, maxlen=1000)
    async with way(MQM(redis=section(server, stream=stream))) as redis:
        redis.publish("t", *BODIES)
        await redis.ended(len(BODIES))
        reader = Raw(server)
        entries = [fields for _, fields in reader.ask("XRANGE", "t", "-", "+")]
        assert [fields[1] for fields in entries] == BODIES
        found = dict(zip(entries[0][::2], entries[0][1::2], strict=True))
        assert (found[b"edge-id"], found[b"topic"], found[b"gateway"]) == (b"7", b"t", b"gw-1")
        redis.publish("t", *numbered(5000))
        await redis.ended(len(BODIES) + 5000)
        assert 1000 <= reader.ask("XLEN", "t") <= 1200
        reader.close()


@pytest_twisted.ensureDeferred
async def test_an_error_of_one_message_is_its_own(server: RedisServer) -> None:
    raw = Raw(server)
    raw.ask("SET", "text", "x")
    async with way(MQM(redis=section(server, stream=RedisStream(enable=True)))) as redis:
        redis.publish("text", b"a")
        redis.publish("t", b"b")
        await redis.ended(2)
        told = dict(redis.told)
        assert told[b"a"].startswith("queue redis: WRONGTYPE") and told[b"b"] == ""
        raw.ask("CONFIG", "SET", "maxmemory", "1")
        redis.publish("t", b"c")
        await redis.ended(3)
        assert redis.told[-1][1].startswith("queue redis: OOM")
    raw.close()


@pytest_twisted.ensureDeferred
async def test_a_wrong_password_is_named(server: RedisServer) -> None:
    raw = Raw(server)
    raw.ask("CONFIG", "SET", "requirepass", "right")
    async with way(MQM(redis=section(server, password="wrong")), connected=False) as redis:
        await redis.until(lambda: "mqm.redis.password" in redis.forwarder.trouble)
    async with way(MQM(redis=section(server, password="right"))) as redis:
        redis.publish("t", b"a")
        await redis.ended(1)
        assert redis.acknowledged == [b"a"]
    raw.close()


@pytest_twisted.ensureDeferred
async def test_nothing_that_was_acknowledged_is_missing_after_kills() -> None:
    server = RedisServer(free_ports(1)[0], "--appendonly", "yes", "--appendfsync", "always").start()
    count = 4000
    config = MQM(redis=section(server, stream=RedisStream(enable=True, maxlen=0)), buffer=QueueBuffer(seconds=60))
    async with way(config) as redis:
        for start in range(0, count, 1000):
            redis.publish("t", *numbered(1000, start))
            await redis.ended(start + 100, 30)
            if start in (1000, 2000):
                server.kill()
                await redis.until(lambda: not redis.forwarder.connected)
                server.start()
        await redis.ended(count, 30)
        assert redis.acknowledged == numbered(count)
    raw = Raw(server)
    values = [fields[1] for _, fields in raw.ask("XRANGE", "t", "-", "+")]
    assert list(dict.fromkeys(values)) == numbered(count)
    raw.close()
    server.kill()
