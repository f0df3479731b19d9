"""A gateway for the tests of programs: in memory with a clock that tests move, or on free ports (docs/testing.md).

``frontier_tx.testing.aio`` has the same for asyncio programs, ``fixtures`` has pytest fixtures of all of them.
"""

from frontier_tx.testing.local import LocalGateway
from frontier_tx.testing.memory import MemoryGateway, Stuck

__all__ = ["LocalGateway", "MemoryGateway", "Stuck"]
