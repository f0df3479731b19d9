"""Runs a gateway, honest pairs and attackers, and says what the pairs noticed."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.gateways import ROOT, StartedGateway
from tests.hostile.attack import Attacker, Target
from tests.hostile.go_pair import METHOD, GoPair
from tests.hostile.hoard import Hoard
from tests.interop.go_driver import GoDriver


@dataclass
class Report:
    """``slowest`` in seconds by what was done; ``errors`` of honest ends; ``resident`` the gateway's bytes at most."""

    done: Counter[str] = field(default_factory=Counter)
    attack: Counter[str] = field(default_factory=Counter)
    slowest: dict[str, float] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    resident: int = 0

    def lines(self) -> list[str]:
        rows = [f"attack: {dict(self.attack)}", f"honest: {dict(self.done)}", f"slowest: {self.slowest}"]
        return [*rows, f"gateway: {self.resident >> 20} MiB at most", *(f"NOTICED {error}" for error in self.errors)]


class Innocents:
    """The program of ``innocents`` beside the gateway; ``pause`` are the seconds between two works of a kind."""

    def __init__(
        self, gateway: StartedGateway, count: int, seed: int, pause: float = 0.02, sizes: str = "large"
    ) -> None:
        words = (gateway.edge, gateway.service, str(count), str(seed), str(pause), sizes)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.hostile.innocents", *words],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self.process.stdout is not None
        self.known: dict[str, Any] = json.loads(self.process.stdout.readline() or "{}")
        assert self.known, "the honest ends could not connect"

    def stop(self, patience: float = 90.0) -> dict[str, Any]:
        out, _ = self.process.communicate("", timeout=patience)
        found: dict[str, Any] = json.loads(out.splitlines()[-1])
        return found

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


def resident(pid: int | None) -> int:
    """Bytes of memory that a process holds."""
    text = Path(f"/proc/{pid}/status").read_text()
    return int(next(line.split()[1] for line in text.splitlines() if line.startswith("VmRSS"))) * 1024


def fuzz(
    gateway: StartedGateway, seconds: float, seed: int, pairs: int = 3, width: int = 20, go: GoDriver | None = None
) -> Report:
    """Attack for a time; afterwards the honest pairs must have worked all the time without an error.

    :param go: plays one more pair.
    """
    report = Report()
    innocents = Innocents(gateway, pairs, seed)
    go_pair = GoPair(go, gateway) if go is not None else None
    try:
        known = innocents.known
        target = Target(gateway.edge, gateway.service, known["names"], known["edges"])
        if go_pair is not None:
            target.names.append(METHOD)
            target.edges.append(go_pair.edge_id)
            go_pair.start()
        attacker = Attacker(target, seed, width)
        until = time.monotonic() + seconds
        while time.monotonic() < until and innocents.process.poll() is None and gateway.alive():
            asyncio.run(attacker.run(min(5.0, until - time.monotonic())))
            report.resident = max(report.resident, resident(gateway.pid) if gateway.alive() else 0)
        report.attack = attacker.done
        if not gateway.alive():
            report.errors.append("the gateway died: " + " / ".join(gateway.last_words()[-5:]))
        if go_pair is not None:
            go_pair.stop()
        found = innocents.stop()
    finally:
        innocents.kill()
    report.done = Counter(found["done"])
    report.slowest = found["slowest"]
    report.errors += found["errors"]
    if go_pair is not None:
        report.done += go_pair.done
        report.slowest |= go_pair.slowest
        report.errors += go_pair.errors
    return report


def hoard(gateway: StartedGateway, count: int, pairs: int, seconds: float = 10.0) -> Report:
    """Let ``count`` connections have held what they may, for ``seconds`` more than it takes, beside honest pairs."""
    report = Report()
    innocents = Innocents(gateway, pairs, 1, 1.0, "small")
    known = innocents.known
    gang = Hoard(Target(gateway.edge, gateway.service, known["names"], known["edges"]), count)

    async def run() -> None:
        running = asyncio.create_task(gang.run())
        left = seconds
        while left > 0 and gateway.alive():
            await asyncio.sleep(0.5)
            report.resident = max(report.resident, resident(gateway.pid))
            if running.done():
                running.result()
                left -= 0.5
        running.cancel()

    try:
        asyncio.run(run())
        report.attack = gang.done
        if not gateway.alive():
            report.errors.append("the gateway died: " + " / ".join(gateway.last_words()[-5:]))
        found = innocents.stop()
    finally:
        innocents.kill()
        gang.close()
    report.done, report.slowest = Counter(found["done"]), found["slowest"]
    report.errors += found["errors"]
    return report
