"""``frontier.v1.Peers``: everything the gateway knows of one peer."""

from collections.abc import Callable
from itertools import islice
from typing import Any

from frontier_tx.errors import EdgeNotOnline, ServiceNotOnline
from frontier_tx.rpc.access import certificate_names
from frontier_tx.rpc.context import CallContext
from frontier_tx.rpc.contract import Contract
from frontier_tx.rpc.status import RpcError, Status
from frontier_tx.switch.exchange import Exchange
from frontier_tx.switch.legs import Leg
from frontier_tx.switch.queries import text_of

MOST = 10_000
"""Methods, topics and streams that are shown of one peer."""


class PeersService:
    """Answers from the legs of an exchange.

    :param wall_clock: Unix seconds.
    """

    def __init__(self, contract: Contract, exchange: Exchange, wall_clock: Callable[[], float]) -> None:
        self._edge = contract.message("frontier.v1.EdgeDetails")
        self._service = contract.message("frontier.v1.ServiceDetails")
        self._stream = contract.message("frontier.v1.PeerStream")
        self._repository = exchange.repository
        self._timers = exchange.timers
        self._wall_clock = wall_clock

    def get_edge_details(self, request: Any, context: CallContext) -> Any:
        """One edge; NOT_FOUND when it is not online."""
        leg = self._repository.edges.get(request.edge_id)
        if leg is None:
            raise RpcError(Status.NOT_FOUND, EdgeNotOnline.text)
        return self.edge_details(leg)

    def edge_details(self, leg: Leg) -> Any:
        """An ``EdgeDetails``."""
        return self._edge(edge_id=leg.id, meta=text_of(leg.meta), **self._common(leg))

    def get_service_details(self, request: Any, context: CallContext) -> Any:
        """One service; NOT_FOUND when it is not online."""
        leg = self._repository.services.get(request.service_id)
        if leg is None:
            raise RpcError(Status.NOT_FOUND, ServiceNotOnline.text)
        return self._service(service_id=leg.id, service=leg.name, topics=leg.topics[:MOST], **self._common(leg))

    def _common(self, leg: Leg) -> dict[str, Any]:
        calls = sum(1 for pending in leg.pending.values() if pending.request)
        windows = [window for window in (leg.call_window, leg.message_window) if window is not None]
        waiting = sum(1 for pending in leg.pending.values() if pending.frame is not None) if windows else 0
        silence = max(0.0, self._timers.now() - leg.connection.watch.last_heard)
        socket: Any = getattr(leg.transport, "transport", None)
        return {
            "addr": leg.address,
            "create_time": int(leg.since),
            "methods": [text_of(method) for method in islice(leg.methods, MOST)],
            "streams": self._streams(leg),
            "bytes_in": leg.transport.bytes_in,
            "bytes_out": leg.transport.bytes_out,
            "calls_pending": calls,
            "messages_pending": len(leg.pending) - calls,
            "messages_waiting": waiting,
            "waiting_bytes": leg.waiting_bytes + leg.transport.unsent,
            "last_heard": int(self._wall_clock() - silence),
            "identity": next(iter(certificate_names(socket)), ""),
            "listener": _listener(socket),
            "protocol": "tls" if hasattr(socket, "getPeerCertificate") else leg.network,
        }

    def _streams(self, leg: Leg) -> list[Any]:
        shown = []
        for stream_id, end in islice(leg.streams.items(), MOST):
            other = end.other
            shown.append(
                self._stream(
                    stream_id=stream_id,
                    peer="" if other is None else f"{other.leg.kind.value}:{other.leg.id}",
                    bytes_in=end.bytes_in,
                    bytes_out=0 if other is None else other.bytes_in,
                )
            )
        return shown


def _listener(socket: Any) -> str:
    host: Any = socket.getHost() if socket is not None else None
    name = getattr(host, "host", "")
    return f"[{name}]:{host.port}" if ":" in name else f"{name}:{host.port}" if name else ""
