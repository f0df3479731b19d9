"""Real brokers on free ports, each in a folder of its own, and consumers that share no code with the producers."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pika
import pytest
from confluent_kafka import Consumer, KafkaError, Producer
from confluent_kafka.admin import AdminClient, NewTopic

from tests.redis.servers import free_ports, need, wait_until


class Taken(NamedTuple):
    """What a consumer got."""

    topic: str
    value: bytes
    headers: dict[str, str]


class Broker:
    """A process that listens on a port; subclasses say how it is started."""

    def __init__(self, more_ports: int = 0) -> None:
        self.port, *self.ports = free_ports(1 + more_ports)
        self.addr = f"127.0.0.1:{self.port}"
        self.folder = Path(tempfile.mkdtemp(prefix="broker-test-"))
        self._process: subprocess.Popen[bytes] | None = None

    def command(self) -> Sequence[str]:
        raise NotImplementedError

    def environment(self) -> dict[str, str]:
        return dict(os.environ)

    def start(self) -> None:
        """Start, with what it kept on disk from the last time, and wait until it takes connections."""
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                self.command(), stdout=log, stderr=log, cwd=self.folder, env=self.environment(), start_new_session=True
            )
        wait_until(self.answers, f"{self.command()[0]} on {self.addr} answers", 60)

    def answers(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
            return True
        return False

    def kill(self) -> None:
        """kill -9."""
        if self._process is not None:
            # Some brokers are scripts with the real process below them.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def freeze(self, on: bool) -> None:
        """Let it stand still, or go on."""
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGSTOP if on else signal.SIGCONT)
        if on:
            # The signal takes a moment, in which an answer may still go out.
            threads = Path(f"/proc/{self._process.pid}/task")
            wait_until(
                lambda: all(
                    (each / "stat").read_text().rpartition(")")[2].split()[0] == "T" for each in threads.iterdir()
                ),
                "it stands still",
            )


class NatsServer(Broker):
    """nats-server, with JetStream on disk."""

    def __init__(self, *options: str) -> None:
        super().__init__()
        self.options = options

    def command(self) -> Sequence[str]:
        stored = str(self.folder / "jetstream")
        return [need("nats-server"), "-a", "127.0.0.1", "-p", str(self.port), "-js", "-sd", stored, *self.options]


class NatsConsumer:
    """A subscriber made of a socket: the protocol is lines of text and counted bytes."""

    def __init__(self, port: int, subject: str) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), 5)
        self._file = self._socket.makefile("rb")
        self._file.readline()
        options = {"verbose": False, "headers": True, "no_responders": True}
        self.say(f"CONNECT {json.dumps(options)}\r\nSUB {subject} 1\r\nPING\r\n")
        while self._file.readline().strip() != b"PONG":
            pass

    def say(self, text: str, body: bytes = b"") -> None:
        self._socket.sendall(text.encode() + body)

    def take(self, seconds: float = 10) -> Taken:
        """The next message."""
        self._socket.settimeout(seconds)
        while True:
            words = self._file.readline().split()
            if words[0] == b"PING":
                self.say("PONG\r\n")
            elif words[0] == b"MSG":
                body = self._file.read(int(words[-1]))
                self._file.readline()
                return Taken(words[1].decode(), body, {})
            elif words[0] == b"HMSG":
                head, total = int(words[-2]), int(words[-1])
                whole = self._file.read(total)
                self._file.readline()
                lines = whole[:head].decode().split("\r\n")[1:]
                headers = dict(line.split(": ", 1) if ": " in line else line.split(":", 1) for line in lines if line)
                return Taken(words[1].decode(), whole[head:], headers)

    def close(self) -> None:
        self._file.close()
        self._socket.close()


class RabbitMQ(Broker):
    """One node of RabbitMQ as a plain process, with an Erlang distribution on loopback ports of its own."""

    def __init__(self, *settings: str) -> None:
        super().__init__(more_ports=2)
        self._distribution, self._epmd = self.ports
        more = "".join(f"{setting}\n" for setting in settings)
        (self.folder / "rabbitmq.conf").write_text(
            f"listeners.tcp.1 = 127.0.0.1:{self.port}\nloopback_users = none\n"
            f"log.console = true\nlog.file = false\ndisk_free_limit.absolute = 1MB\n{more}"
        )
        (self.folder / "enabled_plugins").write_text("[].\n")
        self._names: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        # Erlang starts its name server by itself if there is none, as a daemon that would outlive the test.
        program = shutil.which("epmd") or str(next(iter(Path("/usr/lib/erlang").glob("erts-*/bin/epmd")), "epmd"))
        address = ["-address", "127.0.0.1", "-port", str(self._epmd)]
        self._names = subprocess.Popen([program, *address], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        super().start()

    def kill(self) -> None:
        super().kill()
        if self._names is not None:
            self._names.kill()
            self._names.wait()

    def command(self) -> Sequence[str]:
        return [str(self._program())]

    def _program(self) -> Path:
        # The command of the package wants to be root or its own user; the script behind it does not mind.
        found = sorted(Path("/usr/lib/rabbitmq").glob("lib/rabbitmq_server-*/sbin/rabbitmq-server"))
        return found[-1] if found else Path(need("rabbitmq-server"))

    def environment(self) -> dict[str, str]:
        folder = self.folder
        return {
            **os.environ,
            "HOME": str(folder),
            "RABBITMQ_NODENAME": f"test{self.port}@localhost",
            "RABBITMQ_BASE": str(folder),
            "RABBITMQ_MNESIA_BASE": str(folder / "mnesia"),
            "RABBITMQ_LOG_BASE": str(folder / "logs"),
            "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
            "RABBITMQ_CONF_ENV_FILE": str(folder / "none"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "enabled_plugins"),
            "RABBITMQ_PID_FILE": str(folder / "pid"),
            "RABBITMQ_DIST_PORT": str(self._distribution),
            "ERL_EPMD_PORT": str(self._epmd),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1} "
            # One core, and none of it spent on waiting.
            "+S 1:1 +sbwt none +sbwtdcpu none +sbwtdio none",
        }


class RabbitConsumer:
    """A consumer with pika's blocking adapter."""

    def __init__(self, broker: RabbitMQ) -> None:
        parameters = pika.ConnectionParameters("127.0.0.1", broker.port, heartbeat=0)
        self._connection = pika.BlockingConnection(parameters)
        self.channel = self._connection.channel()

    def take(self, queue: str, count: int, seconds: float = 20) -> list[Any]:
        """The next messages, each as (method, properties, body); fewer where no more come."""
        taken = []
        end = time.monotonic() + seconds
        while len(taken) < count and time.monotonic() < end:
            message = self.channel.basic_get(queue, auto_ack=True)
            if message[0] is None:
                self._connection.sleep(0.05)
            else:
                taken.append(message)
        return taken

    def close(self) -> None:
        self._connection.close()


KAFKA_VERSION = "3.9.1"
_KAFKA_PROJECT = f"""<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion><groupId>tests</groupId><artifactId>kafka</artifactId><version>1</version>
  <dependencies><dependency>
    <groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>{KAFKA_VERSION}</version>
  </dependency></dependencies>
</project>
"""


def kafka_jars() -> Path:
    """The folder of Kafka and what it needs, fetched from Maven Central once and kept for later runs."""
    need("java")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "frontier-tests"
    folder = cache / f"kafka-{KAFKA_VERSION}"
    if folder.is_dir():
        return folder
    maven = need("mvn")
    cache.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix="fetch-", dir=cache))
    (work / "pom.xml").write_text(_KAFKA_PROJECT)
    options = ["-q", "-B", "dependency:copy-dependencies", f"-DoutputDirectory={work}/jars"]
    fetched = subprocess.run([maven, *options], cwd=work, capture_output=True, text=True, timeout=300)
    if fetched.returncode:
        shutil.rmtree(work)
        reason = f"Kafka cannot be fetched from Maven Central: {fetched.stdout[-300:]}"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    # Another run of the tests may have done the same meanwhile.
    with contextlib.suppress(OSError):
        (work / "jars").rename(folder)
    shutil.rmtree(work)
    return folder


class KafkaBroker(Broker):
    """One node of Kafka, its own controller, without ZooKeeper.

    :param settings: lines of server.properties beside those that a node needs; `{folder}` and `{port}` are replaced.
    :param listener: protocol of the port, as Kafka names it.
    """

    def __init__(self, *settings: str, listener: str = "PLAINTEXT", heap: str = "256m") -> None:
        super().__init__(more_ports=1)
        self._heap = heap
        self.jars = kafka_jars()
        self._properties = self.folder / "server.properties"
        lines = [
            "process.roles=broker,controller",
            "node.id=1",
            f"controller.quorum.voters=1@127.0.0.1:{self.ports[0]}",
            f"listeners=CLIENTS://127.0.0.1:{self.port},CONTROLLER://127.0.0.1:{self.ports[0]}",
            f"advertised.listeners=CLIENTS://127.0.0.1:{self.port}",
            f"listener.security.protocol.map=CLIENTS:{listener},CONTROLLER:PLAINTEXT",
            "controller.listener.names=CONTROLLER",
            "inter.broker.listener.name=CLIENTS",
            f"log.dirs={self.folder}/data",
            "offsets.topic.replication.factor=1",
            "transaction.state.log.replication.factor=1",
            "transaction.state.log.min.isr=1",
            "offsets.topic.num.partitions=1",
            "group.initial.rebalance.delay.ms=0",
            "log.cleaner.enable=false",
            # After kill -9 a node is taken in again when its former life counts as over.
            "broker.session.timeout.ms=1000",
            "broker.heartbeat.interval.ms=200",
            "controller.quorum.election.timeout.ms=200",
            "controller.quorum.fetch.timeout.ms=500",
            *(each.format(folder=self.folder, port=self.port) for each in settings),
        ]
        self._properties.write_text("\n".join(lines) + "\n")
        self._formatted = False

    def command(self) -> Sequence[str]:
        return self._java("kafka.Kafka", str(self._properties))

    def _java(self, *arguments: str) -> list[str]:
        # The first tier of the compiler alone: a node lives for a few seconds only.
        quick = [f"-Xmx{self._heap}", "-Xshare:auto", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"]
        return [need("java"), *quick, "-cp", f"{self.jars}/*", *arguments]

    def start(self) -> None:
        if not self._formatted:
            made = "MkU3OEVBNTcwNTJENDM2Qk"
            options = ["format", "-t", made, "-c", str(self._properties)]
            subprocess.run(self._java("kafka.tools.StorageTool", *options), check=True, capture_output=True, timeout=60)
            self._formatted = True
        super().start()

    def make_topic(self, name: str, partitions: int = 1, **settings: str) -> None:
        """Make a topic; dots in names of settings are written as underscores."""
        config = {key.replace("_", "."): value for key, value in settings.items()}
        admin = AdminClient({"bootstrap.servers": self.addr})
        admin.create_topics([NewTopic(name, partitions, config=config)])[name].result(20)


class KafkaTaken(NamedTuple):
    """What a consumer of Kafka got."""

    key: bytes | None
    value: bytes
    headers: dict[str, str]
    partition: int
    #: Milliseconds.
    time: int


def kafka_take(broker: KafkaBroker, topic: str, seconds: float = 20, **options: str) -> list[KafkaTaken]:
    """All that a topic holds, read with librdkafka, which shares no code with the producer."""
    consumer = Consumer(
        {
            "bootstrap.servers": broker.addr,
            "group.id": "test",
            "auto.offset.reset": "earliest",
            "enable.partition.eof": True,
            "enable.auto.commit": False,
            **{key.replace("_", "."): value for key, value in options.items()},
        }
    )
    taken, ended = [], set()
    try:
        partitions = set(consumer.list_topics(topic, 20).topics[topic].partitions)
        consumer.subscribe([topic])
        end = time.monotonic() + seconds
        while ended != partitions:
            assert time.monotonic() < end, f"not all read within {seconds:g} s"
            message = consumer.poll(0.2)
            if message is None:
                continue
            error = message.error()
            if error is not None and error.code() == KafkaError._PARTITION_EOF:
                ended.add(message.partition())
            elif error is None:
                headers = {name: value.decode() for name, value in message.headers() or []}
                value = message.value() or b""
                taken.append(KafkaTaken(message.key(), value, headers, message.partition(), message.timestamp()[1]))
    finally:
        consumer.close()
    return taken


def kafka_give(broker: KafkaBroker, topic: str, messages: Sequence[tuple[bytes, bytes]]) -> None:
    """Publish keys and values with librdkafka, to the partitions that the Java client takes."""
    producer = Producer({"bootstrap.servers": broker.addr, "partitioner": "murmur2_random"})
    for key, value in messages:
        producer.produce(topic, value, key)
    assert not producer.flush(20)
