"""The places in which the registry's contract is tested: one per implementation and mode."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock

from frontlas_tx.registry.interfaces import IRegistry
from frontlas_tx.registry.memory import MemoryRegistry

START = 1_800_000_000


class MemoryWorld:
    """The embedded registry under a clock that moves only when told to."""

    shared = False

    def __init__(self) -> None:
        self.clock = Clock()
        self.clock.advance(START)
        self.registry: IRegistry = MemoryRegistry(self.clock)

    async def open(self) -> None:
        await self.registry.start()

    async def close(self) -> None:
        await self.registry.stop()

    async def settle(self) -> None:
        """Let everything under way finish."""

    async def advance(self, seconds: float) -> None:
        """Let time pass, with the upkeep that goes with it."""
        for _ in range(int(seconds)):
            self.clock.advance(1)
        self.clock.advance(seconds - int(seconds))


WORLDS = ["memory"]


def make_world(name: str, request: Any) -> Any:
    """The world of this name, not yet open."""
    return MemoryWorld()
