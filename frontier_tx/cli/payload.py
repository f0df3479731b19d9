"""What a command sends: an argument, standard input or a file."""

import os
import sys
from collections.abc import Iterator

from frontier_tx.cli.failures import Exit, fail

#: Bytes that one call or message can carry at the very most; a gateway may take less.
MOST_BYTES = 16 << 20

DATA_HELP = "DATA is a text, `-` for standard input or `@FILE`; nothing where it is left out."


def payload(data: str | None) -> bytes:
    """Return the bytes that an argument stands for.

    :raises Failure: a file that cannot be read, or more than fits into a call.
    """
    if data is None:
        return b""
    if data == "-":
        found = sys.stdin.buffer.read(MOST_BYTES + 1)
    elif data.startswith("@"):
        try:
            with open(data[1:], "rb") as file:
                found = file.read(MOST_BYTES + 1)
        except OSError as error:
            fail(Exit.USAGE, f"cannot read {data[1:]}: {error.strerror}")
    else:
        found = os.fsencode(data)
    if len(found) > MOST_BYTES:
        fail(Exit.USAGE, f"more than {MOST_BYTES} bytes do not fit into one message; a file goes with `frontier send`")
    return found


def messages(data: str | None, lines: bool) -> Iterator[bytes]:
    """Yield the messages that an argument stands for: one, or one for each line, read as they come."""
    if not lines:
        yield payload(data)
        return
    if data not in (None, "-") and not str(data).startswith("@"):
        yield from payload(data).split(b"\n")
        return
    try:
        with sys.stdin.buffer if data in (None, "-") else open(str(data)[1:], "rb") as file:
            while line := file.readline(MOST_BYTES):
                yield line.rstrip(b"\n")
    except OSError as error:
        fail(Exit.USAGE, f"cannot read {str(data)[1:]}: {error.strerror}")
