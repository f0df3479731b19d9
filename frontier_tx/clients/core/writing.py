"""Raw bytes of one stream on their way to the peer, sans-IO: sent as far as its credit goes, the rest waits here."""

from collections import deque
from collections.abc import Callable

from frontier_tx.wire.connection import Connection
from frontier_tx.wire.session import Session


class Writing:
    """See the module. Where the peer speaks no credit nothing ever waits here.

    :param emptied: told each time that nothing waits any more.
    """

    __slots__ = ("size", "_connection", "_session", "_emptied", "_blocks")

    def __init__(self, connection: Connection, session: Session, emptied: Callable[[], None]) -> None:
        #: Bytes that wait.
        self.size = 0
        self._connection = connection
        self._session = session
        self._emptied = emptied
        self._blocks: deque[memoryview] = deque()

    def write(self, data: bytes) -> None:
        """Send, or keep what the peer does not take yet."""
        sent = 0 if self._blocks else self._send(data)
        if sent < len(data):
            self._blocks.append(memoryview(data)[sent:])
            self.size += len(data) - sent

    def go_on(self) -> None:
        """The peer takes more."""
        if not self._blocks:
            return
        while self._blocks:
            block = self._blocks[0]
            credit = self._session.credit
            sent = self._send(bytes(block if credit is None else block[:credit]))
            self.size -= sent
            if sent < len(block):
                self._blocks[0] = block[sent:]
                return
            self._blocks.popleft()
        self._emptied()

    def discard(self) -> None:
        """What waits is not to be sent."""
        self._blocks.clear()
        self.size = 0

    def _send(self, data: bytes) -> int:
        if not data:
            return 0
        return self._connection.sessions.send_stream(self._session, data, self._connection.peer_frame_bytes - 8)
