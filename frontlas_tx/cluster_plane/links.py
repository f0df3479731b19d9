"""What Frontlas asks of the Frontiers that report to it, over their links (port 40012)."""

from __future__ import annotations

from collections.abc import Callable

from frontier_tx.atlas.messages import EDGE_DETAILS, KICK_EDGE, encode_edge
from frontier_tx.atlas.protocols import AtlasServerProtocol
from frontier_tx.errors import EdgeNotOnline, ForceClosed, NoSuchRPC, OperationError, OperationTimeout, TooManyPending
from frontier_tx.rpc.status import RpcError, Status

SECONDS = 8.0
"""For one question; a Frontier gives an edge that is kicked 5 s for its goodbye."""


class FrontierLinks:
    """Asks Frontiers.

    :param link_of: the link of a Frontier that reports here, None of any other.
    """

    def __init__(self, link_of: Callable[[str], AtlasServerProtocol | None]) -> None:
        self._link_of = link_of

    async def edge_details(self, frontier_id: str, edge_id: int) -> bytes:
        """A ``frontier.v1.EdgeDetails``; raises ``RpcError``."""
        return await self._ask(frontier_id, EDGE_DETAILS, edge_id)

    async def kick_edge(self, frontier_id: str, edge_id: int) -> None:
        """Close the connection of an edge; raises ``RpcError``."""
        await self._ask(frontier_id, KICK_EDGE, edge_id)

    async def _ask(self, frontier_id: str, method: str, edge_id: int) -> bytes:
        link = self._link_of(frontier_id)
        if link is None:
            text = f"frontier {frontier_id} does not report to this Frontlas; ask the one that it reports to"
            raise RpcError(Status.UNAVAILABLE, text)
        if link.meta is not None and not link.meta.version:
            raise _too_old(frontier_id)
        try:
            return await link.call(method, encode_edge(edge_id), SECONDS)
        except NoSuchRPC:
            raise _too_old(frontier_id) from None
        except EdgeNotOnline as error:
            raise RpcError(Status.NOT_FOUND, error.text) from None
        except OperationTimeout:
            raise RpcError(Status.DEADLINE_EXCEEDED, f"frontier {frontier_id} did not answer in time") from None
        except TooManyPending:
            text = f"too much is being asked of frontier {frontier_id}; try again later"
            raise RpcError(Status.RESOURCE_EXHAUSTED, text) from None
        except ForceClosed:
            raise RpcError(Status.UNAVAILABLE, f"the link to frontier {frontier_id} ended meanwhile") from None
        except OperationError as error:
            raise RpcError(Status.UNAVAILABLE, f"frontier {frontier_id}: {error}") from error


def _too_old(frontier_id: str) -> RpcError:
    text = f"frontier {frontier_id} is of the Go implementation or too old: it knows no such question"
    return RpcError(Status.UNIMPLEMENTED, text)
