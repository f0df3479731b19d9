"""What docs/queues.md shows, run as it stands, on other ports; and its tables hold what there is."""

from __future__ import annotations

import json
import re
from dataclasses import fields
from pathlib import Path

import pytest
import yaml
from twisted.internet.task import Clock

from frontier_tx.config.queues import MQM
from frontier_tx.queues.forwarder import Forwarder
from frontier_tx.queues.metrics import QueueCollector
from frontier_tx.queues.routes import Queues
from frontier_tx.queues.spool import Spool
from tests.launch.test_examples import finish, start
from tests.launch.test_twistd import ROOT, Running, environment, run
from tests.queues.brokers import NatsServer, RabbitMQ
from tests.queues.test_forwarder import Fake
from tests.queues.test_spool import Hand
from tests.redis.servers import RedisServer, free_ports

pytestmark = pytest.mark.timeout(120)

PAGE = (ROOT / "docs" / "queues.md").read_text()
#: The blocks of the page by the word in their first line.
CONFIGURATIONS = {
    text.split("\n", 1)[0].removeprefix("# "): text for text in re.findall(r"```yaml\n(.*?)```", PAGE, re.S)
}
PROGRAMS = {text.split("\n", 1)[0].removeprefix("# "): text for text in re.findall(r"```python\n(.*?)```", PAGE, re.S)}


REFUSED = """async def refused(edge):
    try:
        await edge.publish("readings", b"x" * 1001)
    except Exception as error:
        print(error)


"""


class Site:
    """A gateway of one of the page's configurations, with the ports of this run."""

    def __init__(self, folder: Path, name: str, ports: dict[str, int]) -> None:
        self.folder = folder
        self.edges, services, health = free_ports(3)
        self.ports = {**ports, "30012": self.edges}
        (folder / "frontier.yaml").write_text(
            self.here(CONFIGURATIONS[name]).replace(
                "edgebound: {", f"edgebound: {{listen: {{addr: '127.0.0.1:{self.edges}'}}, "
            )
            + f"servicebound: {{listen: {{addr: '127.0.0.1:{services}'}}}}\n"
            + f"observability: {{addr: '127.0.0.1:{health}'}}\n"
        )
        self.gateway = Running(folder, "frontier", "-c", "frontier.yaml")
        self.gateway.wait_for("edgebound listens on")

    def here(self, text: str) -> str:
        for usual, port in self.ports.items():
            text = re.sub(rf"\b{usual}\b", str(port), text)
        return text

    def program(self, name: str) -> list[str]:
        return finish(start(self.folder, self.here(PROGRAMS[name]), name))


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_every_configuration_passes_the_check(name: str, tmp_path: Path) -> None:
    (tmp_path / "f.yaml").write_text(CONFIGURATIONS[name].replace("/var/lib/frontier", str(tmp_path)))
    (tmp_path / "journal.py").write_text(PROGRAMS["journal.py"])
    done = run(tmp_path, "frontier", "--check", "-c", "f.yaml", PYTHONPATH=f"{ROOT}:{tmp_path}")
    assert (done.returncode, done.stderr) == (0, "")
    given = yaml.safe_load(CONFIGURATIONS[name])["mqm"]
    assert set(given) <= set(yaml.safe_load(done.stdout)["mqm"])


def test_redis(tmp_path: Path) -> None:
    server = RedisServer(free_ports(1)[0]).start()
    try:
        site = Site(tmp_path, "redis", {"6379": server.port})
        assert site.program("publish.py") == ["the broker has it"]
        (command,) = re.findall(r"^redis-cli (XREAD .*)$", PAGE, re.M)
        shown = server.cli(*command.split()).splitlines()
        assert shown[0] == "readings" and shown[shown.index("value") + 1] == "21.5"
        assert "edge-id" in shown and "time" in shown
    finally:
        server.close()


def test_nats(tmp_path: Path) -> None:
    server = NatsServer()
    server.start()
    try:
        site = Site(tmp_path, "nats", {"4222": server.port})
        assert site.program("publish.py") == ["the broker has it"]
        (line,) = site.program("nats_consumer.py")
        assert re.fullmatch(r"b'21\.5' \d+", line)
    finally:
        server.kill()


def test_rabbitmq(tmp_path: Path) -> None:
    broker = RabbitMQ()
    broker.start()
    try:
        site = Site(tmp_path, "amqp", {"5672": broker.port})
        assert site.program("publish.py") == ["the broker has it"]
        (line,) = site.program("amqp_consumer.py")
        assert re.fullmatch(r"b'21\.5' \d+", line)
    finally:
        broker.kill()


def test_a_queue_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "journal.py").write_text(PROGRAMS["journal.py"])
    monkeypatch.setattr(
        "tests.launch.test_twistd.environment", lambda **more: environment(PYTHONPATH=f"{ROOT}:{tmp_path}", **more)
    )
    site = Site(tmp_path, "own", {})
    assert site.program("publish.py") == ["the broker has it"]
    larger = (
        PROGRAMS["publish.py"].replace('b"21.5"', 'b"x" * 1001').replace("await edge.publish", "await refused(edge)")
    )
    larger = larger.replace('refused(edge)("readings", b"x" * 1001)', "refused(edge)")
    larger = larger.replace("async def main", REFUSED + "async def main")
    assert finish(start(tmp_path, site.here(larger), "larger.py"))[0] == "queue journal: more than 1000 bytes"
    (line,) = (tmp_path / "journal.jsonl").read_text().splitlines()
    assert json.loads(line)["body"] == b"21.5".hex()


def test_all_metrics_are_in_the_table(tmp_path: Path) -> None:
    forwarder = Forwarder("redis", [], Fake(), Clock())
    Spool(forwarder, tmp_path / "x", 1, Clock(), Hand())
    shown = PAGE[PAGE.index("## Metrics") :]
    for family in QueueCollector(Queues([forwarder])).collect():
        stem = family.name.rpartition("_")[2] if "spool" in family.name else family.name
        assert stem in shown, family.name


def test_every_queue_is_in_the_table_of_acknowledgements() -> None:
    table = PAGE[PAGE.index("## What an acknowledgement means") : PAGE.index("## Five minutes")].lower()
    names = {field.name for field in fields(MQM)} & {"kafka", "amqp", "nats", "nsq", "redis"}
    assert len(names) == 5 and all(f"| {name} |" in table for name in names)
