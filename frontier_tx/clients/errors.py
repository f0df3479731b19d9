"""Errors of the clients: all that a program may want to catch can be imported from here.

What a peer or the gateway answered is a ``RemoteError`` whose text is the answer's, byte for byte. Where the text is
one of the gateway's own, the error is also an instance of the class of ``frontier_tx.switch.errors`` that has this
text, so ``except EdgeNotOnline`` catches it.
"""

from secrets import randbelow

from frontier_tx.errors import FrontierError
from frontier_tx.switch import errors as gateway
from frontier_tx.switch.errors import (
    EdgeNotOnline,
    FarSideClosed,
    IllegalEdgeID,
    ReceiverCongested,
    RecordNotFound,
    ServiceNotOnline,
    Timeout,
    TopicNotOnline,
)
from frontier_tx.wire.errors import (
    Canceled,
    ConnectionRefused,
    DeadlineExceeded,
    EndClosed,
    ForceClosed,
    LocalError,
    OperationTimeout,
    PayloadTooLarge,
    RemoteError,
    TooManyPending,
)

__all__ = [
    "Canceled",
    "ConnectionRefused",
    "DeadlineExceeded",
    "EdgeNotOnline",
    "EndClosed",
    "FarSideClosed",
    "ForceClosed",
    "FrontierError",
    "HandlerError",
    "IllegalEdgeID",
    "LocalError",
    "NoSuchRPC",
    "OperationTimeout",
    "PayloadTooLarge",
    "ReceiverCongested",
    "RecordNotFound",
    "RemoteError",
    "SendBufferFull",
    "ServiceNotOnline",
    "Timeout",
    "TooManyPending",
    "TopicNotOnline",
]

NO_SUCH_RPC = "no such rpc: "
#: Characters of an error that a handler may send, and bytes of a method's name that a refusal repeats.
LONGEST_TEXT = 65_536
LONGEST_NAME = 1024


class HandlerError(FrontierError):
    """Raise it in a handler: its text reaches the caller as it is."""


class UnusableResult(LocalError, TypeError):
    """A handler returned what is no answer."""


class SendBufferFull(LocalError):
    """The peer does not take what waits for it, and the bound on that is reached."""

    def __init__(self) -> None:
        super().__init__("send buffer full: the peer does not take what is sent to it")


class NoSuchRPC(RemoteError):
    """The other end has no handler for the method."""


def remote_error(text: str) -> RemoteError:
    """Return the error for an answer with this text."""
    made = _CLASSES.get(text)
    if made is not None:
        return made(text)
    return NoSuchRPC(text) if text.startswith(NO_SUCH_RPC) else RemoteError(text)


def no_such_rpc(method: bytes) -> str:
    """Return what the caller of a method reads that nobody answers; the name is cut, and made readable."""
    cut = "..." if len(method) > LONGEST_NAME else ""
    return NO_SUCH_RPC + method[:LONGEST_NAME].decode("utf-8", "replace") + cut


def fitting(text: str) -> str:
    """Return an error's text as it can travel: not too long, and nothing in it that no end can read."""
    return text[:LONGEST_TEXT].encode("utf-8", "replace").decode()


def spoken_text(error: BaseException) -> str:
    """Return what an error that is meant for the peer says; empty where it is not meant for him.

    Meant for him are the errors of this distribution, one that a handler got from a call of its own included, but for
    those that tell of addresses.
    """
    if isinstance(error, FrontierError) and not error.private:
        return fitting(str(error) or type(error).__name__)
    return ""


def reference() -> str:
    """Make a number under which the log has what a caller does not get to read."""
    return f"{randbelow(10**10):010}"


def _combined(found: type[gateway.ForwardError]) -> type[RemoteError]:
    # The gateway's classes take no argument; here the text is given, as to any remote error.
    return type(found.__name__, (RemoteError, found), {"__init__": Exception.__init__, "__doc__": found.__doc__})


_CLASSES = {found.text: _combined(found) for found in gateway.ForwardError.__subclasses__()}
