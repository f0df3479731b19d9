"""The frontier plane: Frontiers report here (port 40012), and the registry learns of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from frontier_tx.atlas.messages import (
    EVENTS,
    FRONTIER_STATS,
    SYNC_BEGIN,
    SYNC_END,
    BadEvent,
    FrontierMeta,
    PeerEvent,
    decode_events,
)
from frontier_tx.atlas.protocols import AtlasServerProtocol, IAtlas
from frontlas_tx.registry.errors import InvalidReportError, RegistryError
from frontlas_tx.registry.records import Claim, Report, ReportKind, service_name

#: Frontiers that are remembered after they left, or that were refused.
REMEMBERED = 100_000


@implementer(IAtlas)
class FrontierPlane:
    """Turns what Frontiers say into claims and reports of a registry.

    :param registry: provides ``IRegistry``.
    """

    log = Logger(namespace="frontlas.frontier_plane")

    def __init__(self, registry: Any) -> None:
        self._registry = registry
        self._claims: dict[AtlasServerProtocol, Claim] = {}
        #: Frontiers whose own side ended the last link: the next one is that of another process.
        self._left: dict[str, None] = {}
        self._told_refusals: dict[str, str] = {}

    @property
    def links(self) -> int:
        """Frontiers that are connected here."""
        return len(self._claims)

    def arrived(self, link: AtlasServerProtocol, meta: FrontierMeta) -> Deferred[None]:
        """Claim the identity; the registry decides."""
        if not meta.service_addr:
            self.log.warn("Frontier {id}: it advertises no service address and is not listed", id=meta.frontier_id)
        claiming: Deferred[Claim] = self._registry.claim(
            meta.frontier_id,
            meta.service_addr,
            meta.edge_addr,
            meta.boot_id,
            meta.frontier_id in self._left,
            self._on_lost(link),
        )

        def claimed(claim: Claim) -> None:
            self._left.pop(meta.frontier_id, None)
            self._told_refusals.pop(meta.frontier_id, None)
            self._claims[link] = claim
            self.log.info("Frontier {id} at {addr} is here", id=meta.frontier_id, addr=meta.service_addr)

        return claiming.addCallbacks(claimed, self._refused, errbackArgs=(meta,))

    def _refused(self, failure: Failure, meta: FrontierMeta) -> Failure:
        """Say so once: who is refused comes back again and again."""
        why = failure.getErrorMessage()
        if self._told_refusals.get(meta.frontier_id) != why:
            if len(self._told_refusals) >= REMEMBERED:
                del self._told_refusals[next(iter(self._told_refusals))]
            self._told_refusals[meta.frontier_id] = why
            self.log.warn(
                "Frontier {id} at {addr} is refused: {why}", id=meta.frontier_id, addr=meta.service_addr, why=why
            )
        return failure

    def _on_lost(self, link: AtlasServerProtocol) -> Callable[[str], None]:
        return lambda reason: link.abort(reason)

    def called(self, link: AtlasServerProtocol, method: str, value: bytes) -> Deferred[None]:
        """Report what the Frontier says of its peers; its counts are counted here instead."""
        claim = self._claims.get(link)
        if claim is None:
            return fail(RegistryError("this link no longer speaks for its Frontier"))
        if method == FRONTIER_STATS:
            return succeed(None)
        if method == SYNC_BEGIN:
            self._registry.sync_begin(claim)
            return succeed(None)
        if method == SYNC_END:
            ended: Deferred[Any] = self._registry.sync_end(claim)
            return ended.addCallback(lambda removed: None)
        try:
            events = decode_events(value) if method == EVENTS else [PeerEvent.decode(method, value)]
        except BadEvent as error:
            return fail(InvalidReportError(str(error)))
        reporting: Deferred[Any] = self._registry.report(claim, [_report(event) for event in events])
        return reporting.addCallback(_first_error)

    def heartbeat(self, link: AtlasServerProtocol) -> None:
        """Renew the lease. A registry that is away is named by itself, not here for each heartbeat."""
        claim = self._claims.get(link)
        if claim is not None:
            renewing: Deferred[Any] = self._registry.renew(claim)
            renewing.addErrback(_named_elsewhere)

    def gone(self, link: AtlasServerProtocol, by_peer: bool) -> None:
        """Release the identity: its edges are offline from now on."""
        claim = self._claims.pop(link, None)
        if claim is None:
            return
        if by_peer:
            self._left[claim.frontier_id] = None
            while len(self._left) > REMEMBERED:
                del self._left[next(iter(self._left))]
        self.log.info("Frontier {id} left", id=claim.frontier_id)
        releasing: Deferred[Any] = self._registry.release(claim)
        releasing.addErrback(_named_elsewhere)


def _report(event: PeerEvent) -> Report:
    return Report(ReportKind(event.method), event.peer_id, event.addr, service_name(event.service))


def _named_elsewhere(failure: Failure) -> None:
    """The registry itself says in the log that it is away, once."""
    failure.trap(RegistryError)  # type: ignore[no-untyped-call]


def _first_error(outcomes: list[RegistryError | None]) -> None:
    for error in outcomes:
        if error is not None:
            raise error
