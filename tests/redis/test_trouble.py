"""What is said when Redis is in trouble: one line for each outage, with its cause; and whether the client counts as
ready."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import protocol
from twisted.internet import reactor as _reactor

from frontier_tx.config.common import TLS
from frontier_tx.redis.client import SAY_AFTER
from frontier_tx.redis.errors import RedisReplyError, RedisStrangerError, RedisTimeoutError, RedisTLSError
from tests import logs
from tests.redis.servers import Clustered, RedisServer, Watched, free_ports
from tests.redis.test_clients import Client, cluster, pair, sentinel, sleep, standalone, until

reactor: Any = _reactor
__all__ = ["pair"]


def logged() -> AbstractContextManager[list[str]]:
    """Level and text of what the Redis client says."""
    return logs.logged(
        lambda event: str(event.get("log_namespace", "")).startswith("frontier_tx.redis"),
        lambda event: f"{event['log_level'].name}: {logs.text(event)}",
    )


@pytest_twisted.ensureDeferred
async def test_an_outage_is_one_line_with_its_cause_and_one_when_it_is_over() -> None:
    server = RedisServer(*free_ports(1)).start()
    try:
        with logged() as lines:
            async with Client(standalone(server.addr)) as redis:
                await redis.execute("PING")
                server.kill()
                await until(lambda: len(lines) == 2, "the outage is named")
                await sleep(2 * SAY_AFTER)
                server.start()
                await until(lambda: redis.ready, "back")
        assert lines == [
            f"info: redis {server.addr} answers",
            f"error: redis {server.addr} cannot be reached (connection refused): start it or correct its address; "
            "trying again until it answers",
            f"info: redis {server.addr} answers",
        ]
    finally:
        server.close()


@pytest_twisted.ensureDeferred
async def test_a_connection_that_comes_back_at_once_is_no_news() -> None:
    server = RedisServer(*free_ports(1)).start()
    try:
        with logged() as lines:
            async with Client(standalone(server.addr)) as redis:
                await redis.execute("PING")
                for _ in range(5):
                    server.cli("CLIENT", "KILL", "TYPE", "normal")
                    await sleep(0.3)
                    assert await redis.execute("PING") == "PONG"
                await sleep(SAY_AFTER + 0.2)
        assert lines == [f"info: redis {server.addr} answers"]
    finally:
        server.close()


@pytest_twisted.ensureDeferred
async def test_a_cluster_that_is_down_is_not_ready_until_it_is_up() -> None:
    made = Clustered(replicas=0).start()
    try:
        with logged() as lines:
            async with Client(cluster(made.masters[0].addr)) as redis:
                await until(lambda: redis.ready, "ready")
                states: list[bool] = []
                redis.watch(states.append, lambda: None)
                victim, other = made.masters[1:]
                victim.kill()
                await until(lambda: "cluster_state:fail" in other.cli("CLUSTER", "INFO"), "the cluster is down")
                await until(lambda: not redis.ready, "noticed")
                seen = len(states)
                for n in range(40):
                    redis.execute("GET", f"key{n}").addErrback(lambda _: None)
                    await sleep(0.1)
                assert states[seen:] == []
                assert redis.error is not None
                victim.start()
                await until(lambda: redis.ready, "up again", 30)
        assert sum(line.startswith("error") for line in lines) <= 3
    finally:
        made.close()


@pytest_twisted.ensureDeferred
async def test_lost_sentinels_are_named_once_while_the_master_serves() -> None:
    made = Watched().start()
    try:
        with logged() as lines:
            async with Client(sentinel(made.addrs)) as redis:
                await redis.execute("PING")
                for each in made.sentinels:
                    each.kill()
                await until(lambda: any(line.startswith("warn") for line in lines), "it is named")
                await sleep(2.5)
                assert redis.ready
                assert await redis.execute("SET", "x", 1) == "OK"
        [line] = [line for line in lines if not line.startswith("info")]
        assert "connection refused" in line
        assert f"{made.servers[0].addr} stays in use" in line
    finally:
        made.close()


async def error_of(settings: Any) -> Any:
    """Why a client with these settings is not ready."""
    async with Client(settings) as redis:
        await until(lambda: redis.error is not None, "an attempt failed")
        return redis.error


@pytest_twisted.ensureDeferred
async def test_more_clients_than_the_server_takes() -> None:
    server = RedisServer(*free_ports(1), "--maxclients", "1").start()
    hog = None
    try:
        async with Client(standalone(server.addr, pool_size=1)) as hog:
            await hog.execute("PING")
            error = await error_of(standalone(server.addr))
            assert str(error) == f"redis {server.addr}: ERR max number of clients reached"
    finally:
        server.close()


@pytest_twisted.ensureDeferred
async def test_tls_that_fails(pair: tuple[Path, Path]) -> None:
    key, cert = pair
    files = ("--tls-cert-file", str(cert), "--tls-key-file", str(key), "--tls-ca-cert-file", str(cert))
    secure = RedisServer(*free_ports(1), tls=(*files, "--tls-auth-clients", "no")).start()
    plain = RedisServer(*free_ports(1)).start()
    try:
        error = await error_of(standalone(secure.addr, tls=TLS(enable=True)))
        assert isinstance(error, RedisTLSError)
        assert "TLS failed (certificate verify failed): correct redis.tls" in str(error)
        error = await error_of(standalone(plain.addr, tls=TLS(enable=True), dial_timeout=0.5))
        assert isinstance(error, RedisTLSError)
        assert "nothing came back within 0.5 s" in str(error)
        error = await error_of(standalone(secure.addr))
        assert isinstance(error, RedisStrangerError)
        assert "wants TLS" in str(error)
    finally:
        secure.close()
        plain.close()


@pytest_twisted.ensureDeferred
async def test_a_server_that_turned_into_a_replica_says_so() -> None:
    first, second = (RedisServer(port).start() for port in free_ports(2))
    try:
        async with Client(standalone(first.addr, pool_timeout=1.0)) as redis:
            await redis.execute("SET", "x", 1)
            first.cli("REPLICAOF", "127.0.0.1", second.port)
            with pytest.raises(Exception, match=f"is a replica of {second.addr}"):
                await redis.execute("SET", "x", 2)
            assert "abort" not in str(redis.error)
    finally:
        first.close()
        second.close()


def test_texts_of_redis_without_the_place_in_a_script() -> None:
    error = RedisReplyError("h:1", "OOM command not allowed. script: 92c81e, on @user_script:12.")
    assert str(error) == (
        "redis h:1: OOM command not allowed: give it more memory (maxmemory) or take out what is not ours"
    )
    assert error.code == "OOM"


class Mute(protocol.Protocol):
    """Hangs up at the first word."""

    def dataReceived(self, data: bytes) -> None:
        assert self.transport is not None
        self.transport.loseConnection()


@pytest_twisted.ensureDeferred
async def test_something_else_than_a_redis() -> None:
    port = reactor.listenTCP(0, protocol.Factory.forProtocol(Mute), interface="127.0.0.1")
    try:
        error = await error_of(standalone(f"127.0.0.1:{port.getHost().port}"))
        assert isinstance(error, RedisStrangerError)
        assert "see whether it is a Redis" in str(error)
    finally:
        await port.stopListening()


@pytest_twisted.ensureDeferred
async def test_a_command_that_is_sent_again_and_again_ends_at_its_deadline_all_the_same() -> None:
    server = RedisServer(*free_ports(1)).start()
    try:
        async with Client(standalone(server.addr, read_timeout=1.0)) as redis:
            await redis.execute("SET", "a", 1)
            # The server goes on to accept connections, and to answer what they begin with.
            server.cli("CLIENT", "PAUSE", 10_000, "WRITE")
            asked = reactor.seconds()
            with pytest.raises(RedisTimeoutError):
                await redis.execute("SET", "a", 2)
            assert 1.9 <= reactor.seconds() - asked < 3.0
            # Nothing is left to be sent when the server is itself again, but what is asked then.
            server.cli("CLIENT", "UNPAUSE")
            await until(lambda: redis.ready, "back")
            assert await redis.execute("SET", "a", 3) == "OK"
            await sleep(0.5)
            assert await redis.execute("GET", "a") == b"3"
            assert redis.metrics()["redis_waiting"] == 0
    finally:
        server.close()


NONSENSE = [
    b":5\r\n",
    b"$3\r\nabc\r\n",
    b"$-1\r\n",
    b"*1\r\n:1\r\n",
    b"+OK\r\n",
    b"*3\r\n$5\r\nslave\r\n$1\r\nx\r\n$1\r\ny\r\n",
]


class Nonsense(protocol.Protocol):
    """Answers each command with the same, but for those that it knows."""

    def __init__(self, answer: bytes, known: dict[bytes, bytes]) -> None:
        self.answer, self.known = answer, known

    def dataReceived(self, data: bytes) -> None:
        for words in data.split(b"*")[1:]:
            found = [reply for word, reply in self.known.items() if word in words]
            self.transport.write(found[0] if found else self.answer)


def _info(mode: bytes) -> bytes:
    text = b"redis_mode:" + mode + b"\r\nrun_id:x\r\n"
    return b"$%d\r\n%s\r\n" % (len(text), text)


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("mode", ["standalone", "sentinel", "cluster"])
async def test_who_answers_as_no_redis_does_is_named_once_and_asked_again(mode: str) -> None:
    greets = {b"INFO\r\n$6\r\nserver": _info(mode.encode()), b"ROLE": b"*1\r\n$6\r\nmaster\r\n", b"CLIENT": b"+OK\r\n"}
    for answer in NONSENSE:
        for known in ({}, greets):
            if mode == "standalone" and (known or answer.startswith(b"$3")):
                # What greets well, or says nothing of itself, is asked no more.
                continue
            factory = protocol.Factory()
            factory.noisy = False
            factory.buildProtocol = lambda addr, a=answer, k=known: Nonsense(a, k)  # type: ignore[method-assign, misc]
            port = reactor.listenTCP(0, factory, interface="127.0.0.1")
            addr = f"127.0.0.1:{port.getHost().port}"
            settings = {
                "standalone": lambda addr: standalone(addr, dial_timeout=0.3),
                "sentinel": lambda addr: sentinel((addr,), dial_timeout=0.3),
                "cluster": lambda addr: cluster(addr, dial_timeout=0.3),
            }[mode](addr)
            with logged() as lines:
                async with Client(settings) as redis:
                    await until(lambda: redis.error is not None, "named")
                    asked = redis.error
                    await until(lambda: redis.error is not asked, "asked again")  # noqa: B023
                    assert "redis" in str(redis.error)
            assert all("Traceback" not in line and not line.startswith("critical") for line in lines)
            await port.stopListening()
