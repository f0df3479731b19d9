"""Clients of Frontier for Twisted: edges, services, and streams that any Twisted protocol can run over.

``frontier_tx.aio`` has the same for asyncio. See docs/clients.md.
"""

from frontier_tx.clients.channel import Message, Request
from frontier_tx.clients.client import Client, Edge, Service
from frontier_tx.clients.cluster import ClusterService
from frontier_tx.clients.errors import HandlerError, NoSuchRPC, SendBufferFull
from frontier_tx.clients.intake import Bounds, Intake
from frontier_tx.clients.keeper import Backoff, ConnectFailed
from frontier_tx.clients.stream import Stream

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
