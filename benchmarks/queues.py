"""How many messages a second go through each kind of broker, and what that costs the gateway.

Each broker is started on a free port, then a gateway process that forwards the topic ``bench`` to it. Eight Go edges
keep 64 publishes under way, while a service calls another edge every 5 ms. Run it with ``python -m benchmarks.queues``;
it needs the test extra and Go.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from benchmarks.__main__ import RESULTS
from benchmarks.gateways import TEMPLATE, StartedGateway, Trouble, own_command, settle, stop_all
from benchmarks.load import Line, Load, Window, build
from tests.queues.brokers import Broker, KafkaBroker, NatsServer, RabbitConsumer, RabbitMQ
from tests.redis.servers import RedisServer, free_ports

CASE = "queue"


@dataclass(frozen=True)
class Kind:
    """A broker, and what ``mqm`` says of it."""

    name: str
    start: Callable[[], Any]
    #: Its address goes in for ``@``, twice: the Go gateway drops the last address of NATS.
    mqm: str
    #: Messages a second that this project promises; 0 where it promises none.
    target: int
    #: Whether the Go gateway has it.
    go: bool = True


def _started(broker: Broker) -> Broker:
    broker.start()
    return broker


def _rabbit() -> Broker:
    broker = RabbitMQ()
    broker.start()
    consumer = RabbitConsumer(broker)
    consumer.channel.queue_declare("bench", durable=True)
    consumer.close()
    return broker


def _kafka() -> Broker:
    broker = KafkaBroker(heap="512m")
    broker.start()
    broker.make_topic("bench", 4)
    return broker


KINDS = (
    Kind(
        "redis", lambda: RedisServer(free_ports(1)[0]).start(),
        "redis: {enable: true, addrs: ['@'], producer: {channels: [bench]}}", 10_000,
    ),
    Kind(
        "redis-stream", lambda: RedisServer(free_ports(1)[0]).start(),
        "redis: {enable: true, addrs: ['@'], stream: {enable: true}, producer: {channels: [bench]}}", 0, go=False,
    ),
    Kind(
        "nats", lambda: _started(NatsServer()),
        "nats: {enable: true, addrs: ['@', '@'], producer: {subjects: [bench]}}", 10_000,
    ),
    Kind(
        "jetstream", lambda: _started(NatsServer()),
        "nats: {enable: true, addrs: ['@', '@'], "
        "jetstream: {enable: true, name: BENCH, producer: {subjects: [bench]}}}", 0,
    ),
    Kind(
        "rabbitmq", _rabbit,
        "amqp: {enable: true, addrs: ['guest:guest@@'], producer: {routing_keys: [bench]}}", 5_000,
    ),
    Kind("kafka", _kafka, "kafka: {enable: true, addrs: ['@'], producer: {topics: [bench]}}", 5_000),
)  # fmt: skip


def measure(kind: Kind, commands: dict[str, str], load: Load, window: Window, folder: Path) -> list[Line]:
    """One broker with each gateway, one gateway after the other."""
    lines = []
    try:
        broker = kind.start()
    except pytest.skip.Exception as missing:
        return [{"case": CASE, "broker": kind.name, "gateway": "-", "errors": 1, "error": str(missing)}]
    try:
        for name, command in commands.items():
            if name != "ours" and not kind.go:
                continue
            mqm = kind.mqm.replace("guest@@", f"guest@{broker.addr}").replace("'@'", f"'{broker.addr}'")
            template = f"{TEMPLATE.read_text()}mqm:\n  {mqm}\n"
            gateway = StartedGateway(name, command, folder / kind.name / name, template)
            try:
                gateway.start()
                time.sleep(1)
                settle([gateway])
                line = load.run(gateway, CASE, window)
            finally:
                stop_all([gateway])
            lines.append({"broker": kind.name, "gateway": name, "target": kind.target, **line})
            print(row(lines[-1]), flush=True)
    finally:
        broker.kill()
        shutil.rmtree(getattr(broker, "folder", folder / "none"), ignore_errors=True)
    return lines


HEADER = (
    f"{'broker':<13}{'gateway':<8}{'messages/s':>11}{'p50 ms':>9}{'p99 ms':>9}"
    f"{'gateway us/message':>20}{'call p99 ms':>13}  target"
)


def row(line: Line) -> str:
    """One line of the table."""

    def figure(name: str, width: int) -> str:
        value = line.get(name)
        return f"{'-' if value is None else format(value, '.1f'):>{width}}"

    text = f"{line['broker']:<13}{line['gateway']:<8}{line.get('ops_per_s', 0):>11.0f}"
    text += figure("p50_ms", 9) + figure("p99_ms", 9) + figure("cpu_us_per_op", 20) + figure("call_p99_ms", 13)
    target = line.get("target", 0)
    if target and line["gateway"] == "ours":
        text += f"  {target}: {'met' if met(line) else 'NOT MET'}"
    if line.get("errors"):
        text += f"  {line['errors']} errors: {line.get('error', '')}"
    return text


def met(line: Line) -> bool:
    """Whether a line is as fast as promised: messages, p99 of publishes below 20 ms, of calls beside them below 100."""
    return (
        not line.get("errors")
        and line.get("ops_per_s", 0) >= line["target"]
        and line.get("p99_ms", 1e9) < 20
        and line.get("call_p99_ms", 1e9) < 100
    )


def main() -> int:
    """Measure, print and write results/queues.txt and .json; 1 where something failed, 2 where a target is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.queues", description=__doc__)
    parser.add_argument("--broker", default="", metavar="NAME[,NAME]", help=", ".join(kind.name for kind in KINDS))
    parser.add_argument("--command", metavar="CMD", help="the gateway to measure (default: this project's)")
    parser.add_argument("--against", metavar="CMD", help="another gateway, with the same brokers in the same run")
    parser.add_argument("--seconds", type=float, default=5, help="measured window (default 5)")
    parser.add_argument("--warmup", type=float, default=2, help="seconds of load before it (default 2)")
    parser.add_argument("--gwload", type=Path, metavar="PATH", help="a built load generator (default: built with Go)")
    parser.add_argument("--write", action="store_true", help="write results/queues.txt and results/queues.json")
    args = parser.parse_args()
    commands = {"ours": args.command or own_command()}
    if args.against:
        commands["other"] = args.against
    wanted = [kind for kind in KINDS if not args.broker or kind.name in args.broker.split(",")]
    folder = Path(tempfile.mkdtemp(prefix="benchmark-queues-"))
    lines: list[Line] = []
    busy = os.getloadavg()[0]
    try:
        load = Load(args.gwload or build(folder))
        print(HEADER)
        for kind in wanted:
            lines += measure(kind, commands, load, Window(args.seconds, args.warmup, 0), folder)
    except Trouble as trouble:
        print(trouble, file=sys.stderr)
        return 1
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if args.write:
        about = (
            f"{time.strftime('%Y-%m-%d %H:%M')}, {platform.machine()}, {os.cpu_count()} cores, Python "
            f"{platform.python_version()}; load of the machine before: {busy:.1f}\n"
        )
        (RESULTS / "queues.txt").write_text("\n".join([about, HEADER, *map(row, lines)]) + "\n")
        (RESULTS / "queues.json").write_text(json.dumps({"about": about.strip(), "lines": lines}, indent=1) + "\n")
    if any(line.get("errors") for line in lines):
        return 1
    return 0 if all(met(line) for line in lines if line.get("target") and line["gateway"] == "ours") else 2


if __name__ == "__main__":
    sys.exit(main())
