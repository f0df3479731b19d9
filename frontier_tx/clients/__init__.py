"""Clients of Frontier for Twisted: edges, services, and streams that any Twisted protocol can run over.

``frontier_tx.aio`` has the same for asyncio. See docs/clients.md.
"""

from frontier_tx.clients import vocabulary
from frontier_tx.clients.client import Client, Edge, Service
from frontier_tx.clients.cluster.service import ClusterService
from frontier_tx.clients.stream import Stream
from frontier_tx.clients.vocabulary import *  # noqa: F403 - one list for both flavours

__all__ = ["Client", "ClusterService", "Edge", "Service", "Stream"]
__all__ += vocabulary.__all__
