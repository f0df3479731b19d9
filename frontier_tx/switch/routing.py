"""Where a call or a message goes (docs/gateway.md, "Forwarding")."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from frontier_tx.errors import EdgeNotOnline, IllegalEdgeID, NoChoice, RecordNotFound, TopicNotOnline
from frontier_tx.switch.choice import ByEdgeID, IHashPolicy
from frontier_tx.switch.legs import Leg
from frontier_tx.switch.repository import Repository
from frontier_tx.switch.settings import Settings
from frontier_tx.wire.body import MessageData

R = TypeVar("R")

#: Methods that the gateway itself calls at services.
GET_EDGE_ID = b"get_edge_id"
EDGE_ONLINE = b"edge_online"
EDGE_OFFLINE = b"edge_offline"
CONTROL_METHODS = frozenset((GET_EDGE_ID, EDGE_ONLINE, EDGE_OFFLINE))


class Router:
    """Finds receivers; each finder returns a leg, or the text of why there is none.

    :param on_fault: told, while the exception is being handled, of a policy that failed.
    """

    def __init__(
        self,
        repository: Repository,
        settings: Settings,
        policy: IHashPolicy | None,
        on_fault: Callable[[str], None] | None,
    ) -> None:
        self._repository = repository
        self._policy: IHashPolicy = policy or ByEdgeID()
        self._on_fault = on_fault or (lambda what: None)
        self._open = settings.edges_call_control_methods

    def edge(self, data: MessageData) -> Leg | str:
        """A service names the edge in the last eight bytes of ``custom``; they are taken off."""
        custom = data.custom
        if len(custom) < 8:
            return IllegalEdgeID.text
        edge = self._repository.edges.get(int.from_bytes(custom[-8:]))
        if edge is None or edge.half_closed:
            return EdgeNotOnline.text
        data.custom = custom[:-8]
        return edge

    def service_of_method(self, leg: Leg, data: MessageData) -> Leg | str:
        """An edge names a method; the service is told the edge's id behind ``custom``."""
        if data.key in CONTROL_METHODS and not self._open:
            return RecordNotFound.text
        candidates = self._repository.services_of_method(data.key)
        if not candidates:
            return RecordNotFound.text
        data.custom += leg.id_suffix
        return candidates[0] if len(candidates) == 1 else self.choose(candidates, leg) or NoChoice.text

    def service_of_topic(self, leg: Leg, data: MessageData) -> Leg | str:
        """An edge names a topic; the service is told the edge's id behind ``custom``."""
        candidates = self._repository.services_of_topic(data.topic)
        if not candidates:
            return TopicNotOnline.text
        data.custom += leg.id_suffix
        return candidates[0] if len(candidates) == 1 else self.choose(candidates, leg) or NoChoice.text

    def choose(self, candidates: Sequence[R], edge: Leg) -> R | None:
        """Choose one of several services, or queues, for an edge; None where the policy that was plugged in fails."""
        try:
            policy: Any = self._policy
            chosen: R = policy.choose(candidates, edge)
            if chosen in candidates:
                return chosen
            raise ValueError(f"{chosen!r} is none of the candidates")
        except Exception:
            self._on_fault(f"{self._policy!r} chose no service")
            return None
