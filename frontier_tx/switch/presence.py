"""Who comes in and who goes: ids, control functions, newcomers with a known id (docs/gateway.md, "Presence")."""

import time
from collections.abc import Callable, Container
from typing import Any

from zope.interface import Interface, implementer

from frontier_tx.errors import MetaTooLarge, NoID, Replaced
from frontier_tx.switch.arrival import Arrivals
from frontier_tx.switch.control import ControlFunctions
from frontier_tx.switch.exchange import Exchange
from frontier_tx.switch.introduction import EDGE_DOOR, SERVICE_DOOR, looks_like_service, read_service_meta
from frontier_tx.switch.latecomers import Latecomers
from frontier_tx.switch.legs import Announced, Kind, Leg
from frontier_tx.switch.opening import StreamOpener
from frontier_tx.switch.repository import TOPIC_BYTES
from frontier_tx.switch.routing import EDGE_ONLINE, GET_EDGE_ID
from frontier_tx.wire.events import ConnReceived
from frontier_tx.wire.ids import MAX_ID, NO_ID, ClientIds


class IIDAllocator(Interface):
    """Makes ids for edges and services that bring none.

    A newcomer for whom it raises, or makes an id that cannot be given out, is refused, and the log names it.
    """

    def allocate(in_use: Any) -> int:
        """Return an id between 1 and 2**64 - 1 that is not in ``in_use``, a container of ids."""


class IPresenceListener(Interface):
    """Is told who comes and goes, after the repository shows it: the reporter to the cluster's registry is one.

    What it raises is logged and changes nothing for the peer or for other listeners.
    """

    def online(leg: Leg) -> None:
        """An edge or a service is online."""

    def offline(leg: Leg) -> None:
        """It is not any more; not called for one whose place a newcomer with the same id took."""

    def heartbeat(leg: Leg) -> None:
        """It sent a heartbeat."""


@implementer(IIDAllocator)
class ClientIDAllocator(ClientIds):
    """Ids as the wire's own recipe makes them: seconds and a counter."""


class Presence:
    """Decides who comes in, and keeps the repository and the listeners true.

    :param allocate_edge_ids: whether an edge gets an id while no service hands them out.
    :param own_edge_ids: whether an edge may bring its id itself, and nobody is asked for one.
    :param renew_edge_ids: whether such an edge is asked to come again when a service that hands them out is there.
    :param control_seconds: time for ``get_edge_id`` and ``edge_online`` together: the ConnAck that waits for them must
        reach the edge within the ten seconds that it waits.
    :param on_control_error: told of a control function that a service answered with an error.
    :param on_fault: told, while the exception is being handled, of a listener or an allocator that failed.
    :param on_replaced: told of a leg and of the newcomer with the same id that took its place.
    :param on_renewed: told how many edges were asked to come again.
    """

    def __init__(
        self,
        exchange: Exchange,
        *,
        allocator: IIDAllocator | None = None,
        allocate_edge_ids: bool = True,
        own_edge_ids: bool = True,
        renew_edge_ids: bool = True,
        control_seconds: float = 9.0,
        wall_clock: Callable[[], float] = time.time,
        on_control_error: Callable[[str, Leg, str], None] | None = None,
        on_fault: Callable[[str], None] | None = None,
        on_replaced: Callable[[Leg, Leg], None] | None = None,
        on_renewed: Callable[[int], None] | None = None,
    ) -> None:
        self.exchange = exchange
        self.repository = exchange.repository
        self.streams = StreamOpener(exchange)
        self.listeners: list[Any] = []
        self._control = ControlFunctions(
            exchange, control_seconds, on_control_error or (lambda method, leg, error: None)
        )
        self.arrivals = Arrivals(
            self._control,
            allocate=self._allocate_edge_id,
            allocates_ids=allocate_edge_ids,
            takes_own_ids=own_edge_ids,
            let_in=self._let_in,
            on_end=self._arrival_over,
        )
        self.latecomers = Latecomers(
            self._control, self.arrivals.coming, renew_edge_ids, on_renewed or (lambda count: None)
        )
        for method in (GET_EDGE_ID, EDGE_ONLINE):
            self.repository.watched[method] = self.latecomers.noticed
        self._wall_clock = wall_clock
        self._when_gone: dict[Leg, list[Callable[[], None]]] = {}
        self._allocator: Any = allocator or ClientIDAllocator(wall_clock)
        self._on_fault = on_fault or (lambda what: None)
        self._on_replaced = on_replaced or (lambda old, new: None)

    def arrived(self, leg: Leg, event: ConnReceived) -> None:
        """Somebody introduced itself; sooner or later its connection is accepted or refused."""
        if not self.repository.holdings.take(leg, len(event.meta)):
            self.arrivals.refuse(leg, MetaTooLarge.text)
            return
        leg.meta = event.meta
        wrong = event.kind not in ("", leg.kind.value)
        if leg.kind is Kind.SERVICE:
            if wrong:
                self.arrivals.refuse(leg, SERVICE_DOOR)
            else:
                self._service_arrived(leg, event)
        elif wrong or (not event.kind and looks_like_service(event.meta)):
            self.arrivals.refuse(leg, EDGE_DOOR)
        else:
            self.arrivals.begin(leg, event)

    def _arrival_over(self, leg: Leg) -> None:
        if leg.connection.closed:
            self.repository.holdings.let_go(leg)

    # -- services -----------------------------------------------------------------------------------------

    def _service_arrived(self, leg: Leg, event: ConnReceived) -> None:
        settings = self.exchange.settings
        try:
            name, topics = read_service_meta(event.meta, settings.topics_per_connection, settings.method_bytes)
        except ValueError as error:
            self.arrivals.refuse(leg, f"illegal service meta: {error}; {SERVICE_DOOR}")
            return
        if not self.repository.holdings.take(leg, sum(len(topic) + TOPIC_BYTES for topic in topics)):
            self.arrivals.refuse(leg, MetaTooLarge.text)
            return
        leg.name, leg.topics = name, topics
        leg.id = event.wanted_id or self._allocate(self.repository.services)
        if leg.id == NO_ID:
            self.arrivals.refuse(leg, NoID.text)
        else:
            self._let_in(leg)

    # -- both ---------------------------------------------------------------------------------------------

    def _let_in(self, leg: Leg) -> None:
        """Put the leg into the repository, then tell the peer; the one whose place it takes is closed."""
        leg.id_suffix = leg.id.to_bytes(8)
        leg.since = self._wall_clock()
        old = self.repository.add(leg)
        leg.connection.accept(leg.id, self.exchange.timers.now())
        if old is not None:
            self._retire(old)
            old.transport.close(Replaced.text)
            self._on_replaced(old, leg)
            if self._is_missed(old):
                self._control.tell_offline(old)
        if leg.allocated and self._control.candidates(GET_EDGE_ID):
            self.latecomers.noticed()
        self._tell("online", leg)

    def _retire(self, leg: Leg) -> None:
        """End everything that hangs on a leg; its connection may still have its goodbye to say."""
        self.streams.forget(leg, self.exchange.timers.now())
        self.exchange.forget(leg)

    def gone(self, leg: Leg) -> None:
        """The connection of a leg ended, in whatever way. Called once for each."""
        accepted = leg.connection.client_id != NO_ID or leg.online
        was_online = leg.online
        self._retire(leg)
        if leg in self.arrivals.coming:
            self.arrivals.coming[leg].left()
        else:
            self.repository.holdings.let_go(leg)
        if was_online:
            self._tell("offline", leg)
        if accepted and self._is_missed(leg):
            self._control.tell_offline(leg)
        for told in self._when_gone.pop(leg, ()):
            told()

    def when_gone(self, leg: Leg, told: Callable[[], None]) -> None:
        """Have ``told`` called once, when the connection of a leg has ended and its record is away."""
        self._when_gone.setdefault(leg, []).append(told)

    def _is_missed(self, leg: Leg) -> bool:
        """Whether a service takes an edge for online; where none wants ``edge_online``, all are taken for it."""
        return leg.is_edge and (
            leg.announced is Announced.ONLINE
            or (leg.announced is Announced.NOTHING and not self._control.candidates(EDGE_ONLINE))
        )

    def heartbeat(self, leg: Leg) -> None:
        """A peer sent a heartbeat."""
        if leg.online:
            self._tell("heartbeat", leg)

    def _tell(self, what: str, leg: Leg) -> None:
        for listener in self.listeners:
            try:
                getattr(listener, what)(leg)
            except Exception:
                # A part that was plugged in; neither the peer nor the listeners behind it have done anything wrong.
                self._on_fault(f"{listener!r} failed at {what} of {leg}")

    # -- ids ----------------------------------------------------------------------------------------------

    def _allocate_edge_id(self) -> int:
        """Return an unused edge id, or 0 where the allocator fails."""
        return self._allocate(self.repository.edges)

    def _allocate(self, in_use: Container[int]) -> int:
        try:
            made: int = self._allocator.allocate(in_use)
            if type(made) is int and NO_ID < made <= MAX_ID and made not in in_use:
                return made
            raise ValueError(f"{made!r} is in use, or no id at all")
        except Exception:
            self._on_fault(f"{self._allocator!r} made no id that can be given out")
        return NO_ID
