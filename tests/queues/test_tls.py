"""TLS towards real brokers: who they are is checked, nothing goes out in the clear, and each mistake is named."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from socket import create_server
from typing import Any

import pytest
import pytest_twisted

from frontier_tx.config.common import TLS, CertKey
from frontier_tx.config.queues import (
    AMQP,
    MQM,
    NSQ,
    AMQPProducer,
    AMQPQueue,
    Kafka,
    KafkaProducer,
    Nats,
    NatsProducer,
    NSQProducer,
    RedisQueue,
    RedisQueueProducer,
)
from frontier_tx.queues.forwarder import Forwarder
from tests.launch.certificates import Authority
from tests.queues.brokers import NatsServer, RabbitMQ
from tests.queues.world import way
from tests.redis.servers import RedisServer, free_ports

KINDS = ("redis", "nats", "amqp")


def section(kind: str, addr: str, **options: Any) -> MQM:
    """Topic ``t`` to a broker."""
    common = {"enable": True, "addrs": (addr,), **options}
    match kind:
        case "redis":
            return MQM(redis=RedisQueue(producer=RedisQueueProducer(channels=("t",)), **common))
        case "nats":
            return MQM(nats=Nats(producer=NatsProducer(subjects=("t",)), **common))
        case "kafka":
            return MQM(kafka=Kafka(producer=KafkaProducer(topics=("t",)), **common))
        case "nsq":
            return MQM(nsq=NSQ(producer=NSQProducer(topics=("t",)), **common))
    queues = (AMQPQueue(name="t"),)
    return MQM(amqp=AMQP(queues=queues, producer=AMQPProducer(routing_keys=("t",)), **common))


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    made = Authority(tmp_path_factory.mktemp("tls"))
    made.issue("broker", "broker.example")
    made.issue("gateway", "gateway.example")
    for path in made.folder.iterdir():
        path.chmod(0o644)
    return made


class Site:
    """A broker behind TLS that wants a certificate of its clients, and the same broker without TLS."""

    def __init__(self, kind: str, authority: Authority) -> None:
        ca, cert, key = authority.file, f"{authority.folder}/broker.pem", f"{authority.folder}/broker.key"
        if kind == "redis":
            port, other = free_ports(2)
            options = ("--tls-port", str(port), "--tls-cert-file", cert, "--tls-key-file", key)
            server = RedisServer(other, *options, "--tls-ca-cert-file", ca).start()
            self.secret, self.plain, self._stops = f"127.0.0.1:{port}", server.addr, [server.close]
        elif kind == "nats":
            secret = NatsServer("--tlsverify", "--tlscert", cert, "--tlskey", key, "--tlscacert", ca)
            secret.start()
            plain = NatsServer()
            plain.start()
            self.secret, self.plain, self._stops = secret.addr, plain.addr, [secret.kill, plain.kill]
        else:
            # The broker takes the first ones that are free.
            port = free_ports(5)[-1]
            broker = RabbitMQ(
                f"listeners.ssl.1 = 127.0.0.1:{port}", f"ssl_options.cacertfile = {ca}",
                f"ssl_options.certfile = {cert}", f"ssl_options.keyfile = {key}",
                "ssl_options.verify = verify_peer", "ssl_options.fail_if_no_peer_cert = true",
            )  # fmt: skip
            broker.start()
            self.secret, self.plain, self._stops = f"127.0.0.1:{port}", broker.addr, [broker.kill]

    def stop(self) -> None:
        for stop in self._stops:
            stop()


@pytest.fixture(scope="module", params=KINDS)
def site(request: pytest.FixtureRequest, authority: Authority) -> Iterator[tuple[str, Site]]:
    made = Site(request.param, authority)
    yield request.param, made
    made.stop()


def good(authority: Authority) -> TLS:
    own = CertKey(cert=f"{authority.folder}/gateway.pem", key=f"{authority.folder}/gateway.key")
    return TLS(enable=True, mtls=True, ca_certs=(authority.file,), certs=(own,), server_name="broker.example")


@pytest_twisted.ensureDeferred
async def test_both_ends_know_who_the_other_is(site: tuple[str, Site], authority: Authority) -> None:
    kind, broker = site
    for tls in (good(authority), replace(good(authority), ca_certs=(), insecure_skip_verify=True)):
        async with way(section(kind, broker.secret, tls=tls)) as queue:
            queue.publish("t", b"a", b"x" * 500_000)
            await queue.ended(2)
            assert queue.acknowledged == [b"a", b"x" * 500_000]


@pytest_twisted.ensureDeferred
async def test_mistakes_are_named_and_nothing_is_sent(
    site: tuple[str, Site], authority: Authority, tmp_path: Path
) -> None:
    kind, broker = site
    stranger = Authority(tmp_path, "other")
    right = good(authority)
    for addr, tls, words in (
        (broker.secret, replace(right, server_name=""), ("certificate", "127.0.0.1")),
        (broker.secret, replace(right, server_name="other.example"), ("certificate", "other.example")),
        (broker.secret, replace(right, ca_certs=(stranger.file,)), ("certificate verify failed",)),
        (broker.secret, TLS(), ("certificate" if kind == "nats" else "TLS",)),
        (broker.plain, right, ("TLS",)),
    ):
        async with way(section(kind, addr, tls=tls), connected=False) as queue:
            await queue.until(lambda queue=queue: queue.forwarder.trouble != "not connected yet")
            said = queue.forwarder.trouble
            assert all(word.lower() in said.lower() for word in words), (addr, tls, said)
            assert not queue.forwarder.connected
            assert " redis.tls" not in said and "(redis.tls" not in said, "a key that the file does not have"


@pytest.mark.parametrize("kind", ["redis", "nats", "amqp", "kafka", "nsq"])
@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", bytes(range(256)) * 8])
@pytest_twisted.ensureDeferred
async def test_something_else_that_listens_there_is_told_in_words(kind: str, answer: bytes) -> None:
    listener = create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            connection.sendall(answer)
            connection.shutdown(1)
            connection.settimeout(2)
            while connection.recv(4096):
                pass
            connection.close()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    async with way(section(kind, f"127.0.0.1:{listener.getsockname()[1]}"), connected=False) as queue:
        await queue.until(lambda: queue.forwarder.trouble != "not connected yet")
        said = queue.forwarder.trouble
        assert len(said.split()) >= 3 and "Error:" not in said.split("KafkaConnectionError:")[-1], said
    listener.close()


@pytest.mark.parametrize("kind", ["redis", "nats", "amqp", "kafka", "nsq"])
@pytest_twisted.ensureDeferred
async def test_one_that_takes_connections_and_says_nothing_is_given_up(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Forwarder, "attempt_seconds", 0.5)
    listener = create_server(("127.0.0.1", 0))
    async with way(section(kind, f"127.0.0.1:{listener.getsockname()[1]}"), connected=False) as queue:
        await queue.until(lambda: queue.forwarder.trouble == "no connection within 0.5 s")
    listener.close()
