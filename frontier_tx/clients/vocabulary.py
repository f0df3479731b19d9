"""What programs of both flavours import besides clients and streams."""

from frontier_tx.backoff import Backoff
from frontier_tx.clients.cluster.frontlas_client import FrontlasUnavailable, LookupRefused, UnknownEdge
from frontier_tx.clients.cluster.member import FrontierState
from frontier_tx.clients.core.intake import Bounds, Intake
from frontier_tx.clients.core.operations import Message, Request
from frontier_tx.clients.core.presence import EdgeEvent
from frontier_tx.errors import (
    Canceled,
    ConnectFailed,
    ConnectionRefused,
    DeadlineExceeded,
    EdgeNotOnline,
    EndClosed,
    ForceClosed,
    FrontierError,
    GatewayError,
    HandlerError,
    NoSuchRPC,
    OperationError,
    OperationTimeout,
    PayloadTooLarge,
    ReceiverCongested,
    RecordNotFound,
    RemoteError,
    SendBufferFull,
    ServiceNotOnline,
    TooManyPending,
    TopicNotOnline,
)
from frontier_tx.wire.limits import Limits

__all__ = [
    "Backoff",
    "Bounds",
    "Canceled",
    "ConnectFailed",
    "ConnectionRefused",
    "DeadlineExceeded",
    "EdgeEvent",
    "EdgeNotOnline",
    "EndClosed",
    "ForceClosed",
    "FrontierError",
    "FrontierState",
    "FrontlasUnavailable",
    "GatewayError",
    "HandlerError",
    "Intake",
    "Limits",
    "LookupRefused",
    "Message",
    "NoSuchRPC",
    "OperationError",
    "OperationTimeout",
    "PayloadTooLarge",
    "ReceiverCongested",
    "RecordNotFound",
    "RemoteError",
    "Request",
    "SendBufferFull",
    "ServiceNotOnline",
    "TooManyPending",
    "TopicNotOnline",
    "UnknownEdge",
]
