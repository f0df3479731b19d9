"""The pid file of twistd: one that a dead process left behind must not keep the next one from starting."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

#: What stands in the command line of a process that may be a server under twistd.
_SERVERS = (b"twist", b"python", b"frontier", b"frontlas")
#: No process id is longer, but the file may be something else.
_MOST = 64


def discard_stale(path: str, program: str) -> list[str]:
    """Remove a pid file that belongs to no running server, and return what to log: one line or none.

    twistd sees to numbers of processes that are gone. It gives up at an empty file, which a crash or a full disk
    leaves, and takes any process with that number for the server: after the restart of a container, in which numbers
    come again, that is this process itself or a neighbour.

    :raises SystemExit: it is a folder, or cannot be read.
    """
    try:
        with open(path, "rb") as file:
            content = file.read(_MOST)
    except FileNotFoundError:
        return []
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise SystemExit(f"{program}: cannot read the pid file {path}: {reason}; --pidfile= means none") from None
    why = _why_stale(content)
    if not why:
        return []
    with suppress(OSError):
        os.remove(path)
    return [f"{path} was left behind ({why}) and has been removed"]


def is_held(path: str) -> bool:
    """Whether a file names a running process that may be a server."""
    try:
        content = Path(path).read_bytes()[:_MOST]
        return not _why_stale(content) and _is_there(int(content))
    except (OSError, ValueError):
        return False


def _why_stale(content: bytes) -> str:
    """Why it belongs to no running server; empty where it may, or where twistd finds out itself."""
    if not content.strip():
        return "it is empty"
    try:
        number = int(content)
    except ValueError:
        return "it holds no process id"
    if number in (os.getpid(), os.getppid()):
        return "it holds the number that this process has now"
    if not 0 < number < 1 << 31:
        return "it holds no process id"
    try:
        line = Path(f"/proc/{number}/cmdline").read_bytes()
    except OSError:
        return ""
    # While a program is being started its command line is empty.
    if line and not any(each in line for each in _SERVERS):
        return f"process {number} is another program"
    return ""


def _is_there(number: int) -> bool:
    try:
        os.kill(number, 0)
    except PermissionError:
        return True
    except OSError:
        return False
    return True
