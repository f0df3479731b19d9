"""Clients of Frontier for Twisted: edges, services, and streams that any Twisted protocol can run over.

``frontier_tx.aio`` has the same for asyncio. See docs/clients.md.
"""

from frontier_tx.backoff import Backoff
from frontier_tx.clients.client import Client, Edge, Service
from frontier_tx.clients.cluster.frontlas_client import FrontlasUnavailable, LookupRefused, UnknownEdge
from frontier_tx.clients.cluster.member import FrontierState
from frontier_tx.clients.cluster.service import ClusterService
from frontier_tx.clients.core.intake import Bounds, Intake
from frontier_tx.clients.core.operations import Message, Request
from frontier_tx.clients.core.presence import EdgeEvent
from frontier_tx.clients.stream import Stream
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
