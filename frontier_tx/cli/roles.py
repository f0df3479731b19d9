"""What an end does with streams and messages that come: one table for services and edges."""

import asyncio
from typing import TYPE_CHECKING, Any

from frontier_tx.cli.session import Session
from frontier_tx.cli.text import shown_bytes
from frontier_tx.errors import FrontierError

if TYPE_CHECKING:
    from frontier_tx.aio import Stream
    from frontier_tx.cli.transfer import FileServer
    from frontier_tx.cli.tunnel import Exposed


#: Bytes of a stream's first line, and seconds for it.
MOST_LINE = 1024
LINE_SECONDS = 30.0


async def open_for(client: Any, peer: str, purpose: bytes) -> "Stream":
    """Open a stream whose first line says what it is for; a Go gateway does not pass a stream's meta on."""
    stream: Stream = await client.open_stream(peer, purpose)
    stream.write(purpose + b"\n")
    return stream


async def purpose_of(stream: "Stream") -> bytes:
    """Read the first line of a stream, and nothing behind it; what is there of it where it does not end."""
    line = bytearray()
    async with asyncio.timeout(LINE_SECONDS):
        while not line.endswith(b"\n") and len(line) < MOST_LINE:
            byte = await stream.read(1)
            if not byte:
                break
            line += byte
    return bytes(line).rstrip(b"\n")


class Roles:
    """Gives each stream to whoever it is for."""

    def __init__(self, session: Session, exposed: "Exposed | None" = None, files: "FileServer | None" = None) -> None:
        self._session = session
        self._exposed = exposed
        self._files = files

    async def take(self, stream: "Stream") -> None:
        """Serve one stream to its end."""
        try:
            purpose = await purpose_of(stream)
        except (FrontierError, TimeoutError):
            stream.abort("it did not say what it is for")
            return
        if self._exposed is not None and purpose.startswith(b"tcp:"):
            await self._exposed.take(stream, purpose.removeprefix(b"tcp:").decode("utf-8", "replace"))
        elif self._files is not None and purpose == b"frontier-file":
            await self._files.take(stream)
        else:
            self._session.output.note(f"frontier: refused a stream for {shown_bytes(purpose, 80)!r}")
            stream.abort("nobody takes such streams here")

    async def serve(self, client: Any) -> None:
        """Serve streams until it is cancelled; who sends messages reads that nobody takes them."""
        from frontier_tx.cli.handler import idle

        client.on_stream(self.take)
        await asyncio.gather(idle(client))
