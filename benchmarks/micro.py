"""What one frame costs in the codec and in the switch, without sockets: so that a slower frame is seen in a review.

Times are counted in turns of a fixed loop of plain Python that is timed right before and after each measurement. A
faster machine is faster at both, so figures of different machines and hours can be compared, unlike microseconds.
"""

from __future__ import annotations

import argparse
import base64
import gc
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport

from benchmarks.gateways import HERE
from frontier_tx.gateway.core import GatewayCore
from frontier_tx.gateway.factories import LegFactory
from frontier_tx.gateway.protocols import LegProtocol
from frontier_tx.runtime.memory import settle_memory
from frontier_tx.wire import frame as f
from frontier_tx.wire.body import message_json, read_message

BASELINE = HERE / "results" / "micro.json"
NOT_MET = 2
#: Frames in one segment, as many as a busy connection delivers at once.
BATCH = 64


@dataclass(frozen=True)
class Row:
    """``units``: turns of the fixed loop, the figure to compare; ``microseconds`` are those of this machine."""

    name: str
    units: float
    microseconds: float


@dataclass(frozen=True)
class Case:
    """``run`` does ``operations`` operations."""

    name: str
    run: Callable[[], None]
    operations: int


def fixed_loop(turns: int) -> int:
    """Integers, bytes, a dictionary and a call per turn. Do not change it: all figures are counted in it."""
    table: dict[int, bytes] = {}
    text = bytes(range(64))
    total = 0
    for number in range(turns):
        key = number & 63
        table[key] = text[key : key + 8]
        total += len(table.pop(key)) + int.from_bytes(text[:8], "big") % 7
    return total


def timed(work: Callable[[], object]) -> float:
    at = time.perf_counter()
    work()
    return time.perf_counter() - at


#: How far apart the loop may be before and after a measurement that counts.
STEADY = 1.06


def measure(case: Case, repeat: int, seconds: float) -> Row:
    """Median of ``repeat`` measurements of about ``seconds`` each.

    One counts only where the fixed loop took the same time before and after it: a machine that others share changes
    its speed by half within milliseconds.
    """
    case.run()
    rounds = max(1, round(seconds / max(1e-6, timed(case.run))))
    turns = 2000

    def work() -> None:
        for _ in range(rounds):
            case.run()

    steady: list[tuple[float, float]] = []
    restless: list[tuple[float, float]] = []
    gc.collect()
    before = timed(lambda: fixed_loop(turns)) / turns
    for _ in range(20 * repeat):
        took = timed(work) / (rounds * case.operations)
        after = timed(lambda: fixed_loop(turns)) / turns
        kept = steady if max(before, after) < STEADY * min(before, after) else restless
        kept.append((took / ((before + after) / 2), took))
        before = after
        if len(steady) == repeat:
            break
    ratios, times = zip(*(steady or restless), strict=True)
    return Row(case.name, statistics.median(ratios), statistics.median(times) * 1e6)


class Sink(StringTransport):
    """Takes what is written and keeps it until ``taken``."""

    def taken(self) -> bytes:
        data: bytes = self.value()  # type: ignore[no-untyped-call]
        self.clear()  # type: ignore[no-untyped-call]
        return data


class Ends:
    """An edge and a service at a gateway in memory."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.core = GatewayCore(self.clock)
        self.service, self.to_service = self._connect(self.core.services, b'{"service":"bench","topics":["bench"]}')
        self.edge, self.to_edge = self._connect(self.core.edges, b"")
        (self.edge_id,) = self.core.repository.edges
        self.service.dataReceived(f.pack_of_session(f.REGISTER, 7, 1, b"bench"))
        self.to_service.taken()

    def _connect(self, factory: LegFactory, meta: bytes) -> tuple[LegProtocol, Sink]:
        sink = Sink()  # type: ignore[no-untyped-call]
        protocol = factory.buildProtocol(None)
        assert protocol is not None
        protocol.makeConnection(sink)  # type: ignore[no-untyped-call]
        fields = json.dumps({"meta": base64.b64encode(meta).decode()} if meta else {}).encode()
        protocol.dataReceived(f.pack(f.CONN, 1, b"\x18\0" + bytes(8) + fields))
        assert sink.taken(), "the gateway did not accept"
        return protocol, sink


def frames_of(data: bytes) -> list[f.Frame]:
    return f.FrameReader().feed(data)


def forwarding(name: str, down: bool, request: bool, size: int) -> Case:
    """``BATCH`` requests or messages from one end to the other, and their answers back."""
    ends = Ends()
    custom = ends.edge_id.to_bytes(8, "big") if down else b""
    near, far = (ends.service, ends.edge) if down else (ends.edge, ends.service)
    to_near, to_far = (ends.to_service, ends.to_edge) if down else (ends.to_edge, ends.to_service)
    there, back = (f.REQUEST, f.RESPONSE) if request else (f.MESSAGE, f.MESSAGE_ACK)
    value = bytes(size)
    body = (
        message_json(key=b"bench", value=value, custom=custom)
        if request
        else message_json(value=value, custom=custom, topic="bench")
    )
    answer = message_json(key=b"bench", value=value) if request else message_json()
    segment = b"".join(f.pack_of_session(there, number, 1, body) for number in range(1, BATCH + 1))
    # ids are the gateway's and go up, so the answers are made from what it sent
    answering = f.pack_of_session(back, 0, 1, answer)

    def run() -> None:
        near.dataReceived(segment)
        out = to_far.taken()
        answers = []
        pos = 0
        while pos < len(out):
            length = int.from_bytes(out[pos + 10 : pos + 14], "big")
            answers.append(answering[:2] + out[pos + 2 : pos + 10] + answering[10:])
            pos += 14 + length
        far.dataReceived(b"".join(answers))
        to_near.taken()
        # deadlines are looked at, as in a gateway that runs
        ends.clock.advance(0.001)

    run()
    near.dataReceived(segment)
    sent = frames_of(to_far.taken())
    assert [frame.type for frame in sent] == [there] * BATCH
    far.dataReceived(b"".join(f.pack_of_session(back, frame.packet_id, 1, answer) for frame in sent))
    assert [frame.type for frame in frames_of(to_near.taken())] == [back] * BATCH
    return Case(name, run, BATCH)


def stream_block(name: str, size: int) -> Case:
    """One block of raw bytes from a service to an edge, which answers as ends do when it is asked how far it has come.

    What that question and its answer cost is a part of the figure.
    """
    ends = Ends()
    fields = json.dumps({"peer": str(ends.edge_id)}).encode()
    ends.service.dataReceived(f.pack(f.SESSION, 9, b"\0\x10" + (99).to_bytes(8, "big") + fields))
    (asked,) = frames_of(ends.to_edge.taken())
    session = asked.body[2:10] if len(asked.body) >= 10 else b""
    ends.edge.dataReceived(f.pack(f.SESSION_ACK, asked.packet_id, b"\0\0" + session * 2 + b"{}"))
    acks = ends.to_service.taken()
    session_id = int.from_bytes(acks[14 + 10 : 14 + 18], "big")
    block = f.pack_of_session(f.STREAM, 11, session_id, bytes(size))

    def run() -> None:
        ends.service.dataReceived(block)
        out = ends.to_edge.taken()
        assert len(out) >= len(block), "the gateway waits"
        pos = len(block)
        while pos < len(out):
            # all that may stand there is a Register without a method
            back = b"\1%c%b%b%b{}" % (
                f.REGISTER_ACK,
                out[pos + 2 : pos + 10],
                bytes((0, 0, 0, 10)),
                out[pos + 14 : pos + 22],
            )
            ends.edge.dataReceived(back)
            pos += f.SESSION_HEADER.size

    for _ in range(100):
        run()
    return Case(name, run, 1)


def codec(size: int) -> Iterable[Case]:
    body = message_json(key=b"bench", value=bytes(size), custom=bytes(8))
    frame = f.pack_of_session(f.REQUEST, 1, 1, body)
    segment = frame * BATCH
    reader = f.FrameReader()
    if len(segment) < 100_000:
        # larger ones measure the machine's memory
        yield Case(f"cut, {size} B", lambda: _drop(reader.feed(segment)), BATCH)
    yield Case(f"decode, {size} B", lambda: _drop(read_message(body)), 1)
    value = bytes(size)
    yield Case(f"encode, {size} B", lambda: _drop(message_json(key=b"bench", value=value, custom=bytes(8))), 1)


def _drop(_: object) -> None:
    """A result that is not wanted."""


def cases() -> Iterable[Case]:
    for size in (128, 16384):
        yield from codec(size)
    yield forwarding("call to an edge, 128 B", True, True, 128)
    yield forwarding("call to a service, 128 B", False, True, 128)
    yield forwarding("call to an edge, 16384 B", True, True, 16384)
    yield forwarding("publish to an edge, 128 B", True, False, 128)
    yield forwarding("publish to a service, 128 B", False, False, 128)
    yield stream_block("stream block, 32768 B", 32768)


def compare(rows: Iterable[Row], baseline: Path, tolerance: float) -> tuple[str, bool]:
    """The table, and whether no figure is more than ``tolerance`` times that of the baseline."""
    known: dict[str, float] = {}
    if baseline.exists():
        known = {row["name"]: row["units"] for row in json.loads(baseline.read_text())["rows"]}
    lines = [f"{'':<28} {'units':>9} {'us':>9} {'baseline':>9} {'ratio':>6}"]
    fine = True
    for row in rows:
        before = known.get(row.name)
        text = f"{row.name:<28} {row.units:>9.2f} {row.microseconds:>9.2f}"
        if before:
            slower = row.units / before > tolerance
            fine = fine and not slower
            text += f" {before:>9.2f} {row.units / before:>6.2f}{'  SLOWER' if slower else ''}"
        lines.append(text)
    return "\n".join(lines), fine


def main() -> int:
    p = argparse.ArgumentParser(
        prog="python -m benchmarks.micro", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    p.add_argument("--repeat", type=int, default=100, help="measurements of each case, of which the median counts")
    p.add_argument("--seconds", type=float, default=0.004, help="length of each")
    p.add_argument("--tolerance", type=float, default=1.35, help="how much slower than the baseline is too much")
    p.add_argument("--baseline", type=Path, default=BASELINE, metavar="FILE")
    p.add_argument("--write", action="store_true", help="make these figures the baseline")
    args = p.parse_args()
    settle_memory()  # as in a server
    rows = [measure(case, args.repeat, args.seconds) for case in cases()]
    text, fine = compare(rows, args.baseline, args.tolerance)
    print(text)
    if args.write:
        args.baseline.write_text(
            json.dumps(
                {
                    "unit": "turns of benchmarks.micro.fixed_loop",
                    "python": platform.python_version(),
                    "rows": [asdict(row) for row in rows],
                },
                indent=1,
            )
            + "\n"
        )
        print(f"written: {args.baseline}")
        return 0
    return 0 if fine else NOT_MET


if __name__ == "__main__":
    sys.exit(main())
