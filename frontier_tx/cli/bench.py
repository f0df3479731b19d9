"""``bench``: how many calls go through, and how long they take."""

import asyncio
import math
import time
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import click

from frontier_tx.cli.failures import Exit, fail
from frontier_tx.cli.main import Command
from frontier_tx.cli.session import CALL_SECONDS, Session
from frontier_tx.cli.settings import seconds
from frontier_tx.cli.talk import NAME, pass_session
from frontier_tx.errors import FrontierError

if TYPE_CHECKING:
    from frontier_tx.aio import Request

#: Latencies are counted in steps of 2 %.
_STEP = math.log(1.02)


class Latencies:
    """Counts times in bounded memory."""

    def __init__(self) -> None:
        self._counts: dict[int, int] = {}
        self.total = 0

    def add(self, took: float) -> None:
        """Count one, in seconds."""
        step = int(math.log(max(took, 1e-7)) / _STEP)
        self._counts[step] = self._counts.get(step, 0) + 1
        self.total += 1

    def quantile(self, share: float) -> float:
        """The time that this share did not exceed, in seconds; 0 without any."""
        left = math.ceil(self.total * share)
        for step in sorted(self._counts):
            left -= self._counts[step]
            if left <= 0:
                return math.exp((step + 0.5) * _STEP)
        return 0.0


@click.command("bench", cls=Command)
@click.argument("edge", required=False)
@click.argument("method", default="echo")
@click.option("--size", type=click.IntRange(0, 8 << 20), default=128, show_default=True, help="Bytes of a call.")
@click.option("--parallel", "-c", type=click.IntRange(1, 4096), default=16, show_default=True, help="Calls at a time.")
@click.option("--duration", default="5s", show_default=True, metavar="TIME", help="For how long.")
@pass_session
def bench_command(
    session: Session, edge: str | None, method: str, size: int, parallel: int, duration: str
) -> None:  # fmt: skip
    """Call METHOD of EDGE as fast as it goes, and print rates and latencies.

    Without EDGE it is an edge of its own, which answers with what it is sent; then this command does the
    work of both ends.
    """
    edge_id = session.edge_id(edge) if edge else 0
    lasts, timeout = seconds(duration), session.settings.timeout(CALL_SECONDS)
    if lasts > 3600:
        fail(Exit.USAGE, "an hour is the longest")
    latencies, errors, data = Latencies(), 0, bytes(size)
    first = ""

    async def measure() -> float:
        nonlocal errors, first
        async with AsyncExitStack() as stack:
            service = await stack.enter_async_context(session.service(NAME))
            target = edge_id
            if not edge:
                own = await stack.enter_async_context(session.edge(b"frontier-bench"))
                await own.register(method, answer_with_request)
                target = own.edge_id
            # One outside the figures, which tells what is wrong from the start.
            await service.call(target, method, data, timeout=timeout)
            began = time.monotonic()
            end = began + lasts

            async def calling() -> None:
                nonlocal errors, first
                while (start := time.monotonic()) < end:
                    try:
                        await service.call(target, method, data, timeout=timeout)
                    except FrontierError as error:
                        errors += 1
                        first = first or str(error)
                        await asyncio.sleep(0.01)
                    else:
                        latencies.add(time.monotonic() - start)

            await asyncio.gather(*[calling() for _ in range(parallel)])
            return time.monotonic() - began

    took = session.run(measure)
    found = {
        "calls": latencies.total,
        "errors": errors,
        "seconds": round(took, 3),
        "per_second": round(latencies.total / took, 1),
        **{f"p{round(share * 100)}_ms": round(latencies.quantile(share) * 1000, 3) for share in (0.5, 0.9, 0.99)},
    }
    if session.output.as_json:
        session.output.document(found)
    else:
        session.output.text(f"{found['per_second']:,} calls/s of {size} bytes, {parallel} at a time, for {took:.1f} s")
        session.output.text(f"p50 {found['p50_ms']} ms, p90 {found['p90_ms']} ms, p99 {found['p99_ms']} ms")
    if errors:
        fail(Exit.PEER, f"{errors} calls failed; the first: {first}")


async def answer_with_request(request: "Request") -> bytes:
    """Answer a call with what it brings."""
    return request.data
