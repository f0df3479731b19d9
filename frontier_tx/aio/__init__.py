"""Clients of Frontier for asyncio programs: the same names as ``frontier_tx.clients``, as coroutines.

No reactor runs: the loop of the program carries everything. See docs/clients.md.
"""

from frontier_tx.aio.client import Client, Edge, Service
from frontier_tx.aio.cluster import ClusterService
from frontier_tx.aio.stream import Stream
from frontier_tx.clients import vocabulary
from frontier_tx.clients.vocabulary import *  # noqa: F403 - one list for both flavours

__all__ = ["Client", "ClusterService", "Edge", "Service", "Stream"]
__all__ += vocabulary.__all__
