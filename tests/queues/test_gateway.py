"""Real gateway processes with edges: their messages reach real brokers, and outlive what happens to either."""

from __future__ import annotations

import asyncio
import contextlib
import re
import sqlite3
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from frontier_tx.aio import Edge
from frontier_tx.errors import FrontierError
from tests.launch.test_twistd import Running, configured, run
from tests.queues.brokers import NatsConsumer, NatsServer, RabbitConsumer, RabbitMQ
from tests.queues.test_redis import Raw
from tests.queues.world import BODIES, numbered
from tests.redis.servers import RedisServer, free_ports, wait_until

pytestmark = pytest.mark.timeout(120)


class Gateway:
    """A process with ``mqm`` as given; its ports stay the same from start to start."""

    def __init__(self, folder: Path, **mqm: Any) -> None:
        self.folder, self.mqm = folder, mqm
        self.edge_port, self.health_port = free_ports(2)

    def start(self) -> None:
        path = configured(
            self.folder,
            edgebound={"listen": {"addr": f"127.0.0.1:{self.edge_port}"}},
            observability={"addr": f"127.0.0.1:{self.health_port}"},
            mqm=self.mqm,
        )
        self.running = Running(self.folder, "frontier", "-c", path)
        self.running.wait_for("edgebound listens on")

    def page(self, name: str) -> str:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.health_port}/{name}", timeout=5) as page:
                return str(page.read().decode())
        except urllib.error.HTTPError as error:
            return error.read().decode()

    def metric(self, name: str) -> float:
        found = re.search(rf"^{re.escape(name)} (\S+)$", self.page("metrics"), re.M)
        assert found, name
        return float(found[1])

    @asynccontextmanager
    async def edge(self) -> AsyncIterator[Edge]:
        async with Edge("127.0.0.1", self.edge_port, meta=b"e") as edge:
            yield edge

    def kill(self) -> None:
        """kill -9."""
        self.running.process.kill()
        self.running.process.wait()


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    made = RedisServer(free_ports(1)[0], "--appendonly", "yes", "--appendfsync", "always").start()
    yield made
    made.close()


@pytest.fixture
def nats() -> Iterator[NatsServer]:
    made = NatsServer()
    made.start()
    yield made
    made.kill()


@pytest.fixture
def rabbit() -> Iterator[RabbitMQ]:
    made = RabbitMQ()
    made.start()
    yield made
    made.kill()


def stream(server: RedisServer, **more: Any) -> dict[str, Any]:
    section = {"enable": True, "addrs": [server.addr], "stream": {"enable": True}, "producer": {"channels": ["t"]}}
    return {"redis": section, **more}


def values_of(server: RedisServer) -> list[bytes]:
    raw = Raw(server)
    values = [fields[1] for _, fields in raw.ask("XRANGE", "t", "-", "+")]
    raw.close()
    return values


async def publish(edge: Edge, *values: bytes) -> list[bytes]:
    """Publish them together; return those that were acknowledged."""
    outcomes = await asyncio.gather(*(edge.publish("t", value) for value in values), return_exceptions=True)
    for outcome in outcomes:
        assert outcome is None or isinstance(outcome, FrontierError), outcome
    return [value for value, outcome in zip(values, outcomes, strict=True) if outcome is None]


@pytest.mark.asyncio
async def test_to_redis(tmp_path: Path, redis: RedisServer) -> None:
    gateway = Gateway(tmp_path, **stream(redis))
    gateway.start()
    async with gateway.edge() as edge:
        assert await publish(edge, *BODIES) == BODIES
    assert values_of(redis) == BODIES
    assert gateway.page("readyz") == "ready"
    assert gateway.metric('frontier_queue_confirmed_total{queue="redis"}') == len(BODIES)
    redis.kill()
    wait_until(lambda: "queue redis" in gateway.page("readyz"), "the broker that is away is named")
    assert gateway.page("readyz").startswith("ready; queue redis: ")
    gateway.running.stop()


@pytest.mark.asyncio
async def test_to_nats(tmp_path: Path, nats: NatsServer) -> None:
    consumer = NatsConsumer(nats.port, "t")
    section = {"enable": True, "addrs": [nats.addr], "producer": {"subjects": ["t"]}}
    gateway = Gateway(tmp_path, nats=section, unready=True)
    gateway.start()
    async with gateway.edge() as edge:
        assert await publish(edge, *BODIES) == BODIES
    assert [consumer.take().value for _ in BODIES] == BODIES
    consumer.close()
    nats.kill()
    wait_until(lambda: gateway.page("readyz").startswith("not ready: queue nats: "), "it is unready, as configured")
    gateway.running.stop()


@pytest.mark.asyncio
async def test_to_rabbitmq(tmp_path: Path, rabbit: RabbitMQ) -> None:
    section = {
        "enable": True,
        "addrs": [f"guest:guest@{rabbit.addr}"],
        "queues": [{"name": "t", "durable": True}],
        "producer": {"routing_keys": ["t"], "delivery_mode": 2},
    }
    gateway = Gateway(tmp_path, amqp=section)
    gateway.start()
    async with gateway.edge() as edge:
        assert await publish(edge, *BODIES) == BODIES
        edge_id = edge.edge_id
    consumer = RabbitConsumer(rabbit)
    taken = consumer.take("t", len(BODIES))
    consumer.close()
    assert [body for _, _, body in taken] == BODIES
    assert taken[0][1].headers["frontier-edge-id"] == str(edge_id)
    gateway.running.stop()


@pytest.mark.asyncio
async def test_the_spool_survives_kills_of_the_gateway_and_of_the_broker(tmp_path: Path, redis: RedisServer) -> None:
    spool = {"enable": True, "path": "spool"}
    gateway = Gateway(tmp_path, **stream(redis, spool=spool))
    gateway.start()
    gateway.running.wait_for("connected to")
    acknowledged: list[bytes] = []
    async with gateway.edge() as edge:
        acknowledged += await publish(edge, *numbered(200))
        redis.kill()
        acknowledged += await publish(edge, *numbered(1000, 200))
    assert acknowledged == numbered(1200)
    assert gateway.metric('frontier_queue_spool_messages{queue="redis"}') == 1000
    assert "1000 messages" in gateway.page("readyz")

    # Killed in the middle of a burst: what was acknowledged is there.
    async with gateway.edge() as edge:
        publishing = asyncio.ensure_future(publish(edge, *numbered(4000, 1200)))
        await asyncio.to_thread(
            wait_until, lambda: gateway.metric('frontier_queue_spool_taken_total{queue="redis"}') > 1500, "a part"
        )
        gateway.kill()
        acknowledged += await publishing
    assert len(acknowledged) > 1200
    gateway.start()
    gateway.running.wait_for("its spool")
    redis.start()
    async with gateway.edge() as edge:
        acknowledged += await publish(edge, *numbered(100, 10_000))
        await asyncio.to_thread(
            wait_until, lambda: gateway.metric('frontier_queue_spool_messages{queue="redis"}') == 0, "drained", 30
        )
        acknowledged += await publish(edge, b"99999999")
    values = list(dict.fromkeys(values_of(redis)))
    assert values == sorted(values), "in order"
    assert set(acknowledged) <= set(values), "nothing acknowledged is missing"
    gateway.running.stop()
    database = sqlite3.connect(tmp_path / "spool" / "redis.sqlite")
    assert database.execute("SELECT count(*) FROM messages").fetchone() == (0,)
    database.close()
    assert (tmp_path / "spool").stat().st_mode & 0o77 == 0


MISTAKES = {
    "mqm.spool.path: missing; needed while mqm.spool.enable is true": "{spool: {enable: true}}",
    "mqm.spool.path: f.yaml/x: ": "{spool: {enable: true, path: f.yaml/x}}",
    "mqm.nsq.producer.topics: 'a b' cannot be a topic of this queue: 1 to 64 of": (
        "{nsq: {enable: true, addrs: ['h:1'], producer: {topics: [a b]}}}"
    ),
    "mqm.nats.producer.subjects: 'a.*' cannot be a topic": (
        "{nats: {enable: true, addrs: [h], producer: {subjects: [a.*]}}}"
    ),
    "mqm.amqp.producer.routing_keys: 'kkkk": (
        "{amqp: {enable: true, addrs: [h], producer: {routing_keys: [" + "k" * 256 + "]}}}"
    ),
    "mqm.kafka.producer.topics: 'a/b' cannot be": (
        "{kafka: {enable: true, addrs: ['h:9092'], producer: {topics: [a/b]}}}"
    ),
    "f.yaml:1: mqm.nsq.addrs: localhost is not allowed (the port": "{nsq: {enable: true, addrs: localhost}}",
    "f.yaml:1: mqm.redis.addrs: a list of 1 is not allowed ('x' is": "{redis: {enable: true, addrs: ['h:x']}}",
    "f.yaml:1: mqm.kafka.addrs: a list of 1 is not allowed (the host": "{kafka: {enable: true, addrs: [':9092']}}",
    "f.yaml:1: mqm.amqp.addrs: a secret value is not allowed (": "{amqp: {enable: true, addrs: 'u:p@h:port'}}",
    "f.yaml:1: mqm.nats.addrs: a secret value is not allowed (a scheme": "{nats: {enable: true, addrs: 'http://h:1'}}",
    "mqm.own[0].class: 'nowhere.Class': ": "{own: [{name: x, class: nowhere.Class, topics: [a]}]}",
    "mqm.own[0].class: 'json.Nothing': ": "{own: [{name: x, class: json.Nothing, topics: [a]}]}",
    "mqm.own[0].class: 'json.JSONDecoder' is no IBroker": "{own: [{name: x, class: json.JSONDecoder, topics: [a]}]}",
    "mqm.own[1].name: 'x': expected a name that no other queue has": (
        "{own: [{name: x, class: a.B}, {name: x, class: a.B}]}"
    ),
    "mqm.nats.credentials: no.creds: ": (
        "{nats: {enable: true, addrs: [h], credentials: no.creds, producer: {subjects: [a]}}}"
    ),
    **{
        f"mqm.{name}.tls.ca_certs": (
            f"{{{name}: {{enable: true, addrs: ['h:1'], tls: {{enable: true, ca_certs: [no.pem]}}}}}}"
        )
        for name in ("kafka", "amqp", "nats", "nsq", "redis")
    },
}


@pytest.mark.parametrize("said", MISTAKES)
def test_a_mistake_is_one_line_before_anything_is_open(said: str, tmp_path: Path) -> None:
    (tmp_path / "f.yaml").write_text(f"mqm: {MISTAKES[said]}\n")
    done = run(tmp_path, "frontier", "--check", "-c", "f.yaml")
    lines = [line for line in done.stderr.splitlines() if "lists no topic" not in line]
    assert (done.returncode, done.stdout) == (1, ""), done.stderr
    assert len(lines) == 1 and said in lines[0], done.stderr
    assert sorted(each.name for each in tmp_path.iterdir()) == ["f.yaml"], "a check makes nothing"


@pytest.mark.parametrize(("name", "module"), [("kafka", "aiokafka"), ("amqp", "pika"), ("nats", "nats")])
def test_a_library_that_is_missing_is_named_with_what_to_install(name: str, module: str, tmp_path: Path) -> None:
    (tmp_path / "f.yaml").write_text(f"mqm: {{{name}: {{enable: true, addrs: ['h:1']}}}}\n")
    hiding = tmp_path / "sitecustomize.py"
    hiding.write_text(
        "import importlib.util as util\nfound = util.find_spec\n"
        f"util.find_spec = lambda name, *rest: None if name == {module!r} else found(name, *rest)\n"
    )
    path = f"{tmp_path}:{Path(__file__).parents[2]}"
    done = run(tmp_path, "frontier", "--check", "-c", "f.yaml", PYTHONPATH=path)
    assert done.returncode == 1
    assert f"the library {module} is not installed; pip install 'frontier-tx[{name}]'" in done.stderr


def test_a_version_of_a_library_that_was_not_tried_is_named(tmp_path: Path) -> None:
    (tmp_path / "f.yaml").write_text("mqm: {kafka: {enable: true, addrs: ['h:1'], producer: {topics: [t]}}}\n")
    (tmp_path / "sitecustomize.py").write_text(
        "import importlib.metadata as known\nfound = known.version\n"
        "known.version = lambda name: '0.99.1' if name == 'aiokafka' else found(name)\n"
    )
    path = f"{tmp_path}:{Path(__file__).parents[2]}"
    done = run(tmp_path, "frontier", "--check", "-c", "f.yaml", PYTHONPATH=path)
    assert done.returncode == 1
    assert "mqm.kafka.enable: aiokafka 0.99.1 is installed, and 0.14 is known to work" in done.stderr


def test_queues_that_can_be_used_pass_the_check(tmp_path: Path) -> None:
    (tmp_path / "f.yaml").write_text(
        "mqm: {spool: {enable: true, path: a/b}, kafka: {enable: true, addrs: 'h:1,i:2', producer: {topics: ['*']}},"
        " amqp: {enable: true, addrs: ['amqp://u:p%40@[::1]:5672'], producer: {routing_keys: a}},"
        " nats: {enable: true, addrs: ['nats://h', 'u:p@h:4222'], producer: {subjects: [a.b]}},"
        " nsq: {enable: true, addrs: ['h:4150'], producer: {topics: [a#ephemeral]}},"
        " redis: {enable: true, addrs: ['h:6379'], producer: {channels: ['a b']}},"
        " own: [{name: x, class: tests.queues.test_forwarder.Fake, topics: [a]}]}\n"
    )
    done = run(tmp_path, "frontier", "--check", "-c", "f.yaml")
    assert done.returncode == 0, done.stderr
    assert "p%40" not in done.stdout
    with contextlib.suppress(FileNotFoundError):
        (tmp_path / "a").rmdir()
        raise AssertionError("a check makes no folder")
