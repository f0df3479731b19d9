"""What the control plane costs: lists over 50,000 edges, and what 1,000 lists a second do to calls.

    python -m benchmarks.control_plane [--edges 50000] [--seconds 1] [--rounds 9] [--write]

The first part runs in this process and counts its CPU time. The second starts a gateway and a client that lists, each
a process of its own, and measures calls at a fixed rate, with and without lists in short turns; their
medians count. ``--write`` keeps the figures in ``benchmarks/results/control_plane.*``.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.gateways import free_ports
from frontier_tx.aio import Edge, Service
from frontier_tx.runtime.memory import settle_memory
from frontier_tx.switch.legs import NO_TRANSPORT, Kind, Leg
from frontier_tx.switch.queries import (
    EdgeNamesSelection,
    EdgeSelection,
    Page,
    Steps,
    list_edge_rpcs,
    list_edges,
)
from frontier_tx.switch.repository import Repository
from frontier_tx.wire.connection import Connection
from frontier_tx.wire.states import Role

RESULTS = Path(__file__).resolve().parent / "results"
LISTS_A_SECOND, CALLS_A_SECOND = 1000, 500
CONNECTIONS = 10
START = 1_800_000_000
PROCESSORS = os.sched_getaffinity(0)


# -- lists over many edges --------------------------------------------------------------------------------


def populated(edges: int) -> Repository:
    """So many edges, each with three methods, of which one is its own; 500 came in each second."""
    repository = Repository()
    connection = Connection(Role.SERVER, 0.0)
    for number in range(1, edges + 1):
        address = f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}:40001"
        leg = Leg(Kind.EDGE, connection, NO_TRANSPORT, address, START + number / 500)
        leg.id = (number * 7919) % 1_000_003
        leg.meta = b"plant-%d/robot-%d" % (number % 17, number)
        repository.add(leg)
        for method in (b"move", b"stop", b"only%d" % number):
            leg.methods[method] = leg.since
    return repository


QUERIES: dict[str, Callable[[Repository], Steps[Page[Any]]]] = {
    "newest": lambda r: list_edges(r, EdgeSelection()),
    "page 4000 of 10": lambda r: list_edges(r, EdgeSelection(page=4000, page_size=10)),
    "all on one page": lambda r: list_edges(r, EdgeSelection(page=1, page_size=len(r.edges))),
    "meta, few match": lambda r: list_edges(r, EdgeSelection(meta="plant-3/robot-4")),
    "meta, all match": lambda r: list_edges(r, EdgeSelection(meta="plant")),
    "method": lambda r: list_edges(r, EdgeSelection(rpc="only77")),
    "ordered by meta": lambda r: list_edges(r, EdgeSelection(order="meta")),
    "by address, page 2000": lambda r: list_edges(r, EdgeSelection(order="+addr", page=2000, page_size=10)),
    "all filters": lambda r: list_edges(
        r, EdgeSelection(meta="plant", addr="10.", rpc="stop", order="meta", start_time=1, end_time=1 << 40)
    ),
    "methods": lambda r: list_edge_rpcs(r, EdgeNamesSelection()),
    "methods by name": lambda r: list_edge_rpcs(r, EdgeNamesSelection(order="rpc")),
    "methods of a meta": lambda r: list_edge_rpcs(r, EdgeNamesSelection(meta="robot")),
}


def timed(steps: Steps[Page[Any]]) -> tuple[float, float]:
    """CPU milliseconds of a list, and of its longest step."""
    total = longest = 0.0
    while True:
        began = time.thread_time()
        try:
            next(steps)
            over = False
        except StopIteration:
            over = True
        spent = 1000 * (time.thread_time() - began)
        total, longest = total + spent, max(longest, spent)
        if over:
            return total, longest


def lists(edges: int) -> dict[str, dict[str, float]]:
    """Each query three times; the best total, and the longest step of all."""
    repository = populated(edges)
    settle_memory()
    figures = {}
    for name, query in QUERIES.items():
        runs = [timed(query(repository)) for _ in range(3)]
        figures[name] = {
            "total_ms": round(min(total for total, _ in runs), 2),
            "longest_step_ms": round(min(longest for _, longest in runs), 2),
        }
    return figures


# -- calls beside lists -----------------------------------------------------------------------------------


async def listing(port: int, rate: float) -> None:
    """List at a fixed rate until the process is ended, on the connections in turn; this is a process of its own."""
    request = b"GET /v1/edges?page=1&page_size=10 HTTP/1.1\r\nHost: localhost\r\n\r\n"
    connections = [await asyncio.open_connection("127.0.0.1", port) for _ in range(CONNECTIONS)]

    async def read(reader: asyncio.StreamReader) -> None:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200"), head
            await reader.readexactly(int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0]))

    reading = [asyncio.create_task(read(reader)) for reader, _ in connections]
    due = time.monotonic()
    while not any(task.done() for task in reading):
        for _, writer in connections:
            writer.write(request)
            # What was missed while this process was stopped is not made up for.
            due = max(due + 1 / rate, time.monotonic() - 0.01)
            await asyncio.sleep(max(0.0, due - time.monotonic()))
    await asyncio.gather(*reading)


async def latencies(service: Service, edge_id: int, seconds: float) -> list[float]:
    """Milliseconds of calls that begin at a fixed rate."""
    took: list[float] = []

    async def one() -> None:
        began = time.perf_counter()
        await service.call(edge_id, "echo", b"x" * 100)
        took.append(1000 * (time.perf_counter() - began))

    began, tasks = time.monotonic(), []
    for number in range(int(seconds * CALLS_A_SECOND)):
        await asyncio.sleep(max(0.0, began + number / CALLS_A_SECOND - time.monotonic()))
        tasks.append(asyncio.create_task(one()))
    await asyncio.gather(*tasks)
    return took


def apart(pid: int, cpu: int, priority: int) -> None:
    """Put a process on a processor of its own, before everything else that runs there, where that is allowed.

    What the clients themselves cost is not to be seen in the latencies of the gateway.
    """
    try:
        os.sched_setaffinity(pid, {sorted(PROCESSORS)[cpu]})
        os.sched_setscheduler(pid, os.SCHED_FIFO, os.sched_param(priority))
    except (AttributeError, IndexError, PermissionError):
        return


def quantile(values: list[float], share: float) -> float:
    """The value that this share does not exceed."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


async def beside(seconds: float, rounds: int, idle: int) -> dict[str, Any]:
    """Calls with and without lists, in turns, at a gateway with some edges more."""
    edge_port, service_port, control_port = free_ports(3)
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "frontier.yaml"
        config.write_text(
            f"edgebound: {{listen: {{addr: 127.0.0.1:{edge_port}}}, edgeid_alloc_when_no_idservice_on: true}}\n"
            f"servicebound: {{listen: {{addr: 127.0.0.1:{service_port}}}}}\n"
            f"controlplane: {{enable: true, listen: {{addr: 127.0.0.1:{control_port}}}}}\n"
            "observability: {enable: false}\nlog: {level: error}\n"
        )
        twistd = Path(sys.executable).with_name("twistd")
        command = [str(twistd), "-n", "--pidfile=", "frontier", "-c", str(config)]
        gateway = await asyncio.create_subprocess_exec(*command, cwd=folder, stdout=subprocess.DEVNULL)
        # The client that lists has what the gateway leaves of its processor, the one that calls has the other.
        apart(gateway.pid, 0, 3)
        apart(0, -1, 2)
        try:
            return await _measure(edge_port, service_port, control_port, seconds, rounds, idle)
        finally:
            gateway.send_signal(signal.SIGTERM)
            await gateway.wait()


async def _measure(
    edge_port: int, service_port: int, control_port: int, seconds: float, rounds: int, idle: int
) -> dict[str, Any]:
    edges = [Edge("127.0.0.1", edge_port, meta=b"plant-%d" % number) for number in range(idle + 1)]
    await asyncio.wait_for(edges[0].connect(keep_trying=True), 20.0)
    for edge in edges[1:]:
        await edge.connect()

    async def echo(request: Any) -> bytes:
        return bytes(request.data)

    await edges[0].register("echo", echo)
    service = Service("127.0.0.1", service_port, name="bench")
    await service.connect()
    await latencies(service, edges[0].edge_id, 1.0)
    found: dict[str, list[dict[str, float]]] = {"without": [], "with": []}
    command = (sys.executable, "-m", __spec__.name, "--list", str(control_port))
    lister = await asyncio.create_subprocess_exec(*command)
    apart(lister.pid, 0, 1)
    await asyncio.sleep(1.0)
    for _ in range(rounds):
        for way, number in (("without", signal.SIGSTOP), ("with", signal.SIGCONT)):
            lister.send_signal(number)
            await asyncio.sleep(0.3)
            took = await latencies(service, edges[0].edge_id, seconds)
            found[way].append({"p50_ms": round(quantile(took, 0.5), 3), "p99_ms": round(quantile(took, 0.99), 3)})
    assert lister.returncode is None, "the client that lists has failed"
    lister.kill()
    await lister.wait()
    for client in (*edges, service):
        await client.close()
    middle = {way: {key: round(median(run[key] for run in runs), 3) for key in runs[0]} for way, runs in found.items()}
    ratio = round(middle["with"]["p99_ms"] / middle["without"]["p99_ms"], 2)
    return {**middle, "p99_ratio": ratio, "rounds": found}


def shown(figures: dict[str, Any]) -> str:
    """The figures as a table."""
    lines = [f"lists over {figures['edges']} edges                 CPU ms   longest step ms"]
    lines += [
        f"  {name:36} {each['total_ms']:8.2f} {each['longest_step_ms']:17.2f}"
        for name, each in figures["lists"].items()
    ]
    calls = figures["calls"]
    lines.append(f"calls, {CALLS_A_SECOND} a second                     p50 ms            p99 ms")
    for way, text in (("without", "alone"), ("with", f"beside {LISTS_A_SECOND} lists a second")):
        lines.append(f"  {text:36} {calls[way]['p50_ms']:8.2f} {calls[way]['p99_ms']:17.2f}")
    lines.append(f"  ratio of p99 {calls['p99_ratio']}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--edges", type=int, default=50_000)
    parser.add_argument("--idle", type=int, default=100, help="edges at the gateway of the second part")
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--list", type=int, metavar="PORT", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.list:
        asyncio.run(listing(options.list, LISTS_A_SECOND))
        return
    figures = {
        "machine": f"{platform.machine()}, Python {platform.python_version()}",
        "edges": options.edges,
        "lists": lists(options.edges),
        "calls": asyncio.run(beside(options.seconds, options.rounds, options.idle)),
    }
    text = shown(figures)
    sys.stdout.write(text + "\n")
    if options.write:
        (RESULTS / "control_plane.json").write_text(json.dumps(figures, indent=2) + "\n")
        (RESULTS / "control_plane.txt").write_text(text + "\n")


if __name__ == "__main__":
    main()
