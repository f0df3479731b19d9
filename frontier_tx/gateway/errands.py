"""What Frontlas asks of a gateway for the operators of the cluster."""

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from frontier_tx.atlas.messages import EDGE_DETAILS, KICK_EDGE, decode_edge
from frontier_tx.control_plane.kicks import Kicks
from frontier_tx.control_plane.peers import PeersService
from frontier_tx.errors import NO_SUCH_RPC, EdgeNotOnline, NoSuchRPC
from frontier_tx.rpc.contract import frontier_contract
from frontier_tx.runtime.logs import Logger
from frontier_tx.switch.presence import Presence

MOST_BYTES = 1_048_576
"""Bytes of the details of an edge; of longer ones the last methods and streams are left out."""


class Errands:
    """Answers the calls of Frontlas.

    :param wall_clock: Unix seconds.
    """

    log = Logger(namespace="frontier.atlas")

    def __init__(self, presence: Presence, clock: IReactorTime, wall_clock: Callable[[], float]) -> None:
        self._edges = presence.repository.edges
        self._peers = PeersService(frontier_contract(), presence.exchange, wall_clock)
        self._kicks = Kicks(presence, clock)

    def serve(self, method: str, value: bytes) -> "Deferred[bytes]":
        """Do what is called; see ``ILinkOwner.asked``."""
        return Deferred.fromCoroutine(self._serve(method, value))

    async def _serve(self, method: str, value: bytes) -> bytes:
        if method not in (EDGE_DETAILS, KICK_EDGE):
            raise NoSuchRPC(f"{NO_SUCH_RPC}{method}")
        leg = self._edges.get(decode_edge(value))
        if leg is None:
            raise EdgeNotOnline
        if method == KICK_EDGE:
            self.log.info("edge {id} is kicked: an operator asked Frontlas for it", id=leg.id)
            await self._kicks.kick(leg)
            return b""
        return bytes(shortened(self._peers.edge_details(leg)).SerializeToString())


def shortened(details: Any) -> Any:
    """The details of an edge, made to fit into one call."""
    while details.ByteSize() > MOST_BYTES and (details.methods or details.streams):
        del details.methods[len(details.methods) // 2 :], details.streams[len(details.streams) // 2 :]
    return details
