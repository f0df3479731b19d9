"""What a command ends with when it fails: an exit status for scripts, and a sentence for people."""

import errno
import os
import ssl
from enum import IntEnum
from typing import NoReturn

from frontier_tx import errors
from frontier_tx.errors import FrontierError


class Exit(IntEnum):
    """Exit statuses; docs/command-line.md explains them."""

    OK = 0
    PEER = 1
    USAGE = 2
    UNREACHABLE = 3
    NOT_FOUND = 4
    REFUSED = 5
    TIMEOUT = 6
    BUSY = 7
    CUT = 8
    BUG = 70
    INTERRUPTED = 130
    BROKEN_PIPE = 141
    TERMINATED = 143


class Failure(Exception):
    """Ends a command.

    :param text: a sentence that says what happened and, where it is known, what to do.
    """

    def __init__(self, code: Exit, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


def fail(code: Exit, text: str) -> NoReturn:
    """Raise a Failure."""
    raise Failure(code, text)


def unreachable(address: str, door: str, error: BaseException, hint: str) -> Failure:
    """Describe a connection that did not come about."""
    if isinstance(error, ssl.SSLCertVerificationError):
        why = f"its certificate does not verify ({error.verify_message}); --ca names the authority to trust"
        return Failure(Exit.UNREACHABLE, f"cannot connect to {door} at {address}: {why}")
    if isinstance(error, ssl.SSLError):
        why = (
            f"TLS failed ({error.reason or error}); does this port speak TLS, and does it want a certificate (--cert)?"
        )
        return Failure(Exit.UNREACHABLE, f"cannot connect to {door} at {address}: {why}")
    if isinstance(error, TimeoutError):
        return Failure(Exit.UNREACHABLE, f"cannot reach {door} at {address}: no answer in time. {hint}")
    return Failure(Exit.UNREACHABLE, f"cannot reach {door} at {address}: {reason(error)}. {hint}")


def reason(error: BaseException) -> str:
    """Say in the system's words what went wrong, not in asyncio's."""
    code = getattr(error, "errno", None)
    known = os.strerror(code) if isinstance(code, int) and code in errno.errorcode else getattr(error, "strerror", None)
    return known or str(error) or type(error).__name__


#: What errors of the client library mean, the special before the general, and what follows their text.
_KINDS: tuple[tuple[type[FrontierError], Exit, str], ...] = (
    (errors.EdgeNotOnline, Exit.NOT_FOUND, "; `frontier edges` lists those that are"),
    (errors.NoSuchRPC, Exit.NOT_FOUND, ""),
    (errors.RecordNotFound, Exit.NOT_FOUND, "; no service that is online has this method"),
    (errors.TopicNotOnline, Exit.NOT_FOUND, "; no service that is online takes this topic"),
    (errors.ServiceNotOnline, Exit.NOT_FOUND, "; no such service is online"),
    (errors.OperationTimeout, Exit.TIMEOUT, ": no answer in time; `--timeout` gives it longer"),
    (errors.ReceiverCongested, Exit.BUSY, "; it takes no more at the moment"),
    (errors.TooManyPending, Exit.BUSY, "; try again later"),
    (errors.SendBufferFull, Exit.BUSY, ""),
    (errors.PayloadTooLarge, Exit.USAGE, "; a file goes with `send`"),
    (errors.ConnectionRefused, Exit.REFUSED, ": so the gateway answered when this connected"),
    (errors.ConnectFailed, Exit.UNREACHABLE, ": the connection broke off while it was made; is this the right port?"),
    (errors.ForceClosed, Exit.CUT, "; whether it was done is not known"),
    (errors.EndClosed, Exit.CUT, ": the connection or the stream is gone"),
)
#: What follows ``force closed: `` where a stream ended before it began.
_CUTS = (("not online", Exit.NOT_FOUND), ("congested", Exit.BUSY))


def explained(error: FrontierError) -> Failure:
    """Return what an error of the client library means for whoever typed the command."""
    text = str(error) or type(error).__name__
    for found, code, more in _KINDS:
        if isinstance(error, found):
            if found is errors.EdgeNotOnline:
                # Frontlas has a text of its own for it.
                text = found.text
            for end, other in _CUTS if code is Exit.CUT else ():
                if text.endswith(end):
                    return Failure(other, text)
            return Failure(code, text + more)
    # Its class comes with the clients, which need not be loaded.
    return Failure(Exit.UNREACHABLE if type(error).__name__ == "FrontlasUnavailable" else Exit.PEER, text)
