"""The Redis client in its three modes against real servers: commands, errors, healing."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.internet.tcp import Client as TCPClient
from twisted.logger import globalLogPublisher
from zope.interface.verify import verifyObject

from frontier_tx.config.common import TLS, CertKey
from frontier_tx.config.redis import Cluster, Redis, Sentinel, Standalone
from frontier_tx.redis.address import Address
from frontier_tx.redis.cluster import slot_of
from frontier_tx.redis.connect import make_redis
from frontier_tx.redis.errors import (
    RedisBusyError,
    RedisError,
    RedisLoginError,
    RedisMasterUnknownError,
    RedisModeError,
    RedisReplicaError,
    RedisReplyError,
    RedisStoppedError,
    RedisTimeoutError,
    RedisUnreachableError,
)
from frontier_tx.redis.interfaces import IRedis, Script, command
from frontier_tx.runtime.tls import client_context
from tests.redis.servers import Clustered, RedisServer, Watched, free_ports

reactor: Any = _reactor
BOTH = Script("return {KEYS[1], ARGV[1]}")


def standalone(addr: str, **more: Any) -> Redis:
    return Redis(standalone=Standalone(addr=addr), **more)


def sentinel(addrs: tuple[str, ...], name: str = Watched.NAME, **more: Any) -> Redis:
    return Redis(mode="sentinel", sentinel=Sentinel(addrs=addrs, master_name=name), **more)


def cluster(*addrs: str, **more: Any) -> Redis:
    return Redis(mode="cluster", cluster=Cluster(addrs=addrs), **more)


def sleep(seconds: float) -> Deferred[None]:
    return deferLater(reactor, seconds)


async def until(done: Any, what: str, seconds: float = 15.0) -> None:
    end = reactor.seconds() + seconds
    while not done():
        assert reactor.seconds() < end, f"not within {seconds:g} s: {what}"
        await sleep(0.02)


class Client:
    """A started client, stopped at the end of the block."""

    def __init__(self, settings: Redis, *scripts: Script) -> None:
        self.redis = make_redis(reactor, settings, scripts)

    async def __aenter__(self) -> Any:
        self.redis.start()
        return self.redis

    async def __aexit__(self, *_exc: object) -> None:
        await self.redis.stop()


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    server = RedisServer(*free_ports(1)).start()
    yield server
    server.close()


@pytest.fixture(scope="module")
def watched() -> Iterator[Watched]:
    watched = Watched()
    yield watched.start()
    watched.close()


@pytest.fixture(scope="module")
def clustered() -> Iterator[Clustered]:
    clustered = Clustered()
    yield clustered.start()
    clustered.close()


@pytest.fixture(params=["standalone", "sentinel", "cluster"])
def settings(request: pytest.FixtureRequest) -> Redis:
    if request.param == "standalone":
        return standalone(request.getfixturevalue("server").addr)
    if request.param == "sentinel":
        return sentinel(request.getfixturevalue("watched").addrs)
    return cluster(request.getfixturevalue("clustered").addrs[0])


@pytest_twisted.ensureDeferred
async def test_commands_scripts_and_errors_in_one_batch(settings: Redis) -> None:
    async with Client(settings, BOTH) as redis:
        assert verifyObject(IRedis, redis)
        assert await redis.execute("SET", "number", "007") == "OK"
        assert await redis.execute("GET", "number") == b"007"
        requests = [command("SET", f"key:{n}", b"\xff\x00%d" % n) for n in range(1_200)]
        assert await redis.batch(requests) == ["OK"] * 1_200
        replies = await redis.batch([command("GET", f"key:{n}") for n in range(1_200)])
        assert replies == [b"\xff\x00%d" % n for n in range(1_200)]
        mixed = await redis.batch([command("GET", "nothing"), BOTH("k", 5), command("LPUSH", "number", 1)])
        assert mixed[:2] == [None, [b"k", b"5"]]
        assert isinstance(mixed[2], RedisReplyError)
        assert mixed[2].code == "WRONGTYPE"
        assert await redis.batch([]) == []


@pytest_twisted.ensureDeferred
async def test_scripts_that_the_server_forgot_are_sent_in_full(settings: Redis, server: RedisServer) -> None:
    forgotten = Script(f"return {{KEYS[1], ARGV[1]}} -- {id(settings)}")
    async with Client(settings) as redis:
        assert await redis.batch([forgotten("a", 1), forgotten("b", 2)]) == [[b"a", b"1"], [b"b", b"2"]]


@pytest_twisted.ensureDeferred
async def test_messages_reach_subscribers(settings: Redis) -> None:
    async with Client(settings) as redis, Client(settings) as other:
        received: list[bytes] = []
        gaps: list[int] = []
        end = redis.subscribe("news", received.append, lambda: gaps.append(1))
        await until(lambda: gaps, "subscribed")
        await other.execute("PUBLISH", "news", b"\x00one")
        await other.execute("PUBLISH", "other", b"two")
        await until(lambda: received, "received")
        end()
        assert received == [b"\x00one"]


@pytest_twisted.ensureDeferred
async def test_a_stopped_client_fails_everything_at_once(settings: Redis) -> None:
    async with Client(settings) as redis:
        await redis.execute("GET", "x")
        waiting = [redis.execute("GET", "x") for _ in range(3)]
        await redis.stop()
        for waiter in waiting:
            with pytest.raises(RedisStoppedError):
                await waiter
        with pytest.raises(RedisStoppedError):
            await redis.execute("GET", "x")
        redis.start()
        assert await redis.execute("PING", "x") == b"x"


async def fails(settings: Redis) -> RedisError:
    """The error of a command, which must come within its deadline, and be the one that readiness shows."""
    async with Client(settings) as redis:
        begun = reactor.seconds()
        with pytest.raises(RedisError) as caught:
            await redis.execute("GET", "x")
        assert reactor.seconds() - begun < settings.done_within + 1.5
        assert not redis.ready
        assert redis.error is not None
        return caught.value


@pytest_twisted.ensureDeferred
async def test_each_misconfiguration_has_one_clear_error(
    server: RedisServer, watched: Watched, clustered: Clustered
) -> None:
    nobody = f"127.0.0.1:{free_ports(1)[0]}"
    quick: dict[str, Any] = {"pool_timeout": 0.6}
    node, guard = clustered.masters[0].addr, watched.sentinels[0].addr
    replica = next(one for one in watched.servers if one is not watched.master())
    cases: list[tuple[Redis, type[RedisError], str]] = [
        (standalone(nobody, **quick), RedisUnreachableError, f"redis {nobody} cannot be reached (connection refused)"),
        (
            standalone("/nowhere/redis.sock", **quick),
            RedisUnreachableError,
            "redis /nowhere/redis.sock cannot be reached",
        ),
        (
            standalone(node, **quick),
            RedisModeError,
            f"redis {node} is a node of a Redis Cluster: set redis.mode to cluster",
        ),
        (standalone(guard, **quick), RedisModeError, f"redis {guard} is a sentinel: set redis.mode to sentinel"),
        (
            standalone(replica.addr, **quick),
            RedisReplicaError,
            f"redis {replica.addr} is a replica of {watched.master().addr}: give the address of the master",
        ),
        (sentinel((nobody,), **quick), RedisUnreachableError, f"redis {nobody} cannot be reached"),
        (sentinel((server.addr,), **quick), RedisModeError, f"redis {server.addr} is not a sentinel"),
        (
            sentinel(watched.addrs, "other", **quick),
            RedisMasterUnknownError,
            "the sentinels know no master named 'other': correct redis.sentinel.master_name",
        ),
        (cluster(nobody, **quick), RedisUnreachableError, f"redis {nobody} cannot be reached"),
        (
            cluster(server.addr, **quick),
            RedisModeError,
            f"redis {server.addr} is a single server, not a node of a Redis Cluster: set redis.mode to standalone",
        ),
        (cluster(guard, **quick), RedisModeError, f"redis {guard} is a sentinel, not a node"),
    ]
    for settings, kind, text in cases:
        error = await fails(settings)
        assert isinstance(error, kind), error
        assert str(error).startswith(text)


@pytest_twisted.ensureDeferred
async def test_a_wrong_password_is_said_and_a_corrected_one_heals() -> None:
    server = RedisServer(*free_ports(1), "--requirepass", "right").start()
    try:
        for password, answer in (("", "a password is required"), ("wrong", "WRONGPASS")):
            error = await fails(standalone(server.addr, password=password, pool_timeout=0.5))
            assert isinstance(error, RedisLoginError)
            wanted = f"refused the login ({answer}): correct redis.username and redis.password"
            assert str(error) == f"redis {server.addr} {wanted}"
            assert "wrong" not in str(error)
        async with Client(standalone(server.addr, password="new", pool_timeout=8)) as redis:
            early = redis.execute("GET", "x")
            await until(lambda: redis.error is not None, "refused")
            server.cli("-a", "right", "CONFIG", "SET", "requirepass", "new")
            assert await early is None
            assert redis.ready
        server.cli("-a", "new", "ACL", "SETUSER", "frontlas", "on", ">secret", "~*", "&*", "+@all")
        async with Client(standalone(server.addr, username="frontlas", password="secret", clientname="me")) as redis:
            assert await redis.execute("ACL", "WHOAMI") == b"frontlas"
            assert await redis.execute("CLIENT", "GETNAME") == b"me"
    finally:
        server.close()


@pytest_twisted.ensureDeferred
async def test_sentinels_have_a_login_of_their_own() -> None:
    made = Watched(replicas=0, sentinels=1).start()
    try:
        made.sentinels[0].cli("ACL", "SETUSER", "default", "resetpass", ">guard")
        made.servers[0].cli("CONFIG", "SET", "requirepass", "data")
        error = await fails(sentinel(made.addrs, password="data", pool_timeout=0.5))
        assert isinstance(error, RedisLoginError)
        assert str(error).endswith("correct redis.sentinel.username and redis.sentinel.password")
        both = Redis(
            mode="sentinel",
            password="data",
            sentinel=Sentinel(addrs=made.addrs, master_name=Watched.NAME, password="guard", db=3),
        )
        async with Client(both) as redis:
            assert await redis.execute("SET", "x", 1) == "OK"
        assert made.servers[0].cli("-a", "data", "-n", 3, "GET", "x") == "1"
    finally:
        made.close()


@pytest_twisted.ensureDeferred
async def test_a_password_that_nobody_asks_for_is_accepted(server: RedisServer) -> None:
    async with Client(standalone(server.addr, password="any")) as redis:
        assert await redis.execute("GET", "nothing") is None


@pytest_twisted.ensureDeferred
async def test_waiting_commands_are_bounded_and_trouble_is_logged_once(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("frontier_tx.redis.client.MAX_WAITING", 3)
    lines: list[str] = []

    def observe(event: Any) -> None:
        if str(event.get("log_namespace", "")).startswith("frontier_tx.redis"):
            lines.append(event["log_level"].name)

    globalLogPublisher.addObserver(observe)
    try:
        nobody = f"127.0.0.1:{free_ports(1)[0]}"
        async with Client(standalone(nobody, pool_timeout=2)) as redis:
            waiting = [redis.execute("GET", "x") for _ in range(4)]
            with pytest.raises(RedisBusyError, match=f"^3 commands already wait for redis {nobody}"):
                await waiting.pop()
            for waiter in waiting:
                with pytest.raises(RedisUnreachableError):
                    await waiter
            assert redis.metrics()["redis_waiting"] == 0
    finally:
        globalLogPublisher.removeObserver(observe)
    assert lines == ["error"]


@pytest_twisted.ensureDeferred
async def test_a_frozen_server_costs_one_timeout_and_heals() -> None:
    server = RedisServer(*free_ports(1)).start()
    try:
        async with Client(standalone(server.addr, read_timeout=0.4, pool_timeout=0.8, dial_timeout=0.5)) as redis:
            await redis.execute("SET", "x", 1)
            server.freeze()
            begun = reactor.seconds()
            replies = await redis.batch([command("GET", "x")] * 5)
            assert 0.3 < reactor.seconds() - begun < 2
            assert all(isinstance(reply, RedisTimeoutError) for reply in replies), replies
            assert str(replies[0]) == f"redis {server.addr} did not answer within 0.4 s: i/o timeout" or "0.5" in str(
                replies[0]
            )
            assert not redis.ready
            server.thaw()
            await until(lambda: redis.ready, "healed")
            assert await redis.execute("GET", "x") == b"1"
    finally:
        server.close()


@pytest_twisted.ensureDeferred
async def test_a_restarted_server_is_noticed_and_commands_wait_for_it() -> None:
    server = RedisServer(*free_ports(1)).start()
    try:
        async with Client(standalone(server.addr)) as redis:
            disturbed: list[int] = []
            states: list[bool] = []
            redis.watch(states.append, lambda: disturbed.append(1))
            await redis.execute("SET", "x", 1)
            server.kill()
            await until(lambda: not redis.ready, "lost")
            waiting = redis.execute("GET", "x")
            server.start()
            assert await waiting is None
            assert disturbed
            assert states == [True, False, True]
    finally:
        server.close()


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """Key and certificate of a server, its own authority."""
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    make = (
        f"openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -keyout {key} -out {cert}"
    )
    subprocess.run(
        [*make.split(), "-subj", "/CN=redis", "-addext", "subjectAltName=DNS:redis.example,IP:127.0.0.1"],
        check=True,
        capture_output=True,
    )
    return key, cert


def test_files_are_found_from_where_the_program_started(
    pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    key, cert = pair
    monkeypatch.setattr("frontier_tx.runtime.tls._STARTED_IN", tmp_path)
    monkeypatch.chdir("/")
    assert client_context(
        TLS(enable=True, ca_certs=(cert.name,), certs=(CertKey(cert=cert.name, key=key.name),)),
        "redis.tls",
        "redis.example",
    )


@pytest_twisted.ensureDeferred
async def test_tls_verified_by_an_authority_of_ones_own(pair: tuple[Path, Path]) -> None:
    key, cert = pair
    files = ("--tls-cert-file", str(cert), "--tls-key-file", str(key), "--tls-ca-cert-file", str(cert))
    server = RedisServer(*free_ports(1), tls=(*files, "--tls-auth-clients", "optional")).start()
    try:
        for tls in (
            TLS(enable=True, ca_certs=(str(cert),)),
            TLS(enable=True, ca_certs=(str(cert),), server_name="redis.example"),
            TLS(enable=True, insecure_skip_verify=True),
            TLS(
                enable=True,
                ca_certs=(str(cert),),
                certs=(CertKey(cert=str(cert), key=str(key)),),
            ),
        ):
            async with Client(standalone(server.addr, tls=tls)) as redis:
                assert await redis.execute("SET", "x", b"y" * 40_000) == "OK"
                assert await redis.execute("GET", "x") == b"y" * 40_000
        error = await fails(standalone(server.addr, tls=TLS(enable=True), pool_timeout=0.6))
        assert "certificate verify failed" in str(error)
        error = await fails(
            standalone(server.addr, tls=TLS(enable=True, ca_certs=(str(cert.parent / "no.pem"),)), pool_timeout=0.6)
        )
        assert "no.pem: No such file or directory" in str(error)
    finally:
        server.close()


@pytest_twisted.ensureDeferred
async def test_a_slot_on_its_way_is_followed_by_ask_and_then_by_moved() -> None:
    made = Clustered(spare=1).start()
    try:
        settings = cluster(made.masters[0].addr)
        key, new = "{tag}:old", "{tag}:new"
        source = made.masters[slot_of(key) * 3 // 16384]
        [target] = made.spare
        async with Client(settings, BOTH) as redis:
            await redis.execute("SET", key, 1)
            target.cli("CLUSTER", "SETSLOT", slot_of(key), "IMPORTING", source.cli("CLUSTER", "MYID"))
            source.cli("CLUSTER", "SETSLOT", slot_of(key), "MIGRATING", target.cli("CLUSTER", "MYID"))
            requests = [command("GET", key), command("SET", new, 2), command("GET", new), BOTH(new, 3)]
            assert await redis.batch(requests) == [b"1", "OK", b"2", [new.encode(), b"3"]]
            before = redis.metrics()["redis_redirects_total"]
            assert before >= 3
            assert source.cli("GET", key) == "1"
            made.move_slot(slot_of(key), source, target)
            assert await redis.batch([command("GET", key), command("GET", new)]) == [b"1", b"2"]
            await until(lambda: len(redis.masters) == 4 and redis.ready, "the new master is known")
            before = redis.metrics()["redis_redirects_total"]
            assert await redis.execute("GET", key) == b"1"
            assert redis.metrics()["redis_redirects_total"] == before
    finally:
        made.close()


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("turns", [1, 2, 3, 5])
async def test_a_client_that_is_stopped_while_it_reads_the_slot_map_opens_nothing(
    clustered: Clustered, turns: int
) -> None:
    before = {each for each in reactor.getReaders() if isinstance(each, TCPClient)}
    async with Client(cluster(*clustered.addrs)) as redis:
        await until(lambda: redis.ready, "ready")
        redis.unusable(redis.links()[0], "for a test")
        while redis._reading is None:
            await sleep(0)
        for _ in range(turns):
            await sleep(0)
    await sleep(0.3)
    assert redis.links() == []
    assert {each for each in reactor.getReaders() if isinstance(each, TCPClient)} <= before


def test_slots_and_addresses() -> None:
    assert slot_of("123456789") == 12739
    assert slot_of("{user1000}.following") == slot_of(b"{user1000}.followers") == slot_of("user1000")
    assert slot_of("foo{}{bar}") == slot_of(b"foo{}{bar}") != slot_of("bar")
    assert [str(Address.parse(text)) for text in ("h:1", "[::1]:2", "h", "/a/b", ":3", "::1")] == [
        "h:1",
        "[::1]:2",
        "h:6379",
        "/a/b",
        "localhost:3",
        "[::1]:6379",
    ]
    for text in ("h:x", "h:70000", "h:0"):
        with pytest.raises(ValueError, match="is not an address"):
            Address.parse(text)


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        (Redis(mode="cluster"), "redis.cluster.addrs is empty"),
        (Redis(mode="sentinel", sentinel=Sentinel(addrs=("h:1",))), "redis.sentinel.master_name is empty"),
    ],
)
def test_settings_that_cannot_work(settings: Redis, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        make_redis(reactor, settings)
