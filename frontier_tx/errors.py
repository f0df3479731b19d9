"""Errors of this distribution: one class for each text that travels, whoever says it.

Ends tell an error by its text, so the texts here are part of the protocol (docs/clients.md, "Errors").
"""

from typing import Literal

#: Who found the error: this end, the gateway, the far end of the operation, or Frontlas.
Origin = Literal["caller", "gateway", "peer", "frontlas"]

#: How the answer to a call of an unknown method begins.
NO_SUCH_RPC = "no such rpc: "


class FrontierError(Exception):
    """Root of all errors that this software raises on purpose; the text is a sentence for a person."""

    #: Whether the text tells of addresses and the like, which are not for a peer to read.
    private = False


class ConfigError(FrontierError):
    """A configuration that cannot be used.

    ``problems`` holds one line of text per mistake, so that all mistakes can be fixed in one pass; ``str()`` joins them
    with line ends.
    """

    private = True

    def __init__(self, *problems: str) -> None:
        super().__init__(*problems)
        self.problems: tuple[str, ...] = problems

    @classmethod
    def at(cls, path: str, value: object, allowed: str) -> "ConfigError":
        """One problem: the dotted key ``path``, the ``value`` found there, and what is ``allowed`` instead."""
        shown = repr(value)
        if len(shown) > 80:
            shown = f"{shown[:80]}…"
        return cls(f"{path}: {shown} is not allowed; expected {allowed}")

    def __str__(self) -> str:
        return "\n".join(self.problems)


class OperationError(FrontierError):
    """A call, message, stream or connection failed.

    ``text`` is the text of the class, empty where each error has its own; ``origin`` says who found the error.

    :param text: instead of the text of the class.
    """

    text: str = ""
    origin: Origin = "caller"

    def __init__(self, text: str | None = None) -> None:
        super().__init__(self.text if text is None else text)


# -- found by either end or by the gateway ----------------------------------------------------------------


class OperationTimeout(OperationError, TimeoutError):
    """The time for the operation is over: the caller's ``timeout``, or the gateway's own limit."""

    text = "timeout"


class DeadlineExceeded(OperationTimeout):
    """The caller's ``deadline`` passed."""

    text = "context deadline exceeded"


class Canceled(OperationError):
    """The caller gave up."""

    text = "context canceled"


class ForceClosed(OperationError):
    """The connection or stream ended while the operation was pending, or before all of a stream had come.

    :param why: the reason, where one is known; the text then ends in it.
    """

    text = "force closed"

    def __init__(self, why: str = "") -> None:
        super().__init__(self.text if why in ("", self.text) else f"{self.text}: {why}")


class EndClosed(OperationError):
    """The connection or stream had already ended."""

    text = "EOF"


class MultiplexerClosed(OperationError):
    """A stream was to be opened on a connection that had already ended."""

    text = "operation on closed multiplexer"


class PayloadTooLarge(OperationError):
    """The frame would be larger than its receiver accepts."""

    text = "packet payload too large"


class TooManyPending(OperationError):
    """As many calls, messages or streams are under way as the limit allows."""

    text = "too many pending"


class SendBufferFull(OperationError):
    """The peer does not take what waits for it, and the bound on that is reached."""

    text = "send buffer full: the peer does not take what is sent to it"


class ConnectFailed(OperationError):
    """The connection did not come about."""

    private = True


class HandlerError(FrontierError):
    """Raise it in a handler: its text reaches the caller as it is."""


class UnusableResult(OperationError, TypeError):
    """A handler returned what is no answer."""


# -- answers ----------------------------------------------------------------------------------------------


class RemoteError(OperationError):
    """The other side said no; where it is not a subclass the text is the far end's own, byte for byte."""

    origin: Origin = "peer"


class ConnectionRefused(RemoteError):
    """The gateway did not let this client in; the text is its reason."""

    origin = "gateway"


class NoSuchRPC(RemoteError):
    """The far end has no handler for the method; the text ends in its name."""


class GatewayError(RemoteError):
    """The gateway said no."""

    origin: Origin = "gateway"


class EdgeNotOnline(GatewayError):
    """A call, message or kick for an edge that is not connected here."""

    text = "edge not online"


class RecordNotFound(GatewayError):
    """An edge called a method that no service has registered."""

    text = "record not found"


class TopicNotOnline(GatewayError):
    """An edge published to a topic that nobody takes."""

    text = "topic not online"


class ServiceNotOnline(GatewayError):
    """No service hands out edge ids and the gateway may not allocate them; or the service is unknown."""

    text = "service not online"


class ReceiverCongested(GatewayError):
    """The receiver has not taken what is waiting for it, and the buffer for it is full."""

    text = "receiver congested"


class IllegalEdgeID(GatewayError):
    """``get_edge_id`` answered other than 8 bytes, or a service named no edge in ``custom``."""

    text = "illegal edgeID"


class NoID(GatewayError):
    """The allocator that was plugged in made no id that can be given out."""

    text = "no id could be allocated"


class NoChoice(GatewayError):
    """The policy that was plugged in chose none of the services that could be asked."""

    text = "no service could be chosen"


class MetaTooLarge(GatewayError):
    """A newcomer brings more than the gateway can remember for it."""

    text = "meta too large"


class Replaced(GatewayError):
    """Another connection with the same id came."""

    text = "replaced by another connection with the same id"


class ServiceOnline(GatewayError):
    """A service that hands out ids came after an edge that has one of the gateway's choice."""

    text = "a service that hands out edge ids has come; connect again"


class MethodTooLong(GatewayError):
    """The name of a method is longer than the gateway's limit allows, in a call or in a Register."""

    text = "method name too long"


class TooManyMethods(GatewayError):
    """A connection registers more methods than the gateway's limit allows."""

    text = "too many methods"


#: What an answer with one of these texts is raised as. Not the two of closed connections: who answers so speaks of
#: a connection of its own, and what fails here with these classes was certainly not sent.
_BOTH: tuple[type[OperationError], ...] = (
    OperationTimeout,
    DeadlineExceeded,
    Canceled,
    ForceClosed,
    PayloadTooLarge,
    TooManyPending,
)
_ANSWERS: dict[str, type[OperationError]] = {made.text: made for made in (*_BOTH, *GatewayError.__subclasses__())}


def from_answer(text: str) -> OperationError:
    """Return the error for an answer with this text.

    A far end may answer with a text of the gateway's, as an edge that passes an error on; nothing on the wire tells one
    from the other, and ``origin`` is then "gateway".
    """
    made = _ANSWERS.get(text)
    if made is None:
        return NoSuchRPC(text) if text.startswith(NO_SUCH_RPC) else RemoteError(text)
    error = made()
    error.origin = "gateway"
    return error
