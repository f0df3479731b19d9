"""What an end does with streams and messages that come: one table for services and edges."""

import asyncio
from typing import TYPE_CHECKING, Any

from frontier_tx.cli.session import Session
from frontier_tx.cli.text import shown_bytes

if TYPE_CHECKING:
    from frontier_tx.aio import Stream
    from frontier_tx.cli.transfer import FileServer
    from frontier_tx.cli.tunnel import Exposed


class Roles:
    """Gives each stream to whoever it is for, by the beginning of its meta."""

    def __init__(self, session: Session, exposed: "Exposed | None" = None, files: "FileServer | None" = None) -> None:
        self._session = session
        self._exposed = exposed
        self._files = files

    async def take(self, stream: "Stream") -> None:
        """Serve one stream to its end."""
        if self._exposed is not None and stream.meta.startswith(b"tcp:"):
            await self._exposed.take(stream)
        elif self._files is not None and stream.meta == b"frontier-file":
            await self._files.take(stream)
        else:
            self._session.output.note(f"frontier: refused a stream for {shown_bytes(stream.meta, 80)!r}")
            stream.abort("nobody takes such streams here")

    async def serve(self, client: Any) -> None:
        """Serve streams until it is cancelled; who sends messages reads that nobody takes them."""
        from frontier_tx.cli.handler import idle

        client.on_stream(self.take)
        await asyncio.gather(idle(client))
