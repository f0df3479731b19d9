"""What the registry holds and what is told to it: plain values, no behaviour that needs I/O.

Identities of edges and services are unsigned 64-bit numbers; 0 is not an identity.  Times are whole Unix
seconds of the registry's own clock.  Addresses are ``host:port`` texts as a Frontier saw or advertised them.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import msgspec
from twisted.internet.defer import Deferred

from frontlas_tx.registry.errors import ClaimLostError

MAX_PEER_ID = 2**64 - 1
SERVICE_NAME_BYTES = 1_024
"""Bytes of the name of a service that are recorded."""
CONTENDERS = 16
"""Connections that may ask at the same time for the place of one that holds an identity."""


@dataclass(frozen=True, slots=True)
class FrontierRecord:
    """One Frontier node of the cluster.

    ``advertised_sb_addr`` is the address exactly as the node reported it; ``alive`` says whether its lease
    runs. ``respelled`` flips whenever the node's process was replaced, see :attr:`listed_sb_addr`. ``version`` and
    ``started`` (Unix seconds) are those of the process, empty and 0 with Go Frontiers, which do not tell them;
    ``last_seen`` is when the lease was renewed last.
    """

    frontier_id: str
    advertised_sb_addr: str
    advertised_eb_addr: str
    alive: bool = True
    boot_id: str = ""
    respelled: bool = False
    version: str = ""
    started: int = 0
    last_seen: int = field(default=0, compare=False)

    @property
    def listed_sb_addr(self) -> str:
        """The service address as lists must show it: with one leading zero in the port while ``respelled``.

        Go cluster services compare this text between two polls and replace their connection when it changed,
        which is the only way to make them drop the dead connection to a node that was restarted.
        """
        if not self.respelled:
            return self.advertised_sb_addr
        host, colon, port = self.advertised_sb_addr.rpartition(":")
        return f"{host}:0{port}" if colon and port.isdigit() else self.advertised_sb_addr


@dataclass(frozen=True, slots=True)
class EdgeRecord:
    """One edge that is online somewhere in the cluster; ``update_time`` is when it came online, ``meta`` what it said
    of itself (empty with Go Frontiers, which do not tell it)."""

    edge_id: int
    frontier_id: str
    addr: str
    update_time: int
    meta: str = ""


@dataclass(frozen=True, slots=True)
class ServiceRecord:
    """One connection of a service to one Frontier; a cluster service has one such record per Frontier."""

    service_id: int
    service: str
    frontier_id: str
    addr: str
    update_time: int


@dataclass(frozen=True, slots=True)
class Counts:
    """Live numbers: Frontiers whose lease runs, and the edges and service connections that these hold."""

    frontiers: int
    edges: int
    services: int


Record = TypeVar("Record")


@dataclass(frozen=True, slots=True)
class Page(Generic[Record]):
    """One step of a cursor walk: ``cursor`` 0 ends the walk, an empty step with another cursor does not.

    Records that stay for the whole walk are returned at least once; a record may be returned twice.
    """

    cursor: int
    records: list[Record]


class ReportKind(enum.Enum):
    """What a Frontier says about one of its peers."""

    EDGE_ONLINE = "edge_online"
    EDGE_OFFLINE = "edge_offline"
    EDGE_HEARTBEAT = "edge_heartbeat"
    SERVICE_ONLINE = "service_online"
    SERVICE_OFFLINE = "service_offline"
    SERVICE_HEARTBEAT = "service_heartbeat"

    def __init__(self, method: str) -> None:
        #: Whether the peer is an edge (else it is a service), and whether it came, is still there, or left.
        self.of_edge = method.startswith("edge")
        self.begins = method.endswith("online")
        self.beats = method.endswith("heartbeat")
        self.ends = method.endswith("offline")


@dataclass(frozen=True, slots=True)
class Report:
    """One event of one peer.

    ``addr`` is the peer's address; in an offline event it limits the event to that very connection, empty
    means any. ``service`` is the service's name (see :func:`service_name`), not its whole metadata; ``meta`` is what an
    edge said of itself when it connected, ``EDGE_META_BYTES`` at most.
    ``online_at`` (Unix seconds, 0 unknown) marks a repetition of something that happened earlier, as in a
    resync: such an event does not take a peer away from another live Frontier that has seen it since.
    """

    kind: ReportKind
    peer_id: int
    addr: str = ""
    service: str = ""
    online_at: int = 0
    meta: str = ""


class ChangeKind(enum.Enum):
    """What happened in the cluster."""

    FRONTIER_UP = "frontier_up"
    FRONTIER_DOWN = "frontier_down"
    EDGE_ONLINE = "edge_online"
    EDGE_OFFLINE = "edge_offline"
    SERVICE_ONLINE = "service_online"
    SERVICE_OFFLINE = "service_offline"
    LAGGED = "lagged"


@dataclass(frozen=True, slots=True)
class Change:
    """One entry of the change feed.

    ``FRONTIER_DOWN`` covers all edges and services of that Frontier, they get no entries of their own.
    ``LAGGED`` says that entries were lost: list again.  An edge that moves gives ``EDGE_ONLINE`` with the new
    Frontier and the old one's late ``EDGE_OFFLINE`` is not shown.
    """

    kind: ChangeKind
    frontier_id: str = ""
    peer_id: int = 0
    addr: str = ""
    service: str = ""
    update_time: int = 0


@dataclass(slots=True, eq=False)
class Claim:
    """The right of one connection to speak for one Frontier, from ``IRegistry.claim``; treat it as opaque.

    ``lost`` becomes the reason once the claim is void (another connection took the identity over);
    ``on_lost`` is then called once with it.  ``born`` is the second before which no peer of this node's
    process can have come online.  ``probe`` and ``origin`` are as in ``IRegistry.claim``, ``contenders`` those who wait
    for a sign of life.
    """

    frontier_id: str
    token: str
    advertised_sb_addr: str
    advertised_eb_addr: str
    boot_id: str
    born: int
    respelled: bool
    returning: bool
    on_lost: Callable[[str], None] | None = field(default=None, repr=False)
    probe: Callable[[], Deferred[bool]] | None = field(default=None, repr=False)
    origin: str = ""
    version: str = ""
    started: int = 0
    lost: str | None = None
    contenders: int = 0

    async def lives(self) -> bool:
        """Whether the holder shows a sign of life, now that another connection asks for its place.

        One that cannot be asked lives, and so does one that many ask for at the same time.
        """
        if self.lost is not None:
            return False
        if self.probe is None or self.contenders >= CONTENDERS:
            return True
        self.contenders += 1
        try:
            return await self.probe()
        finally:
            self.contenders -= 1

    def lost_error(self) -> ClaimLostError:
        """What a call fails with that comes too late."""
        return ClaimLostError(self.lost or f"frontier {self.frontier_id!r} was released by this connection")

    def void(self, reason: str) -> None:
        """Mark the claim as lost and tell its holder, once."""
        if self.lost is not None:
            return
        self.lost = reason
        callback, self.on_lost = self.on_lost, None
        if callback is not None:
            callback(reason)


class _ServiceMeta(msgspec.Struct):
    service: Any = ""


_service_meta = msgspec.json.Decoder(_ServiceMeta)


def service_name(metadata: str) -> str:
    """The name inside a service's connect metadata, e.g. ``{"service":"svcA","topics":null}`` gives ``svcA``.

    Metadata that is not such an object has no name: the empty text. A name is cut after ``SERVICE_NAME_BYTES``.
    """
    try:
        name = _service_meta.decode(metadata).service
    except (msgspec.DecodeError, UnicodeError):
        return ""
    if not isinstance(name, str):
        return ""
    if len(name) * 4 > SERVICE_NAME_BYTES:
        return name.encode("utf-8", "replace")[:SERVICE_NAME_BYTES].decode("utf-8", "ignore")
    return name
