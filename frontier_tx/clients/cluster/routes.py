"""Which Frontier holds which edge: what Frontlas answered, and through which Frontier edges spoke, which is newer."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from frontier_tx.clients.core.hosts import SessionHost
from frontier_tx.clients.core.intake import Bounds, Inbox, Intake
from frontier_tx.clients.core.operations import Message, Request, Run


@dataclass(frozen=True, slots=True)
class Route:
    """An answer. ``epoch`` counts the connections to that Frontier: with the next one the answer is void. ``heard`` is
    when the edge itself last spoke through it."""

    frontier_id: str
    epoch: int
    until: float
    heard: float = float("-inf")


class Routes:
    """The cache. Times are seconds of any one clock.

    :param life: seconds for which an answer counts.
    :param bound: entries that are held; the one that was not used for longest goes first.
    """

    def __init__(self, life: float = 60.0, bound: int = 100_000) -> None:
        self._life = life
        self._bound = bound
        self._routes: OrderedDict[int, Route] = OrderedDict()

    def __len__(self) -> int:
        return len(self._routes)

    def get(self, edge_id: int) -> Route | None:
        """Return the last answer, however old: ``Route.until`` tells whether it still counts."""
        route = self._routes.get(edge_id)
        if route is not None:
            self._routes.move_to_end(edge_id)
        return route

    def put(self, edge_id: int, frontier_id: str, epoch: int, now: float, heard: bool = False) -> None:
        """Keep an answer; ``heard``: the edge itself spoke through that Frontier."""
        self._routes[edge_id] = Route(frontier_id, epoch, now + self._life, now if heard else float("-inf"))
        self._routes.move_to_end(edge_id)
        if len(self._routes) > self._bound:
            self._routes.popitem(last=False)

    def doubt(self, edge_id: int) -> None:
        """It may be wrong: do not count on it, but keep it in case Frontlas cannot be asked."""
        route = self._routes.get(edge_id)
        if route is not None:
            self._routes[edge_id] = replace(route, until=float("-inf"), heard=float("-inf"))

    def drop(self, edge_id: int) -> None:
        """It was wrong: forget it."""
        self._routes.pop(edge_id, None)


class LearningIntake(Intake):
    """The intake of a cluster service: tells which edge it heard, and through which connection."""

    def __init__(self, run: Run, bounds: Bounds | None = None, *, error_texts: bool = False) -> None:
        super().__init__(self._begin, bounds, error_texts=error_texts)
        self._begin_handler = run
        self.messages = _LearningInbox(self)
        #: Told the edge's id and the connection.
        self.heard: Callable[[int, SessionHost], None] | None = None

    def _begin(self, handler: Any, request: Request) -> Callable[[], object] | None:
        self.note(request)
        return self._begin_handler(handler, request)

    def note(self, item: Request | Message) -> None:
        """Something came."""
        if item.edge_id and self.heard is not None:
            self.heard(item.edge_id, item.session.connection)


class _LearningInbox(Inbox[Message]):
    def __init__(self, intake: LearningIntake) -> None:
        super().__init__(intake.bounds.messages, budget=intake.message_budget)
        self._intake = intake

    def put(self, item: Message) -> bool:
        self._intake.note(item)
        return super().put(item)
