"""Raw bytes of one stream on their way to the program, sans-IO: kept until they are read, or pushed on at once."""

from collections import deque
from collections.abc import Callable

from frontier_tx.clients.core.intake import Done

#: Blocks below this size are joined: each would cost more as an object than it holds.
SMALL = 4096
#: Size at which a joined block is left alone.
JOINED = 65_536


class Reading:
    """See the module.

    :param freed: told how many bytes the program took: the peer may send as many more.
    """

    __slots__ = ("size", "ended", "error", "on_bytes", "_freed", "_blocks", "_offset", "_busy", "_wake", "_owed")

    def __init__(self, freed: Callable[[int], None]) -> None:
        #: Bytes that wait.
        self.size = 0
        #: Whether nothing more will come, and the error that the reader then gets in place of an end.
        self.ended = False
        self.error: Exception | None = None
        #: Takes bytes as they come, and None at the end, in place of readers.
        self.on_bytes: Callable[[bytes | None], None] | None = None
        self._freed = freed
        self._blocks: deque[bytes | bytearray] = deque()
        self._offset = 0
        #: Bytes that were put back. Their credit was given when they were taken, so it is not given again.
        self._owed = 0
        self._busy = False
        self._wake: Callable[[], object] | None = None

    @property
    def ready(self) -> bool:
        """Whether ``take`` has an answer."""
        return self.size > 0 or self.ended

    def put(self, data: bytes) -> None:
        """Bytes came."""
        if self.on_bytes is not None:
            # Give credit first: what is pushed may end the stream.
            self._freed(len(data))
            self.on_bytes(data)
            return
        last = self._blocks[-1] if self._blocks else None
        if isinstance(last, bytearray) and len(last) < JOINED:
            last += data
        else:
            self._blocks.append(bytearray(data) if len(data) < SMALL else data)
        self.size += len(data)
        self._wake_reader()

    def end(self, error: Exception | None = None) -> None:
        """Nothing more will come.

        :param error: what readers are told after the bytes that are left, where more was to come.
        """
        if self.ended:
            return
        self.ended, self.error = True, error
        if self.on_bytes is not None:
            self.on_bytes(None)
        self._wake_reader()

    def discard(self) -> None:
        """Drop what waits."""
        size, self.size = self.size, 0
        self._blocks.clear()
        self._offset = 0
        self._free(size)

    def _free(self, size: int) -> None:
        owed = min(self._owed, size)
        self._owed -= owed
        if size > owed:
            self._freed(size - owed)

    # -- readers ------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Start a read: no other may start until ``finish``.

        :raises RuntimeError: somebody else has it.
        """
        if self._busy:
            raise RuntimeError("another read of this stream is under way")
        self._busy = True

    def finish(self) -> None:
        """End the read: another may start."""
        self._busy = False
        self._wake = None

    def wait(self, wake: Callable[[], object]) -> "Reading":
        """Call ``wake`` once when ``ready`` turns true. Call ``begin`` before."""
        self._wake = wake
        if self.ready:
            self._wake_reader()
        return self

    def cancel(self) -> None:
        """Wait no longer."""
        self._wake = None

    def read(self, most: int, done: Done) -> Callable[[], None]:
        """Give what ``take`` returns to ``done``, now or later; return what cancels it.

        :raises TypeError: no number. :raises RuntimeError: another read is under way.
        """
        checked(most)
        self.begin()
        waiting = True

        def leave() -> None:
            nonlocal waiting
            if waiting:
                waiting = False
                self.finish()

        def wake() -> None:
            leave()
            try:
                data = self.take(most)
            except Exception as error:
                done(None, error)
            else:
                done(data, None)

        if most:
            self.wait(wake)
        else:
            wake()
        return leave

    def take(self, most: int) -> bytes:
        """Return up to ``most`` of the bytes that wait, all when negative, ``b""`` at the end.

        :raises Exception: the error of ``end``, once nothing is left.
        """
        if not self.size or not most:
            if self.error is not None and most:
                raise self.error.with_traceback(None)
            return b""
        if most < 0:
            data = self._all()
        else:
            first = self._blocks[0]
            data = bytes(memoryview(first)[self._offset : self._offset + most])
            self._offset += len(data)
            if self._offset == len(first):
                self._blocks.popleft()
                self._offset = 0
        self.size -= len(data)
        self._free(len(data))
        return data

    def _all(self) -> bytes:
        if self._offset:
            self._blocks[0] = bytes(memoryview(self._blocks[0])[self._offset :])
            self._offset = 0
        first = self._blocks[0]
        data = first if len(self._blocks) == 1 and type(first) is bytes else b"".join(self._blocks)
        self._blocks.clear()
        return data

    def put_back(self, data: bytes) -> None:
        """Put back what a read took and cannot use: it is read next."""
        if not data:
            return
        if self._offset:
            self._blocks[0] = bytes(memoryview(self._blocks[0])[self._offset :])
            self._offset = 0
        self._blocks.appendleft(data)
        self.size += len(data)
        self._owed += len(data)

    def _wake_reader(self) -> None:
        wake, self._wake = self._wake, None
        if wake is not None:
            wake()

    def flow_to(self, on_bytes: Callable[[bytes | None], None] | None) -> None:
        """Push bytes from now on to ``on_bytes``, those that wait first; None goes back to keeping them."""
        self.on_bytes = on_bytes
        while self.size and self.on_bytes is not None:
            self.on_bytes(self.take(-1))
        if self.ended and self.on_bytes is not None:
            self.on_bytes(None)


def checked(most: object) -> int:
    """Return what is to be a number of bytes.

    :raises TypeError: it is something else.
    """
    if not isinstance(most, int):
        raise TypeError(f"read: expected a number of bytes, not {type(most).__name__}")
    return most
