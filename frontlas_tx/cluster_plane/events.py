"""``frontlas.v1.Events``: the same changes as ``ClusterWatch`` tells, named as a Frontier names its events."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from twisted.internet.interfaces import IReactorTime

from frontier_tx.rpc.context import CallContext
from frontier_tx.rpc.contract import Contract
from frontier_tx.rpc.event_stream import chosen_kinds
from frontlas_tx.cluster_plane.watch import Teller
from frontlas_tx.registry.interfaces import IRegistry
from frontlas_tx.registry.records import Change, ChangeKind, EdgeRecord, FrontierRecord, ServiceRecord

_CHANGES = {
    "frontier_online": ChangeKind.FRONTIER_UP,
    "frontier_offline": ChangeKind.FRONTIER_DOWN,
    "edge_online": ChangeKind.EDGE_ONLINE,
    "edge_offline": ChangeKind.EDGE_OFFLINE,
    "service_online": ChangeKind.SERVICE_ONLINE,
    "service_offline": ChangeKind.SERVICE_OFFLINE,
}
_NAMES = {change: kind for kind, change in _CHANGES.items()}
_BARE = {"SNAPSHOT_BEGIN": "", "SNAPSHOT_END": "snapshot_end", "LAGGED": "lost"}
#: "draining" is asked for by whoever follows a Frontier in the same way.
KINDS = (*_CHANGES, "snapshot_end", "lost", "draining")


class ClusterEvents(Teller):
    """Answers ``Events``."""

    def __init__(self, contract: Contract, registry: IRegistry, clock: IReactorTime) -> None:
        super().__init__(registry, clock)
        self._event = contract.message("frontlas.v1.Event")

    async def watch(self, request: Any, context: CallContext) -> AsyncIterator[Any]:
        """Events from now on, with the state before them if asked for."""
        kinds = chosen_kinds(request.kinds, KINDS)
        number = snapshots = 0
        changes = [change for kind, change in _CHANGES.items() if kind in kinds]
        async for event in self.follow(changes, bool(request.snapshot), context.turn):
            if not event.kind:
                snapshots += 1
                if snapshots == 1:
                    continue
                event.kind = "lost"
            number += 1
            event.id = number
            event.time = self.registry.seconds()
            yield event

    def bare(self, kind: str) -> Any:
        return self._event(kind=_BARE[kind])

    def of_frontier(self, record: FrontierRecord) -> Any:
        return self._event(kind="frontier_online", frontier_id=record.frontier_id, addr=record.advertised_sb_addr)

    def of_edge(self, record: EdgeRecord) -> Any:
        return self._event(
            kind="edge_online", frontier_id=record.frontier_id, edge_id=record.edge_id, addr=record.addr,
            meta=record.meta,
        )  # fmt: skip

    def of_service(self, record: ServiceRecord) -> Any:
        return self._event(
            kind="service_online", frontier_id=record.frontier_id, service_id=record.service_id, addr=record.addr,
            service=record.service,
        )  # fmt: skip

    async def of_change(self, change: Change) -> Any:
        event = self._event(kind=_NAMES[change.kind], frontier_id=change.frontier_id)
        if change.addr:
            event.addr = change.addr
        if change.service:
            event.service = change.service
        if change.kind in (ChangeKind.EDGE_ONLINE, ChangeKind.EDGE_OFFLINE):
            event.edge_id = change.peer_id
        elif change.peer_id:
            event.service_id = change.peer_id
        return event
