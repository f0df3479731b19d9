"""A stream for asyncio."""

import asyncio
from collections.abc import Coroutine
from typing import Any

from frontier_tx.aio.futures import Awaiting, arrival
from frontier_tx.clients.core.operations import Message
from frontier_tx.clients.core.reading import checked
from frontier_tx.clients.surface.streams import StreamFace


class Stream(Awaiting, StreamFace[Coroutine[Any, Any, bytes], Coroutine[Any, Any, None], Coroutine[Any, Any, Message]]):
    """One stream, read and written like asyncio's own: ``read``, ``readexactly``, ``write``, ``drain``, ``close``.

    ``meta`` and ``peer`` are the opener's.
    """

    async def read(self, n: int = -1) -> bytes:
        """Return some bytes, at most ``n``; ``b""`` at the end. One read at a time; one that is given up takes nothing.

        ForceClosed, with the reason, where nobody closed the stream in order: more was to come.
        """
        self._home.check()
        return await self._read(checked(n), exactly=False)

    async def readexactly(self, n: int) -> bytes:
        """Return exactly ``n`` bytes. One that is given up takes nothing.

        :raises asyncio.IncompleteReadError: the stream ended before.
        :raises ForceClosed: it was cut before; ``read`` has what came of it.
        """
        self._home.check()
        if checked(n) < 0:
            raise ValueError(f"readexactly: {n} bytes cannot be read")
        return await self._read(n, exactly=True)

    async def _read(self, n: int, exactly: bool) -> bytes:
        reading = self.session.reading
        parts: list[bytes] = []
        left = n
        reading.begin()
        try:
            while left:
                while not reading.ready:
                    await arrival(reading.wait)
                data = reading.take(left)
                if not exactly:
                    return data
                if not data:
                    partial, parts = b"".join(parts), []
                    raise asyncio.IncompleteReadError(partial, n)
                parts.append(data)
                left -= len(data)
        except BaseException:
            reading.put_back(b"".join(parts))
            raise
        finally:
            reading.finish()
        return b"".join(parts)
