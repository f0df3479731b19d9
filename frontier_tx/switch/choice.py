"""How one of several services is chosen (``exchange.hashby``)."""

import random
from collections.abc import Callable, Sequence

from zope.interface import Interface, implementer

from frontier_tx.switch.legs import Leg


class IHashPolicy(Interface):
    """Chooses one of the services that registered a method or declared a topic."""

    def choose(candidates: Sequence[Leg], edge: Leg) -> Leg:
        """Return one of ``candidates``, of which there is at least one; services stand in order of registration.

        For a topic that queues take too, those follow: objects with a ``name``.
        """


@implementer(IHashPolicy)
class ByEdgeID:
    """The same edge reaches the same service as long as the candidates do not change."""

    def choose(self, candidates: Sequence[Leg], edge: Leg) -> Leg:
        """Edge id modulo the number of candidates."""
        return candidates[edge.id % len(candidates)]


@implementer(IHashPolicy)
class BySourceAddress:
    """Edges of one address reach the same service."""

    def choose(self, candidates: Sequence[Leg], edge: Leg) -> Leg:
        """IPv4 address (or the last four bytes of an IPv6 one) modulo the number of candidates."""
        return candidates[edge.host_number % len(candidates)]


@implementer(IHashPolicy)
class AtRandom:
    """Any of them."""

    def choose(self, candidates: Sequence[Leg], edge: Leg) -> Leg:
        """Each with the same chance."""
        return random.choice(candidates)


POLICIES: dict[str, Callable[[], IHashPolicy]] = {
    "edgeid": ByEdgeID,
    "srcip": BySourceAddress,
    "random": AtRandom,
}
