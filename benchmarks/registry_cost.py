"""What the registry costs: at rest, when edges come online, per lookup, per look at a directory of 200 Frontiers, and
in memory.

    python -m benchmarks.registry_cost [--edges 20000] [--frontiers 4] [--seconds 60] [--write]

Starts a Redis of its own on a free port.  ``--write`` keeps the figures in ``benchmarks/results/registry_cost.*``.
Commands are counted twice: as the client sends them, and as the server runs them (``total_commands_processed``, which
includes the commands inside scripts).
"""

from __future__ import annotations

import argparse
import gc
import json
import platform
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import tracemalloc
from pathlib import Path
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.defer import ensureDeferred, gatherResults
from twisted.internet.task import LoopingCall, deferLater
from twisted.internet.testing import StringTransport

from frontier_tx.atlas.messages import EDGE_HEARTBEAT, EDGE_ONLINE, FrontierMeta, PeerEvent
from frontier_tx.atlas.protocols import AtlasServerFactory
from frontier_tx.config.redis import Redis, Standalone
from frontier_tx.redis.connect import make_redis
from frontier_tx.runtime.memory import GC_THRESHOLDS
from frontier_tx.timers import Alarms
from frontier_tx.wire.body import message_json
from frontier_tx.wire.connection import Connection
from frontier_tx.wire.frame import REQUEST, pack_of_session
from frontier_tx.wire.outlet import Outlet
from frontier_tx.wire.states import Role
from frontlas_tx.frontier_plane import FrontierPlane
from frontlas_tx.registry.peers import PeerTable
from frontlas_tx.registry.records import Claim, Report, ReportKind
from frontlas_tx.registry.redis.registry import RedisRegistry
from frontlas_tx.registry.redis.scripts import ALL

reactor: Any = _reactor
RESULTS = Path(__file__).parent / "results"
HEARTBEAT = 20.0


class Server:
    """A Redis without persistence."""

    def __init__(self) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.folder = tempfile.mkdtemp(prefix="registry-cost-")
        words = ["redis-server", "--port", str(self.port), "--save", "", "--appendonly", "no", "--dir", self.folder]
        self.process = subprocess.Popen(words, stdout=subprocess.DEVNULL)
        while socket.socket().connect_ex(("127.0.0.1", self.port)):
            time.sleep(0.02)

    def close(self) -> None:
        """End it."""
        self.process.kill()
        self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


class Bench:
    """Frontiers with edges at one Frontlas, and the counters around it."""

    def __init__(self, port: int, edges: int, frontiers: int) -> None:
        self.redis = make_redis(reactor, Redis(standalone=Standalone(addr=f"127.0.0.1:{port}")), ALL)
        self.probe = make_redis(reactor, Redis(standalone=Standalone(addr=f"127.0.0.1:{port}")))
        self.registry = RedisRegistry(reactor, self.redis)
        self.edges = edges
        self.frontiers = frontiers
        self.claims: list[Claim] = []
        self.figures: dict[str, float] = {}

    async def counters(self) -> dict[str, float]:
        """Commands sent and run, CPU seconds of the server and of this process, bytes in use."""
        text = (await self.probe.execute("INFO")).decode()
        info = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
        used = resource.getrusage(resource.RUSAGE_SELF)
        sent = self.redis.metrics()
        return {
            "sent": sent["redis_commands_total"],
            "polls": self.registry.metrics()["polls_total"],
            "trips": sent["redis_batches_total"],
            "run": float(info["total_commands_processed"]),
            "redis_cpu": float(info["used_cpu_user"]) + float(info["used_cpu_sys"]),
            "own_cpu": used.ru_utime + used.ru_stime,
            "bytes": float(info["used_memory"]),
            "read": float(info["total_net_output_bytes"]),
            "time": time.monotonic(),
        }

    def ids(self, frontier: int) -> range:
        share = self.edges // self.frontiers
        return range(10**18 + frontier * share, 10**18 + (frontier + 1) * share)

    async def online(self) -> None:
        """All edges come online, a thousand per call as a Frontier sends them."""
        before = await self.counters()

        async def one(number: int) -> None:
            name = f"frontier{number:02}"
            claim = await self.registry.claim(name, f"10.0.0.{number}:30011", f"10.0.0.{number}:30012", "boot")
            self.claims.append(claim)
            self.registry.sync_begin(claim)
            ids = self.ids(number)
            for start in range(0, len(ids), 1_000):
                reports = [
                    Report(ReportKind.EDGE_ONLINE, edge, f"192.168.100.200:{edge % 60_000}")
                    for edge in ids[start : start + 1_000]
                ]
                outcome = await self.registry.report(claim, reports)
                assert outcome == [None] * len(reports)
            await self.registry.sync_end(claim)

        await gatherResults([ensureDeferred(one(number)) for number in range(self.frontiers)])
        after = await self.counters()
        seconds = after["time"] - before["time"]
        self.figures |= {
            "online_per_second": self.edges / seconds,
            "online_frontlas_us": (after["own_cpu"] - before["own_cpu"]) / self.edges * 1e6,
            "online_redis_us": (after["redis_cpu"] - before["redis_cpu"]) / self.edges * 1e6,
            "online_commands_sent": (after["sent"] - before["sent"]) / self.edges,
            "bytes_per_edge": (after["bytes"] - before["bytes"]) / self.edges,
        }
        assert (await self.registry.counts()).edges == self.edges

    async def rest(self, seconds: float, per_edge: bool, label: str) -> None:
        """Nothing happens but heartbeats: of the links, and of each edge if ``per_edge`` (as the reference does)."""
        loops = []
        for claim in self.claims:
            loop = LoopingCall(lambda claim=claim: self.registry.renew(claim))
            loop.start(HEARTBEAT)
            loops.append(loop)
        steps = [(claim, list(self.ids(number))) for number, claim in enumerate(self.claims)]

        def beat() -> None:
            for claim, ids in steps:
                part = len(ids) * 0.05 / HEARTBEAT
                for edge in ids[int(beat.turn * part) % len(ids) : int((beat.turn + 1) * part) % len(ids)]:  # type: ignore[attr-defined]
                    self.registry.report(claim, [Report(ReportKind.EDGE_HEARTBEAT, edge)])
            beat.turn += 1  # type: ignore[attr-defined]

        beat.turn = 0  # type: ignore[attr-defined]
        if per_edge:
            loop = LoopingCall(beat)
            loop.start(0.05)
            loops.append(loop)
        before = await self.counters()
        await deferLater(reactor, seconds)
        after = await self.counters()
        for loop in loops:
            loop.stop()
        minutes = (after["time"] - before["time"]) / 60
        self.figures |= {
            f"{label}_sent_per_edge_minute": (after["sent"] - before["sent"]) / self.edges / minutes,
            f"{label}_run_per_edge_minute": (after["run"] - before["run"]) / self.edges / minutes,
            f"{label}_sent_per_second": (after["sent"] - before["sent"]) / minutes / 60,
            f"{label}_redis_cpu_percent": (after["redis_cpu"] - before["redis_cpu"]) / minutes / 60 * 100,
            f"{label}_frontlas_cpu_percent": (after["own_cpu"] - before["own_cpu"]) / minutes / 60 * 100,
        }

    async def lookups(self, number: int) -> None:
        """One lookup after the other."""
        edges = [edge for frontier in range(self.frontiers) for edge in self.ids(frontier)[: number // self.frontiers]]
        before = await self.counters()
        slowest = 0.0
        for edge in edges:
            begun = time.perf_counter()
            assert await self.registry.frontier_of_edge(edge) is not None
            slowest = max(slowest, time.perf_counter() - begun)
        after = await self.counters()
        self.figures |= {
            "lookup_round_trips": (after["trips"] - before["trips"] - (after["polls"] - before["polls"])) / len(edges),
            "lookup_mean_us": (after["time"] - before["time"]) / len(edges) * 1e6,
            "lookup_slowest_us": slowest * 1e6,
        }

    async def directory(self, frontiers: int, times: int) -> None:
        """A registry that knows many Frontiers without peers: its look at the directory, and their renewals."""
        claims = [
            await self.registry.claim(f"empty{n:03}", f"10.1.0.{n}:30011", f"10.1.0.{n}:30012", "boot")
            for n in range(frontiers - self.frontiers)
        ]
        before = await self.counters()
        for _ in range(times):
            await self.registry.upkeep()
        after = await self.counters()
        self.figures |= {
            "directory_redis_us": (after["redis_cpu"] - before["redis_cpu"]) / times * 1e6,
            "directory_frontlas_us": (after["own_cpu"] - before["own_cpu"]) / times * 1e6,
            "directory_bytes": (after["read"] - before["read"]) / times,
        }
        before = await self.counters()
        for claim in claims:
            await self.registry.renew(claim)
        while not self.registry.idle:
            await deferLater(reactor, 0.01)
        after = await self.counters()
        polls = after["polls"] - before["polls"]
        looks = self.figures["directory_redis_us"] / 1e6 * polls, self.figures["directory_frontlas_us"] / 1e6 * polls
        self.figures |= {
            "renewal_commands_sent": (after["sent"] - before["sent"] - polls) / len(claims),
            "renewal_redis_us": (after["redis_cpu"] - before["redis_cpu"] - looks[0]) / len(claims) * 1e6,
            "renewal_frontlas_us": (after["own_cpu"] - before["own_cpu"] - looks[1]) / len(claims) * 1e6,
        }

    async def single_events(self, edges: int) -> None:
        """The same through the port of the frontier plane, one call for each event, as Go Frontiers report."""
        plane = FrontierPlane(self.registry, reactor)
        factory = AtlasServerFactory(plane, Alarms(reactor), Outlet(reactor))
        link = factory.buildProtocol(None)
        transport = StringTransport()
        assert link is not None
        link.makeConnection(transport)
        meta = FrontierMeta("single", "10.2.0.1:30011", "10.2.0.1:30012")
        end = Connection(Role.CLIENT, reactor.seconds())
        end.connect(meta.encode())
        link.dataReceived(end.take_output())
        while not plane.links:
            await deferLater(reactor, 0.01)
        for method in (EDGE_ONLINE, EDGE_HEARTBEAT):
            calls = [
                pack_of_session(
                    REQUEST, n, 1, message_json(key=method.encode(), value=PeerEvent(method, n, addr="h:1").encode())
                )
                for n in range(1, edges + 1)
            ]
            transport.clear()
            before = await self.counters()
            for start in range(0, edges, 200):
                link.dataReceived(b"".join(calls[start : start + 200]))
                await deferLater(reactor, 0)
            while not self.registry.idle:
                await deferLater(reactor, 0.001)
            after = await self.counters()
            self.figures[f"single_{method}_us"] = (after["own_cpu"] - before["own_cpu"]) / edges * 1e6
        link.abort("done")

    def memory(self, edges: int) -> None:
        """What a Frontlas keeps of each edge that its own links told it of."""
        tracemalloc.start()
        table = PeerTable()
        for edge in range(10**18, 10**18 + edges):
            table.take(Report(ReportKind.EDGE_ONLINE, edge, f"192.168.100.200:{edge % 60_000}"), 1_800_000_000)
        self.figures["table_bytes_per_edge"] = tracemalloc.get_traced_memory()[0] / edges
        tracemalloc.stop()

    async def run(self, seconds: float) -> None:
        self.probe.start()
        await self.registry.start()
        await self.online()
        await deferLater(reactor, 1)
        await self.rest(seconds, False, "rest")
        await self.rest(seconds, True, "rest_reference")
        await self.lookups(4_000)
        await self.single_events(20_000)
        await self.directory(200, 200)
        self.memory(200_000)
        await self.registry.stop()
        await self.probe.stop()


MEANING = {
    "online_per_second": "edges online per second",
    "online_commands_sent": "commands sent per edge online",
    "online_frontlas_us": "Frontlas CPU per edge online, us",
    "online_redis_us": "Redis CPU per edge online, us",
    "bytes_per_edge": "bytes in Redis per edge (record and member)",
    "rest_sent_per_edge_minute": "at rest: commands sent per edge and minute",
    "rest_run_per_edge_minute": "at rest: commands run per edge and minute, those in scripts included",
    "rest_sent_per_second": "at rest: commands sent per second",
    "rest_redis_cpu_percent": "at rest: Redis CPU, percent of a core",
    "rest_frontlas_cpu_percent": "at rest: Frontlas CPU, percent of a core",
    "rest_reference_sent_per_edge_minute": "with heartbeats of every edge: commands sent per edge and minute",
    "rest_reference_run_per_edge_minute": "with heartbeats of every edge: commands run per edge and minute",
    "rest_reference_redis_cpu_percent": "with heartbeats of every edge: Redis CPU, percent of a core",
    "rest_reference_frontlas_cpu_percent": "with heartbeats of every edge: Frontlas CPU, percent of a core",
    "lookup_round_trips": "lookup of an edge: round trips",
    "lookup_mean_us": "lookup of an edge: mean, us",
    "lookup_slowest_us": "lookup of an edge: slowest, us",
    "single_edge_online_us": "an edge comes online, reported alone: Frontlas CPU, us, frames included",
    "single_edge_heartbeat_us": "heartbeat of an edge, reported alone: Frontlas CPU, us, frames included",
    "directory_redis_us": "look at a directory of 200 Frontiers, once a second per Frontlas: Redis CPU, us",
    "directory_frontlas_us": "look at a directory of 200 Frontiers: Frontlas CPU, us",
    "directory_bytes": "look at a directory of 200 Frontiers: bytes",
    "renewal_commands_sent": "renewal of a Frontier without peers: commands sent",
    "renewal_redis_us": "renewal of a Frontier without peers: Redis CPU, us",
    "renewal_frontlas_us": "renewal of a Frontier without peers: Frontlas CPU, us",
    "table_bytes_per_edge": "bytes in Frontlas per edge of its own links",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--edges", type=int, default=20_000)
    parser.add_argument("--frontiers", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=60.0, help="length of each measurement at rest")
    parser.add_argument("--write", action="store_true", help="keep the figures in benchmarks/results")
    options = parser.parse_args()
    gc.set_threshold(*GC_THRESHOLDS)
    gc.freeze()
    server = Server()
    bench = Bench(server.port, options.edges, options.frontiers)
    failed: list[Any] = []

    def end(result: Any) -> None:
        if result is not None:
            failed.append(result)
        reactor.stop()

    reactor.callWhenRunning(lambda: ensureDeferred(bench.run(options.seconds)).addBoth(end))
    reactor.run()
    server.close()
    if failed:
        failed[0].printTraceback()
        sys.exit(1)
    head = f"{options.edges} edges on {options.frontiers} Frontiers, one Frontlas, Python {platform.python_version()}"
    lines = [head, *(f"{bench.figures[name]:>12.3f}  {text}" for name, text in MEANING.items())]
    print("\n".join(lines))
    if options.write:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / "registry_cost.txt").write_text("\n".join(lines) + "\n")
        facts = {"edges": options.edges, "frontiers": options.frontiers, "figures": bench.figures}
        (RESULTS / "registry_cost.json").write_text(json.dumps(facts, indent=2) + "\n")


if __name__ == "__main__":
    main()
