"""Who is online at this gateway: edges, services, their methods and topics, in memory, with exact counts.

Routing looks things up here, and the control plane lists them (``queries``). A record is there before its owner is
told that it is, and gone the moment its connection ends.
"""

from collections.abc import Callable
from typing import TypeVar

from frontier_tx.switch.legs import Kind, Leg

EVERYTHING_ELSE = "*"
#: What an entry costs beside its text: the tables of a method of an edge, of a service, and of a topic.
EDGE_METHOD_BYTES, SERVICE_METHOD_BYTES, TOPIC_BYTES = 160, 480, 320

_K = TypeVar("_K", str, bytes)


class Holdings:
    """Bytes that the gateway remembers for peers as long as they are connected: metas, names, topics and methods.

    Whoever has most of it is refused first: a peer may have as much again as is left for all, and ``free`` in any case.

    :param limit: bytes of all together.
    :param free: bytes that each may have whatever the others have.
    """

    def __init__(self, limit: int, free: int) -> None:
        self.limit = limit
        self.free = free
        self.total = 0
        self.refused = 0

    def take(self, leg: Leg, size: int) -> bool:
        """Count bytes for a leg; return False, and count nothing, where it would have too much."""
        held = leg.record_bytes + size
        if held > self.free and held > self.limit - self.total:
            self.refused += 1
            return False
        leg.record_bytes = held
        self.total += size
        return True

    def let_go(self, leg: Leg) -> None:
        """Nothing of a leg is remembered any more."""
        self.total -= leg.record_bytes
        leg.record_bytes = 0


class Repository:
    """Tables of live legs. Lists of candidates are in the order of registration.

    :param record_bytes: what all peers may have remembered, ``free_record_bytes`` what each may in any case.
    """

    def __init__(self, record_bytes: int = 134_217_728, free_record_bytes: int = 16_384) -> None:
        self.edges: dict[int, Leg] = {}
        self.services: dict[int, Leg] = {}
        #: Services by name, by registered method and by declared topic.
        self.by_name: dict[str, dict[Leg, None]] = {}
        self.by_method: dict[bytes, dict[Leg, None]] = {}
        self.by_topic: dict[str, dict[Leg, None]] = {}
        #: Registered (peer, method) pairs of edges, for the metric; services' stand in ``by_method``.
        self.edge_methods = 0
        self.holdings = Holdings(record_bytes, free_record_bytes)
        #: Told when a service registers one of these methods.
        self.watched: dict[bytes, Callable[[], None]] = {}
        #: Whether edges stand in the order of their times: the clock was never set back.
        self.in_order = True
        self._latest = 0.0
        #: Another one after each change of what is here.
        self.version = 0
        #: Told of each method that a leg registers.
        self.on_method: list[Callable[[Leg, bytes], None]] = []

    # -- coming and going ---------------------------------------------------------------------------------

    def add(self, leg: Leg) -> Leg | None:
        """Put a leg in under its id; return the one whose place it takes, which is out."""
        table = self.edges if leg.is_edge else self.services
        old = table.get(leg.id)
        if old is not None:
            self.remove(old)
        table[leg.id] = leg
        self.in_order = self.in_order and leg.since >= self._latest
        self._latest = leg.since
        self.version += 1
        leg.online = True
        if leg.kind is Kind.SERVICE:
            self.by_name.setdefault(leg.name, {})[leg] = None
            for topic in leg.topics:
                self.by_topic.setdefault(topic, {})[leg] = None
        return old

    def remove(self, leg: Leg) -> bool:
        """Take a leg out with all that it registered; return whether it was in."""
        if not leg.online:
            return False
        leg.online = False
        self.version += 1
        if leg.is_edge:
            del self.edges[leg.id]
            self.edge_methods -= len(leg.methods)
            return True
        del self.services[leg.id]
        _discard(self.by_name, leg.name, leg)
        for topic in leg.topics:
            _discard(self.by_topic, topic, leg)
        for method in leg.methods:
            _discard(self.by_method, method, leg)
        return True

    def register(self, leg: Leg, method: bytes, when: float) -> bool:
        """Record a method of a leg; doing so again changes nothing.

        :return: False where the leg would have too much remembered.
        """
        if method in leg.methods or not leg.online:
            return True
        if not self.holdings.take(leg, len(method) + (EDGE_METHOD_BYTES if leg.is_edge else SERVICE_METHOD_BYTES)):
            return False
        leg.methods[method] = when
        self.version += 1
        if leg.is_edge:
            self.edge_methods += 1
        else:
            self.by_method.setdefault(method, {})[leg] = None
            if method in self.watched:
                self.watched[method]()
        for told in self.on_method:
            told(leg, method)
        return True

    # -- looking up ---------------------------------------------------------------------------------------

    def services_of_method(self, method: bytes) -> list[Leg]:
        """Services that registered the method."""
        return _reachable(self.by_method.get(method))

    def services_of_topic(self, topic: str, exactly: bool = False) -> list[Leg]:
        """Services that declared the topic or, where nobody did and not ``exactly``, that take everything else."""
        found = _reachable(self.by_topic.get(topic))
        return found if found or exactly else _reachable(self.by_topic.get(EVERYTHING_ELSE))

    def services_of_name(self, name: str) -> list[Leg]:
        """Services with this name."""
        return _reachable(self.by_name.get(name))

    def edge(self, edge_id: int) -> Leg | None:
        """The edge with this id, if it is here and can be reached."""
        leg = self.edges.get(edge_id)
        return None if leg is None or leg.half_closed else leg


def _reachable(legs: dict[Leg, None] | None) -> list[Leg]:
    return [leg for leg in legs if not leg.half_closed] if legs else []


def _discard(index: dict[_K, dict[Leg, None]], key: _K, leg: Leg) -> None:
    legs = index[key]
    legs.pop(leg, None)
    if not legs:
        del index[key]
