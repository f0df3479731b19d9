"""Clients of Frontier for asyncio programs: the same names as ``frontier_tx.clients``, as coroutines.

No reactor runs: the loop of the program carries everything. See docs/clients.md.
"""

from frontier_tx.aio.client import Client, Edge, Service
from frontier_tx.aio.cluster import ClusterService
from frontier_tx.aio.stream import Stream
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
    HandlerError,
    NoSuchRPC,
    OperationTimeout,
    PayloadTooLarge,
    ReceiverCongested,
    RecordNotFound,
    RemoteError,
    SendBufferFull,
    TooManyPending,
    TopicNotOnline,
)
from frontier_tx.wire.limits import Limits

__all__ = [
    "Backoff",
    "Bounds",
    "Canceled",
    "Client",
    "ClusterService",
    "ConnectFailed",
    "ConnectionRefused",
    "DeadlineExceeded",
    "Edge",
    "EdgeEvent",
    "EdgeNotOnline",
    "EndClosed",
    "ForceClosed",
    "FrontierError",
    "FrontierState",
    "FrontlasUnavailable",
    "HandlerError",
    "Intake",
    "Limits",
    "LookupRefused",
    "Message",
    "NoSuchRPC",
    "OperationTimeout",
    "PayloadTooLarge",
    "ReceiverCongested",
    "RecordNotFound",
    "RemoteError",
    "Request",
    "SendBufferFull",
    "Service",
    "Stream",
    "TooManyPending",
    "TopicNotOnline",
    "UnknownEdge",
]
