"""The intake of a cluster service: what an edge sends tells where it is, sooner than Frontlas can."""

from collections.abc import Callable
from typing import Any

from frontier_tx.clients.core.end import End
from frontier_tx.clients.core.intake import Bounds, Inbox, Intake
from frontier_tx.clients.core.operations import Message, Request, Run


class HearingIntake(Intake):
    """An intake that says whom it heard, and through which connection."""

    def __init__(self, run: Run, bounds: Bounds | None = None, *, error_texts: bool = False) -> None:
        super().__init__(self._begin, bounds, error_texts=error_texts)
        self._begin_handler = run
        self.messages = _HearingInbox(self)
        #: Told the edge's id and the connection.
        self.heard: Callable[[int, End], None] | None = None

    def _begin(self, handler: Any, request: Request) -> Callable[[], object] | None:
        self.note(request)
        return self._begin_handler(handler, request)

    def note(self, item: Request | Message) -> None:
        """Something came."""
        if item.edge_id and self.heard is not None:
            self.heard(item.edge_id, item.stream.end)


class _HearingInbox(Inbox[Message]):
    def __init__(self, intake: HearingIntake) -> None:
        super().__init__(intake.bounds.messages, budget=intake.message_budget)
        self._intake = intake

    def put(self, item: Message) -> bool:
        self._intake.note(item)
        return super().put(item)
