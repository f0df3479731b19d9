"""What ``async for`` over messages goes by."""

from collections.abc import AsyncIterator, Awaitable
from typing import Protocol

from frontier_tx.clients.core.operations import Message
from frontier_tx.errors import EndClosed


class Receiver(Protocol):
    """What has messages to give."""

    def receive(self) -> Awaitable[Message]:
        """Return the next one; EndClosed when there is none."""


class Arriving(AsyncIterator[Message]):
    """Messages until there are no more of them.

    No generator: that would be over with the first step that somebody gives up.
    """

    def __init__(self, source: Receiver) -> None:
        self._source = source

    async def __anext__(self) -> Message:
        try:
            return await self._source.receive()
        except EndClosed:
            raise StopAsyncIteration from None

    async def aclose(self) -> None:
        """For those who close generators: there is nothing to put away."""
