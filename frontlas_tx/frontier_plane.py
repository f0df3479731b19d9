"""The frontier plane: Frontiers report here (port 40012), and the registry learns of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IReactorTime
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
from frontier_tx.planes.addresses import address_key
from frontlas_tx.registry.errors import InvalidReportError, RegistryError, RegistryUnavailableError
from frontlas_tx.registry.records import Claim, Report, ReportKind, service_name

#: Refused Frontiers that are remembered.
REMEMBERED = 1_000
#: A Frontier of the other implementation does nothing else for a peer until its report is answered; what took longer
#: is recorded later all the same.
ANSWER_SECONDS = 0.9


@implementer(IAtlas)
class FrontierPlane:
    """Turns what Frontiers say into claims and reports of a registry.

    :param registry: provides ``IRegistry``.
    :param clock: bounds the time within which reports of single events are answered; None: the registry does.
    """

    log = Logger(namespace="frontlas.frontier_plane")

    def __init__(self, registry: Any, clock: IReactorTime | None = None) -> None:
        self._registry = registry
        self._clock = clock
        self._claims: dict[AtlasServerProtocol, Claim] = {}
        self._told_refusals: dict[str, str] = {}
        #: Links that sent events in the name of another Frontier, which was said in the log.
        self._impostors: set[AtlasServerProtocol] = set()

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
            self._on_lost(link),
            link.is_alive,
            address_key(link.host),
        )

        def claimed(claim: Claim) -> None:
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
        wrong = ""
        try:
            if method == EVENTS:
                events, wrong = decode_events(value)
            else:
                events = [PeerEvent.decode(method, value)]
        except BadEvent as error:
            return fail(InvalidReportError(str(error)))
        self._look_for_impostor(link, claim, events)
        now = self._registry.seconds()
        reporting: Deferred[Any] = self._registry.report(claim, [_report(event, now) for event in events])
        if method != EVENTS and self._clock is not None:
            reporting.addTimeout(ANSWER_SECONDS, self._clock, _too_slow)
        return reporting.addCallback(_first_error, wrong)

    def _look_for_impostor(self, link: AtlasServerProtocol, claim: Claim, events: list[PeerEvent]) -> None:
        """The connection counts, whatever name an event carries; that they differ is worth one line."""
        if link in self._impostors:
            return
        for event in events:
            if event.frontier_id and event.frontier_id != claim.frontier_id:
                self._impostors.add(link)
                self.log.warn(
                    "Frontier {id} reports in the name of {other}; its own name is taken",
                    id=claim.frontier_id,
                    other=event.frontier_id,
                )
                return

    def stop(self) -> None:
        """Hear no more of any link, and release nothing: leases run on for whoever comes next."""
        self._claims.clear()
        self._impostors.clear()

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
        self._impostors.discard(link)
        if link.close_reason:
            self.log.warn("Frontier {id} is disconnected: {why}", id=claim.frontier_id, why=link.close_reason)
        else:
            self.log.info("Frontier {id} left", id=claim.frontier_id)
        releasing: Deferred[Any] = self._registry.release(claim, by_peer)
        releasing.addErrback(_named_elsewhere)


def _report(event: PeerEvent, now: int) -> Report:
    online_at = now - event.age if event.age else 0
    return Report(ReportKind(event.method), event.peer_id, event.addr, service_name(event.service), online_at)


def _too_slow(_result: Any, seconds: float) -> Any:
    raise RegistryUnavailableError(f"not recorded within {seconds:g} s: i/o timeout; it is once the store answers")


def _named_elsewhere(failure: Failure) -> None:
    """The registry itself says in the log that it is away, once."""
    failure.trap(RegistryError)  # type: ignore[no-untyped-call]


def _first_error(outcomes: list[RegistryError | None], wrong: str) -> None:
    for error in outcomes:
        if error is not None:
            raise error
    if wrong:
        raise InvalidReportError(wrong)
