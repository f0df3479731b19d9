"""How many messages a second go through each kind of broker, and what that costs the gateway.

Each broker is started on a free port, then a gateway process that forwards the topic ``bench`` to it. Eight Go edges
first keep 64 publishes under way all the time, which shows the most messages a second; then they offer so many as are
promised, which shows how long one takes. A service calls another edge every 5 ms meanwhile. Run it with
``python -m benchmarks.queues``; it needs the test extra and Go.
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
from dataclasses import dataclass, replace
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
    #: Messages a second that are offered in the second part.
    rate: int
    #: Whether this project promises that they are taken.
    promised: bool = True
    #: Whether the Go gateway has it.
    go: bool = True


def _started(broker: Broker) -> Broker:
    broker.start()
    return broker


def _rabbit() -> Broker:
    broker = RabbitMQ()
    broker.start()
    consumer = RabbitConsumer(broker)
    # A queue that grows and is never read stops one core's RabbitMQ for 30 to 100 ms at a time, whoever publishes.
    consumer.channel.queue_declare("bench", durable=True, arguments={"x-max-length": 10_000})
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
        "redis: {enable: true, addrs: ['@'], stream: {enable: true}, producer: {channels: [bench]}}", 5_000,
        promised=False, go=False,
    ),
    Kind(
        "nats", lambda: _started(NatsServer()),
        "nats: {enable: true, addrs: ['@', '@'], producer: {subjects: [bench]}}", 10_000,
    ),
    Kind(
        "jetstream", lambda: _started(NatsServer()),
        "nats: {enable: true, addrs: ['@', '@'], "
        "jetstream: {enable: true, name: BENCH, producer: {subjects: [bench]}}}", 5_000, promised=False,
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
                most = load.run(gateway, CASE, window)
                settle([gateway])
                paced = load.run(gateway, CASE, replace(window, rate=kind.rate))
            finally:
                stop_all([gateway])
            about = {"broker": kind.name, "gateway": name, "rate": kind.rate, "promised": kind.promised}
            lines.append({**about, "most": most, "paced": paced})
            print(row(lines[-1]), flush=True)
    finally:
        broker.kill()
        shutil.rmtree(getattr(broker, "folder", folder / "none"), ignore_errors=True)
    return lines


HEADER = (
    f"{'':21}|{'as many as are taken':^50}|{'at a rate':^54}|\n"
    f"{'broker':<13}{'gateway':<8}|{'messages/s':>11}{'p50 ms':>8}{'p99 ms':>8}{'CPU us/msg':>11}{'call p99':>9}   |"
    f"{'offered':>8}{'taken/s':>9}{'p50 ms':>8}{'p99 ms':>8}{'CPU us/msg':>11}{'call p99':>9} |"
)


def row(line: Line) -> str:
    """One line of the table."""
    if "most" not in line:
        return f"{line['broker']:<21}| {line['error']}"

    def figures(part: Line) -> str:
        text = ""
        for name, width in (("p50_ms", 8), ("p99_ms", 8), ("cpu_us_per_op", 11), ("call_p99_ms", 9)):
            value = part.get(name)
            text += f"{'-' if value is None else format(value, '.1f'):>{width}}"
        return text

    most, paced = line["most"], line["paced"]
    text = f"{line['broker']:<13}{line['gateway']:<8}|{most.get('ops_per_s', 0):>11.0f}{figures(most)}   |"
    text += f"{line['rate']:>8}{paced.get('ops_per_s', 0):>9.0f}{figures(paced)} |"
    if line["promised"] and line["gateway"] == "ours":
        text += " met" if met(line) else " NOT MET"
    for part in (most, paced):
        if part.get("errors"):
            text += f" {part['errors']} errors: {part.get('error', '')}"
    return text


def met(line: Line) -> bool:
    """Whether what is promised is kept: the rate, p99 of publishes below 20 ms, of calls beside them below 100 ms."""
    most, paced = line["most"], line["paced"]
    return (
        not failed(line)
        and most["ops_per_s"] >= line["rate"]
        and paced["ops_per_s"] >= 0.98 * line["rate"]
        and paced["p99_ms"] < 20
        and max(most["call_p99_ms"], paced["call_p99_ms"]) < 100
    )


def failed(line: Line) -> bool:
    """Whether something did not work."""
    return "most" not in line or bool(line["most"].get("errors") or line["paced"].get("errors"))


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
    if any(map(failed, lines)):
        return 1
    return 0 if all(met(line) for line in lines if line["promised"] and line["gateway"] == "ours") else 2


if __name__ == "__main__":
    sys.exit(main())
