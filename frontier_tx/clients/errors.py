"""Errors of the clients: all that a program may want to catch can be imported from here.

What a peer or the gateway answered is a ``RemoteError`` whose text is the answer's, byte for byte. Where the text is
one of the gateway's own, the error is also an instance of the class of ``frontier_tx.switch.errors`` that has this
text, so ``except EdgeNotOnline`` catches it.
"""

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
#: Characters of an error that a handler may send.
LONGEST_TEXT = 65_536


class HandlerError(FrontierError):
    """Raise it in a handler: its text reaches the caller as it is."""


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


def handler_text(error: BaseException) -> str:
    """Return what the caller gets to read when a handler raised ``error``; never empty.

    Errors of this distribution speak for themselves, one that a handler got from a call of its own included. Of any
    other the caller learns class and text.
    """
    if isinstance(error, FrontierError):
        text = str(error) or type(error).__name__
    else:
        text = f"rpc handler failed: {type(error).__name__}: {error}".removesuffix(": ")
    return text[:LONGEST_TEXT].encode("utf-8", "replace").decode()


def _combined(found: type[gateway.ForwardError]) -> type[RemoteError]:
    # The gateway's classes take no argument; here the text is given, as to any remote error.
    return type(found.__name__, (RemoteError, found), {"__init__": Exception.__init__, "__doc__": found.__doc__})


_CLASSES = {found.text: _combined(found) for found in gateway.ForwardError.__subclasses__()}
