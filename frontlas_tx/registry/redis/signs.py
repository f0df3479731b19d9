"""Signs of life of Frontiers: one Frontlas asks another for them, and whoever holds the link asks the Frontier."""

from __future__ import annotations

from enum import Enum

from twisted.internet.interfaces import IReactorTime

from frontier_tx.atlas.protocols import PROBE_SECONDS
from frontier_tx.redis.interfaces import IRedis, command
from frontier_tx.runtime.deferreds import Waiters
from frontlas_tx.registry.directory import Entry
from frontlas_tx.registry.errors import RegistryError
from frontlas_tx.registry.records import CONTENDERS
from frontlas_tx.registry.redis.keys import CHANNEL, encode

DEAD = 30.0
"""Seconds without a sign of life after which another Frontlas is dead."""
UNHEARD = 4.0
"""The same for one that was asked about a Frontier and did not answer; it tells that it lives every second."""
ANSWER_WITHIN = PROBE_SECONDS + 1.0
"""Seconds within which another Frontlas answers."""


class Life(Enum):
    """Whether the holder of an identity lives."""

    ALIVE = "alive"
    ENDED = "ended"
    UNHEARD = "its Frontlas did not answer"


class SignsOfLife:
    """The questions that this Frontlas (``instance``) has asked over the channel of changes."""

    def __init__(self, redis: IRedis, clock: IReactorTime, instance: str) -> None:
        self._redis = redis
        self._clock = clock
        self._instance = instance
        self._asked: dict[str, Waiters[Life]] = {}

    async def ask_its_frontlas(self, holder: Entry) -> Life:
        """Let the Frontlas that holds the link ask the Frontier for a sign of life, and answer over the channel."""
        waiters = self._asked.setdefault(holder.token, Waiters())
        if len(waiters) >= CONTENDERS:
            return Life.ALIVE
        waiting = waiters.wait()
        if len(waiters) == 1:
            question = b"Q" + encode((holder.frontier_id, holder.token))
            await self._redis.batch([command("PUBLISH", CHANNEL, question)])
        waiting.addTimeout(ANSWER_WITHIN, self._clock, lambda _result, _seconds: Life.UNHEARD)
        try:
            return await waiting
        finally:
            if not len(waiters):
                self._asked.pop(holder.token, None)

    async def answer(self, token: str, alive: bool) -> None:
        """Tell whoever asked whether the holder of a claim lives."""
        await self._redis.batch([command("PUBLISH", CHANNEL, b"A" + encode((token, alive)))])

    def answered(self, token: str, alive: bool) -> None:
        """Another Frontlas says whether the holder of a claim lives."""
        waiters = self._asked.pop(token, None)
        if waiters is not None:
            waiters.tell(Life.ALIVE if alive else Life.ENDED)

    def stop(self, error: RegistryError) -> None:
        """Nobody gets an answer any more."""
        asked, self._asked = self._asked, {}
        for waiters in asked.values():
            waiters.tell(error)
