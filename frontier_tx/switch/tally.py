"""What became of calls and messages, and how long they took: for the metrics."""

from frontier_tx.errors import (
    NO_SUCH_RPC,
    Canceled,
    DeadlineExceeded,
    EdgeNotOnline,
    ForceClosed,
    IllegalEdgeID,
    MethodTooLong,
    NoChoice,
    OperationTimeout,
    PayloadTooLarge,
    ReceiverCongested,
    RecordNotFound,
    ServiceNotOnline,
    TooManyPending,
    TopicNotOnline,
)
from frontier_tx.runtime.histogram import Histogram
from frontier_tx.wire.body import UNFIT

#: The receiver said no, or has no such method; it answered, and the caller could not be given that answer.
PEER_ERROR, NO_SUCH_METHOD, UNDELIVERABLE = "peer_error", "no_such_method", "undeliverable"
#: Who asked has gone.
CALLER_GONE = "caller_gone"
_ANSWERED = (PEER_ERROR, UNDELIVERABLE)
#: What the gateway says itself, and the outcome that this is.
OUTCOMES = {
    RecordNotFound.text: "no_receiver",
    EdgeNotOnline.text: "no_receiver",
    TopicNotOnline.text: "no_receiver",
    ServiceNotOnline.text: "no_receiver",
    NoChoice.text: "no_receiver",
    OperationTimeout.text: "timeout",
    DeadlineExceeded.text: "deadline",
    Canceled.text: "canceled",
    ForceClosed.text: "receiver_gone",
    ReceiverCongested.text: "congested",
    TooManyPending.text: "congested",
    PayloadTooLarge.text: "too_large",
    MethodTooLong.text: "invalid",
    IllegalEdgeID.text: "invalid",
    UNFIT: "invalid",
}


class Tally(Histogram):
    """Outcomes of the calls, or of the messages, of one direction, and how long the receivers took to answer."""

    __slots__ = ("_others",)

    def __init__(self) -> None:
        super().__init__()
        self._others = dict.fromkeys(("ok", PEER_ERROR, NO_SUCH_METHOD, UNDELIVERABLE, CALLER_GONE), 0)
        self._others.update(dict.fromkeys(OUTCOMES.values(), 0))

    def refused(self, text: str) -> None:
        """The receiver's answer, which is noted, is an error."""
        self._others[NO_SUCH_METHOD if text.startswith(NO_SUCH_RPC) else PEER_ERROR] += 1

    def undeliverable(self) -> None:
        """An answer, which is noted, could not be given to who asked."""
        self._others[UNDELIVERABLE] += 1

    def failed(self, text: str) -> None:
        """It ended without an answer of the receiver; ``text`` is what the gateway said."""
        self._others[OUTCOMES.get(text, PEER_ERROR)] += 1

    def settled(self, text: str) -> None:
        """It ended elsewhere than at a peer, well where ``text`` is empty."""
        self._others[OUTCOMES.get(text, PEER_ERROR) if text else "ok"] += 1

    def left(self) -> None:
        """Who asked has gone before the answer."""
        self._others[CALLER_GONE] += 1

    def outcomes(self) -> dict[str, int]:
        """How many ended in which way, each once."""
        others = self._others
        ok = others["ok"] + sum(self.classes) - sum(others[name] for name in (*_ANSWERED, NO_SUCH_METHOD))
        return {**others, "ok": ok}
