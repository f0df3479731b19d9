"""The frontier plane: Frontiers report here (port 40012), and the registry learns of it."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from itertools import chain
from typing import Any

import msgspec
from twisted.internet.defer import Deferred, fail, gatherResults, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from frontier_tx.atlas.messages import (
    EVENTS,
    FRONTIER_ID_BYTES,
    FRONTIER_STATS,
    SYNC_BEGIN,
    SYNC_END,
    BadEvent,
    FrontierMeta,
    PeerEvent,
    decode_some,
    split_events,
)
from frontier_tx.atlas.protocols import AtlasServerProtocol, IAtlas
from frontier_tx.rpc.addresses import address_key
from frontier_tx.runtime.lograte import Troubles
from frontlas_tx.registry.errors import InvalidReportError, RegistryError, RegistryUnavailableError
from frontlas_tx.registry.records import Claim, Report, ReportKind, service_name
from frontlas_tx.registry.slices import AT_ONCE, Job, Slices

#: A Go Frontier blocks the peer until its report is answered, so answer in time and finish in the background.
ANSWER_SECONDS = 0.9
#: Events that are worked on at a time: some milliseconds.
EVENTS_PER_TURN = 100
KINDS = {kind.value: kind for kind in ReportKind}


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
        self._links: dict[str, AtlasServerProtocol] = {}
        #: Refused Frontiers, and links that sent events in the name of another Frontier.
        self._refusals = Troubles()
        self._impostors = Troubles()
        #: Links with many events that are being worked on, and what these called since.
        self._behind: dict[AtlasServerProtocol, deque[tuple[str, bytes, Deferred[None]]]] = {}
        self._slices = Slices(clock) if clock is not None else None

    @property
    def links(self) -> int:
        """Frontiers that are connected here."""
        return len(self._claims)

    def link_of(self, frontier_id: str) -> AtlasServerProtocol | None:
        """The link of a Frontier that is connected here."""
        return self._links.get(frontier_id)

    def arrived(self, link: AtlasServerProtocol, meta: FrontierMeta) -> Deferred[None]:
        """Claim the identity; the registry decides."""
        if not meta.service_addr:
            self.log.warn("Frontier {id}: it advertises no service address and is not listed", id=meta.frontier_id)
        claiming: Deferred[Claim] = self._registry.claim(
            meta.frontier_id,
            meta.service_addr,
            meta.edge_addr,
            meta.boot_id,
            link.abort,
            link.is_alive,
            address_key(link.host),
            meta.version,
            meta.started,
        )

        def claimed(claim: Claim) -> None:
            self._refusals.over(meta.frontier_id)
            self._claims[link] = claim
            self._links[claim.frontier_id] = link
            self.log.info("Frontier {id} at {addr} is here", id=meta.frontier_id, addr=meta.service_addr)

        return claiming.addCallbacks(claimed, self._refused, errbackArgs=(meta,))

    def _refused(self, failure: Failure, meta: FrontierMeta) -> Failure:
        """Say so once: who is refused comes back again and again."""
        why = failure.getErrorMessage()
        if self._refusals.is_new(meta.frontier_id, why):
            self.log.warn(
                "Frontier {id} at {addr} is refused: {why}", id=meta.frontier_id, addr=meta.service_addr, why=why
            )
        return failure

    def called(self, link: AtlasServerProtocol, method: str, value: bytes) -> Deferred[None]:
        """Report what the Frontier says of its peers; its counts are counted here instead.

        Many events at once are worked on in turns, with reading of that link stopped; what it called after them waits.
        """
        behind = self._behind.get(link)
        if behind is not None:
            later: Deferred[None] = Deferred()
            behind.append((method, value, later))
            return later
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
            if method == EVENTS:
                return self._events(link, claim, split_events(value))
            reporting = self._report(link, claim, [PeerEvent.decode(method, value)])
        except BadEvent as error:
            return fail(InvalidReportError(str(error)))
        if self._clock is not None:
            reporting.addTimeout(ANSWER_SECONDS, self._clock, _too_slow)
        return reporting.addCallback(_first_error, "")

    def _events(self, link: AtlasServerProtocol, claim: Claim, items: Sequence[msgspec.Raw]) -> Deferred[None]:
        if len(items) <= EVENTS_PER_TURN or self._slices is None:
            events, wrong = decode_some(items)
            return self._report(link, claim, events).addCallback(_first_error, wrong)
        reporting: list[Deferred[list[RegistryError | None]]] = []
        complaints: list[str] = []

        def job() -> Job:
            for start in range(0, len(items), EVENTS_PER_TURN):
                if self._claims.get(link) is not claim:
                    return 0
                events, wrong = decode_some(items[start : start + EVENTS_PER_TURN])
                complaints.append(wrong)
                reporting.append(self._report(link, claim, events))
                yield AT_ONCE // 2
            return len(items)

        self._behind[link] = deque()
        link.pause_reading()
        ended: Deferred[None] = Deferred()

        def worked_off(_outcome: object) -> None:
            gatherResults(reporting, consumeErrors=True).addCallbacks(
                lambda outcomes: _first_error(list(chain(*outcomes)), next(filter(None, complaints), "")),
                lambda failure: failure.value.subFailure,
            ).chainDeferred(ended)
            self._catch_up(link)

        self._slices.run(job()).addBoth(worked_off)
        return ended

    def _catch_up(self, link: AtlasServerProtocol) -> None:
        """Work on what a link called while its events were worked on."""
        for method, value, later in self._behind.pop(link):
            # Many events again: the rest waits for these.
            self.called(link, method, value).chainDeferred(later)
        link.resume_reading()

    def _report(
        self, link: AtlasServerProtocol, claim: Claim, events: list[PeerEvent]
    ) -> Deferred[list[RegistryError | None]]:
        """The connection counts, whatever name an event carries; that they differ is worth one line."""
        now, reports = self._registry.seconds(), []
        for event in events:
            if event.frontier_id and event.frontier_id != claim.frontier_id and self._impostors.is_new(link):
                other = event.frontier_id[:FRONTIER_ID_BYTES]
                self.log.warn(
                    "Frontier {id} reports in the name of {other}; its own name is taken",
                    id=claim.frontier_id,
                    other=other,
                )
            online_at = max(1, now - event.age) if event.age else 0
            service = service_name(event.service) if event.service else ""
            kind = KINDS[event.method]
            reports.append(Report(kind, event.peer_id, event.addr, service, online_at, event.meta))
        reporting: Deferred[list[RegistryError | None]] = self._registry.report(claim, reports)
        return reporting

    def stop(self) -> None:
        """Hear no more of any link, and release nothing: leases run on for whoever comes next."""
        self._claims.clear()
        self._links.clear()
        self._impostors.over()

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
        if self._links.get(claim.frontier_id) is link:
            del self._links[claim.frontier_id]
        self._impostors.over(link)
        if link.close_reason:
            self.log.warn("Frontier {id} is disconnected: {why}", id=claim.frontier_id, why=link.close_reason)
        else:
            self.log.info("Frontier {id} left", id=claim.frontier_id)
        releasing: Deferred[Any] = self._registry.release(claim, by_peer)
        releasing.addErrback(_named_elsewhere)


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
