"""Calls and messages that go through a server to a peer: how many at once, and what becomes of their errors."""

from collections import Counter

from frontier_tx.errors import (
    NO_SUCH_RPC,
    Canceled,
    DeadlineExceeded,
    EdgeNotOnline,
    ForceClosed,
    MethodTooLong,
    OperationTimeout,
    PayloadTooLarge,
    ReceiverCongested,
    TooManyPending,
    TopicNotOnline,
)
from frontier_tx.rpc.addresses import address_key
from frontier_tx.rpc.status import RpcError, Status

AT_ONCE, BYTES_AT_ONCE = 1000, 67_108_864
"""Calls and messages under way, and the bytes of their requests."""
UNPROCESSABLE, TOO_LARGE = 422, 413

_OURS = {
    DeadlineExceeded.text: (Status.DEADLINE_EXCEEDED, "no answer came in time", None),
    OperationTimeout.text: (Status.DEADLINE_EXCEEDED, "no answer came within the gateway's limits.call_seconds", None),
    Canceled.text: (Status.CANCELLED, "the call was cancelled", None),
    ForceClosed.text: (Status.UNAVAILABLE, "the receiver's connection ended before it answered", None),
    EdgeNotOnline.text: (Status.NOT_FOUND, EdgeNotOnline.text, None),
    TopicNotOnline.text: (Status.NOT_FOUND, TopicNotOnline.text, None),
    MethodTooLong.text: (Status.INVALID_ARGUMENT, MethodTooLong.text, None),
    PayloadTooLarge.text: (Status.INVALID_ARGUMENT, "the receiver takes no frames of this size", TOO_LARGE),
    ReceiverCongested.text: (
        Status.RESOURCE_EXHAUSTED,
        "too much waits for the receiver already; try again later",
        None,
    ),
    TooManyPending.text: (Status.RESOURCE_EXHAUSTED, "too many calls are under way; try again later", None),
}


class UnderWay:
    """The calls and messages that are under way: a bounded number, with a bounded number of bytes.

    One address leaves as many places free as it has.
    """

    def __init__(self) -> None:
        self.number = self.bytes = 0
        self._by_address: Counter[str] = Counter()

    def take(self, size: int, peer: str) -> None:
        """One more of ``peer`` begins; raises ``RpcError`` RESOURCE_EXHAUSTED when there are too many."""
        address = address_key(peer.rpartition(":")[0])
        mine, free = self._by_address[address], AT_ONCE - self.number
        if free <= 0 or mine > free or self.bytes + size > BYTES_AT_ONCE:
            raise RpcError(Status.RESOURCE_EXHAUSTED, "too many calls and messages are under way; try again later")
        self._by_address[address] += 1
        self.number += 1
        self.bytes += size

    def give_back(self, size: int, peer: str) -> None:
        """One is over."""
        address = address_key(peer.rpartition(":")[0])
        self._by_address[address] -= 1
        if not self._by_address[address]:
            del self._by_address[address]
        self.number -= 1
        self.bytes -= size


def peers_error(text: str, reason: str) -> RpcError:
    """The error that a peer itself answered with. ``reason`` is EDGE_ERROR or SERVICE_ERROR."""
    if text.startswith(NO_SUCH_RPC):
        return RpcError(Status.NOT_FOUND, text, "NO_SUCH_RPC")
    return RpcError(Status.FAILED_PRECONDITION, text, reason, UNPROCESSABLE)


def own_error(text: str) -> RpcError:
    """The error for what a gateway says."""
    status, said, http_status = _OURS.get(text, (Status.UNAVAILABLE, text, None))
    return RpcError(status, said, None, http_status)
