"""A folder in which others may put files, or from which they may take some, and nothing beside it."""

import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from frontier_tx.cli.failures import Exit, fail

_NAME_BYTES = 200
_LISTED = 1000


class Unusable(Exception):
    """A name or a file that is not taken or given; the text is for the peer."""


class Folder:
    """Names come from peers: each is one component, and no link is followed.

    :param most: bytes of one file; ``most_together`` of all that are taken while the command runs.
    """

    def __init__(self, path: str, most: int = 0, most_together: int = 0, replacing: bool = False) -> None:
        self.path = Path(path)
        self.most = most
        self.most_together = most_together
        self.replacing = replacing
        #: Bytes of files that were taken, and of those that are on their way.
        self.taken = 0
        try:
            self._handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            fail(Exit.USAGE, f"cannot use the folder {path}: {error.strerror}")

    @contextmanager
    def incoming(self, name: str) -> Iterator["Incoming"]:
        """Write a file under a name of its own; it gets ``name`` with ``keep``, and is removed otherwise."""
        checked(name)
        if not self.replacing:
            self._absent(name)
        temporary = f".{secrets.token_hex(8)}.part"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        handle = os.open(temporary, flags, 0o600, dir_fd=self._handle)
        arriving = Incoming(self, os.fdopen(handle, "wb"), temporary, name)
        try:
            yield arriving
        finally:
            arriving.drop()

    def _absent(self, name: str) -> None:
        try:
            os.stat(name, dir_fd=self._handle, follow_symlinks=False)
        except FileNotFoundError:
            return
        raise Unusable(f"there is a file {name!r} already")

    def outgoing(self, name: str) -> tuple[BinaryIO, int]:
        """Open a regular file of the folder; return it with its size.

        :raises Unusable: there is none of this name.
        """
        checked(name)
        try:
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            handle = os.open(name, flags, dir_fd=self._handle)
        except OSError:
            raise Unusable(f"there is no file {name!r}") from None
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            os.close(handle)
            raise Unusable(f"there is no file {name!r}")
        return os.fdopen(handle, "rb"), status.st_size

    def names(self) -> list[tuple[str, int]]:
        """The files that are given, with their sizes; at most 1000."""
        found = []
        for entry in os.scandir(self._handle):
            with suppress(OSError, Unusable, ValueError):
                checked(entry.name)
                if entry.is_file(follow_symlinks=False):
                    found.append((entry.name, entry.stat(follow_symlinks=False).st_size))
        return sorted(found)[:_LISTED]


class Incoming:
    """A file that is being written."""

    def __init__(self, folder: Folder, file: BinaryIO, temporary: str, name: str) -> None:
        self._folder = folder
        self._file = file
        self._temporary = temporary
        self._name = name
        self._kept = False
        self.size = 0

    def write(self, data: bytes) -> None:
        """Append; Unusable beyond the bounds of the folder."""
        folder = self._folder
        if folder.most and self.size + len(data) > folder.most:
            raise Unusable(f"the file is larger than {folder.most} bytes")
        if folder.most_together and folder.taken + len(data) > folder.most_together:
            raise Unusable("the folder takes no more")
        self.size += len(data)
        folder.taken += len(data)
        self._file.write(data)

    def keep(self) -> None:
        """Give the file its name, when it is on the disk; Unusable where there is one meanwhile."""
        self._file.flush()
        os.fsync(self._file.fileno())
        handle = self._folder._handle
        if self._folder.replacing:
            os.rename(self._temporary, self._name, src_dir_fd=handle, dst_dir_fd=handle)
        else:
            try:
                os.link(self._temporary, self._name, src_dir_fd=handle, dst_dir_fd=handle, follow_symlinks=False)
            except FileExistsError:
                raise Unusable(f"there is a file {self._name!r} already") from None
            os.unlink(self._temporary, dir_fd=handle)
        self._kept = True

    def drop(self) -> None:
        """Close it; without ``keep`` nothing stays of it."""
        self._file.close()
        if not self._kept:
            self._folder.taken -= self.size
            with suppress(OSError):
                os.unlink(self._temporary, dir_fd=self._folder._handle)


def checked(name: str) -> str:
    """Return a name that a file can have in a folder and that hides nothing; Unusable where it is none."""
    if (
        not name
        or name.startswith(".")
        or "/" in name
        or "\\" in name
        or not name.isprintable()
        or len(name.encode("utf-8", "surrogatepass")) > _NAME_BYTES
    ):
        raise Unusable("this is no name of a file: one component, printable, without a dot in front")
    return name
