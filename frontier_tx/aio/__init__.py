"""Clients of Frontier for asyncio programs: the same names as ``frontier_tx.clients``, as coroutines.

No reactor runs: the loop of the program carries everything. See docs/clients.md.
"""

from frontier_tx.aio.client import Client, Edge, Service
from frontier_tx.aio.cluster import ClusterService
from frontier_tx.aio.stream import Stream
from frontier_tx.clients.channel import Message, Request
from frontier_tx.clients.errors import HandlerError, NoSuchRPC, SendBufferFull
from frontier_tx.clients.intake import Bounds, Intake
from frontier_tx.clients.keeper import Backoff, ConnectFailed

__all__ = [
    "Backoff",
    "Bounds",
    "Client",
    "ClusterService",
    "ConnectFailed",
    "Edge",
    "HandlerError",
    "Intake",
    "Message",
    "NoSuchRPC",
    "Request",
    "SendBufferFull",
    "Service",
    "Stream",
]
