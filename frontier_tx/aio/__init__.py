"""Clients of Frontier for asyncio programs: the same names as ``frontier_tx.clients``, as coroutines.

No reactor runs: the loop of the program carries everything. See docs/clients.md.
"""

from frontier_tx.aio.client import Client, Edge, Service
from frontier_tx.aio.cluster import ClusterService
from frontier_tx.aio.stream import Stream
from frontier_tx.clients.atlas import FrontlasUnavailable, LookupRefused, UnknownEdge
from frontier_tx.clients.errors import (
    Canceled,
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
from frontier_tx.clients.intake import Bounds, Intake
from frontier_tx.clients.keeper import Backoff, ConnectFailed
from frontier_tx.clients.operations import Message, Request

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
    "EdgeNotOnline",
    "EndClosed",
    "ForceClosed",
    "FrontierError",
    "FrontlasUnavailable",
    "HandlerError",
    "Intake",
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
