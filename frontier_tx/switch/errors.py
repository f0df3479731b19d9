"""Errors that the gateway answers with. The text is what travels; SDKs compare it (docs/gateway.md, "Errors")."""

from frontier_tx.errors import FrontierError


class ForwardError(FrontierError):
    """Root of the gateway's own answers."""

    text = ""

    def __init__(self) -> None:
        super().__init__(self.text)


class EdgeNotOnline(ForwardError):
    """A call, message or kick for an edge that is not connected here."""

    text = "edge not online"


class RecordNotFound(ForwardError):
    """An edge called a method that no service has registered."""

    text = "record not found"


class TopicNotOnline(ForwardError):
    """An edge published to a topic that nobody takes."""

    text = "topic not online"


class ServiceNotOnline(ForwardError):
    """No service hands out edge ids and the gateway may not allocate them; or a kick of an unknown service."""

    text = "service not online"


class NoID(ForwardError):
    """The allocator that was plugged in made no id that can be given out."""

    text = "no id could be allocated"


class NoChoice(ForwardError):
    """The policy that was plugged in chose none of the services that could be asked."""

    text = "no service could be chosen"


class MetaTooLarge(ForwardError):
    """A newcomer brings more than the gateway can remember for it."""

    text = "meta too large"


class Replaced(ForwardError):
    """Another connection with the same id came."""

    text = "replaced by another connection with the same id"


class ServiceOnline(ForwardError):
    """A service that hands out ids came after an edge that has one of the gateway's choice."""

    text = "a service that hands out edge ids has come; connect again"


class IllegalEdgeID(ForwardError):
    """``get_edge_id`` answered other than 8 bytes, or a service named no edge in ``custom``."""

    text = "illegal edgeID"


class Timeout(ForwardError):
    """The gateway's own time limit for a call or a message ran out."""

    text = "timeout"


class FarSideClosed(ForwardError):
    """The far connection or stream ended while something was pending."""

    text = "force closed"


class CallCanceled(ForwardError):
    """The caller withdrew the call."""

    text = "context canceled"


class CallerDeadlineExceeded(ForwardError):
    """The caller's own deadline passed."""

    text = "context deadline exceeded"


class FrameTooLarge(ForwardError):
    """The frame would be larger than the receiver accepts."""

    text = "packet payload too large"


class PendingLimit(ForwardError):
    """The sender has as many calls and messages under way as the gateway's limit allows."""

    text = "too many pending"


class MethodTooLong(ForwardError):
    """The name of a method is longer than the gateway's limit allows, in a call or in a Register."""

    text = "method name too long"


class ReceiverCongested(ForwardError):
    """The receiver has not taken what is waiting for it, and the gateway's buffer for it is full."""

    text = "receiver congested"


def by_text(text: str) -> type[ForwardError] | None:
    """Return the class whose text this is, or None when the text is the far side's own."""
    return _BY_TEXT.get(text)


_BY_TEXT = {error.text: error for error in ForwardError.__subclasses__()}
