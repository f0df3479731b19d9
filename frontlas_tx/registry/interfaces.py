"""The registry behind Frontlas: who is where in the cluster.

Everything that takes part answers with Deferreds.  Two implementations: :class:`frontlas_tx.registry.memory.
MemoryRegistry` for one machine, :class:`frontlas_tx.registry.redis.registry.RedisRegistry` for any number of
Frontlas over one Redis.  Both obey what is written here and pass one test suite.

Rules
-----
* **Lease.**  A Frontier is alive from ``claim`` until ``release``, or until 30 s after its last ``renew``.
* **Online.**  An edge or service is online while its record exists *and* its Frontier is alive.  So the end
  of a Frontier ends all its peers at once, and nothing has to be renewed per peer.
* **Newest wins.**  ``EDGE_ONLINE`` moves an edge to the reporting Frontier.  ``EDGE_OFFLINE`` removes it only
  if it is still recorded there, ``EDGE_HEARTBEAT`` writes it if it is missing and leaves it with another live
  Frontier.
* **Listing.**  ``frontiers()`` goes on showing a Frontier for 30 s after its end, because callers close good
  connections to anything that leaves the list; nodes without a service address are never shown.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from twisted.internet.defer import Deferred
from zope.interface import Attribute, Interface

from frontier_tx.runtime.histogram import Histogram
from frontlas_tx.registry.errors import RegistryError
from frontlas_tx.registry.records import (
    Change,
    ChangeKind,
    Claim,
    Counts,
    EdgeRecord,
    FrontierRecord,
    Page,
    Report,
    ServiceRecord,
)


class ISubscription(Interface):
    """A bounded view of the change feed, from ``IRegistry.watch``."""

    def next() -> Deferred[list[Change]]:
        """The next changes in order, at least one; waits while there are none.

        One call at a time; cancelling the Deferred loses nothing.  After :meth:`stop` it fails with
        ``RegistryError``.
        """

    def stop() -> None:
        """End the subscription and free its buffer; harmless when repeated."""


class IRegistry(Interface):
    """The registry.  All methods may fail with ``RegistryUnavailableError``; only other errors are named."""

    ready: bool = Attribute("Whether the store answers; kept up to date by itself.")
    why_not_ready: str = Attribute("One line naming what is wrong and what to do; empty while ready.")
    store_times: Histogram | None = Attribute("How long the store took to answer; None where there is none.")
    durable: bool = Attribute("False if everything is forgotten with this process.")

    def start() -> Deferred[None]:
        """Begin to work.  Fires at the first success of reaching the store, which may be never; it does not
        fail on an unreachable store but goes on trying with back-off. It fails when the registry is, or was,
        stopped: that is for good."""

    def stop() -> Deferred[None]:
        """Give up connections and timers.  Claims are *not* released: their leases run on, so that a restart
        of Frontlas hides no Frontier."""

    def watch_ready(callback: Callable[[bool, str], None]) -> Callable[[], None]:
        """Call back with (ready, why not) on every change; returns a function that ends this."""

    def claim(
        frontier_id: str,
        advertised_sb_addr: str,
        advertised_eb_addr: str,
        boot_id: str = "",
        on_lost: Callable[[str], None] | None = None,
        probe: Callable[[], Deferred[bool]] | None = None,
        origin: str = "",
        version: str = "",
        started: int = 0,
    ) -> Deferred[Claim]:
        """Take the identity for one connection.

        A live holder is replaced by the same process (the same ``boot_id``), by one with the same addresses if it shows
        no sign of life when it is asked for one (``probe``), if its connection has been silent for 40 s, or if its
        Frontlas is gone; else fails with ``FrontierAlreadySetError``. Fails with ``RegistryFullError`` if there is no
        room for one more: Frontiers that have ended make room, those without peers first, then live ones without peers
        of the ``origin`` (the address that the connection comes from) with the most Frontiers.
        ``boot_id`` names the process of the node: a changed one voids all peers of the former process. Where
        none is sent, a node whose own side ended its last link (see ``release``) counts as restarted.
        ``on_lost`` is called once if another connection takes over; close the connection then. ``probe`` asks this
        connection for a sign of life and gives within a few seconds whether one came; without it the connection lives.
        ``version`` and ``started`` are shown in the Frontier's record.
        """

    def renew(claim: Claim) -> Deferred[None]:
        """Extend the lease; call it at each heartbeat of the link.  Fails with ``ClaimLostError``."""

    def release(claim: Claim, by_peer: bool = False) -> Deferred[None]:
        """The Frontier left: its peers are offline at once.  Does nothing if the claim was taken over.

        ``by_peer`` says that the Frontier's own side ended the link.
        """

    def report(claim: Claim, reports: Sequence[Report]) -> Deferred[list[RegistryError | None]]:
        """Record events of one Frontier's peers in the order given, any number per call.

        Gives one entry per report: None, or why this one was not recorded (``InvalidReportError``,
        ``RegistryFullError``, ``RegistryUnavailableError``).  Reports of one claim never overtake each other,
        whether or not earlier calls were waited for.  Fails as a whole only with ``ClaimLostError``.
        """

    def sync_begin(claim: Claim) -> None:
        """From now on the Frontier names every live peer, as ONLINE or HEARTBEAT reports."""

    def sync_end(claim: Claim) -> Deferred[int]:
        """All live peers were named: the others of this Frontier are removed; gives their number.

        A Frontier that never syncs is given 60 s from its claim to name its peers by heartbeats, then the
        same is done.
        """

    def frontier_of_edge(edge_id: int) -> Deferred[FrontierRecord | None]:
        """The live Frontier that holds the edge, None if it is not online.  One round trip to the store."""

    def frontiers_of_edges(edge_ids: Sequence[int]) -> Deferred[list[FrontierRecord | None]]:
        """The same for several, positions kept."""

    def edge(edge_id: int) -> Deferred[EdgeRecord | None]:
        """The edge, None if it is not online."""

    def edges(edge_ids: Sequence[int]) -> Deferred[list[EdgeRecord | None]]:
        """The same for several, positions kept."""

    def edges_page(cursor: int, count: int, frontier_id: str = "") -> Deferred[Page[EdgeRecord]]:
        """One step over all online edges, or those of one Frontier; ``count`` is a hint of how many to return."""

    def frontiers() -> Deferred[list[FrontierRecord]]:
        """All Frontiers to be listed, in the order of their first claim."""

    def frontiers_by_ids(frontier_ids: Sequence[str]) -> Deferred[list[FrontierRecord | None]]:
        """The listed Frontiers of these names, positions kept."""

    def frontiers_page(cursor: int, count: int) -> Deferred[Page[FrontierRecord]]:
        """One step over ``frontiers()``."""

    def service(service_id: int) -> Deferred[ServiceRecord | None]:
        """The newest record of the service on a live Frontier, None if it is not online."""

    def services(service_ids: Sequence[int]) -> Deferred[list[ServiceRecord | None]]:
        """The same for several, positions kept."""

    def services_page(cursor: int, count: int, frontier_id: str = "") -> Deferred[Page[ServiceRecord]]:
        """One step over all service connections (one record per service and Frontier), or those of one Frontier."""

    def counts() -> Deferred[Counts]:
        """Live numbers of the whole cluster."""

    def counts_of(frontier_id: str) -> Deferred[Counts]:
        """Live numbers of one Frontier; zeros if it is not alive."""

    def seconds() -> int:
        """The registry's time, whole Unix seconds: what ``Report.online_at`` is measured by."""

    def watch(kinds: Iterable[ChangeKind] | None = None) -> ISubscription:
        """Follow changes of the whole cluster from now on, of these kinds or of all; ``LAGGED`` always
        comes."""

    def check_health() -> Deferred[None]:
        """Write and read one key of this instance; fails with ``RegistryUnavailableError`` naming the
        cause."""

    def metrics() -> dict[str, float]:
        """Counters and gauges by name, cumulative since start; names end in ``_total`` for counters."""
