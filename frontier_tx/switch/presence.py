"""Who comes in and who goes: ids, control functions, newcomers with a known id (docs/gateway.md, "Presence")."""

import base64
import json
import random
import time
from collections.abc import Callable, Container
from typing import Any

from zope.interface import Interface, implementer

from frontier_tx.switch.errors import IllegalEdgeID, NoID, ServiceNotOnline, Timeout
from frontier_tx.switch.exchange import Exchange
from frontier_tx.switch.leg import Kind, Leg
from frontier_tx.switch.opening import StreamOpener
from frontier_tx.switch.pending import Pending
from frontier_tx.wire import gojson
from frontier_tx.wire.connection import State
from frontier_tx.wire.events import ConnReceived
from frontier_tx.wire.ids import MAX_ID, NO_ID, ClientIds
from frontier_tx.wire.packets import DEADLINE_EXCEEDED

GET_EDGE_ID = b"get_edge_id"
EDGE_ONLINE = b"edge_online"
EDGE_OFFLINE = b"edge_offline"


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
    :param control_seconds: time for ``get_edge_id`` and ``edge_online`` together: the ConnAck that waits for them must
        reach the edge within the ten seconds that it waits.
    :param on_control_error: told of a control function that a service answered with an error.
    :param on_fault: told, while the exception is being handled, of a listener or an allocator that failed.
    """

    def __init__(
        self,
        exchange: Exchange,
        *,
        allocator: IIDAllocator | None = None,
        allocate_edge_ids: bool = True,
        control_seconds: float = 9.0,
        now: Callable[[], float],
        wall_clock: Callable[[], float] = time.time,
        on_control_error: Callable[[str, Leg, str], None] | None = None,
        on_fault: Callable[[str], None] | None = None,
    ) -> None:
        self.exchange = exchange
        self.repository = exchange.repository
        self.streams = StreamOpener(exchange)
        self.listeners: list[Any] = []
        self._allocator: Any = allocator or ClientIDAllocator(wall_clock)
        self._allocate_edge_ids = allocate_edge_ids
        self._control_seconds = control_seconds
        self._now = now
        self._on_control_error = on_control_error or (lambda method, leg, error: None)
        self._on_fault = on_fault or (lambda what: None)

    def arrived(self, leg: Leg, event: ConnReceived) -> None:
        """Somebody introduced itself; sooner or later its connection is accepted or refused."""
        leg.meta = event.meta
        if leg.kind is Kind.EDGE:
            _EdgeArrival(self, leg).start(event)
        else:
            self._service_arrived(leg, event)

    # -- services -----------------------------------------------------------------------------------------

    def _service_arrived(self, leg: Leg, event: ConnReceived) -> None:
        try:
            leg.name, leg.topics = read_service_meta(event.meta)
        except ValueError as error:
            leg.connection.refuse(f"illegal service meta: {error}", self._now())
            return
        leg.id = event.wanted_id or self._allocate(self.repository.services)
        if leg.id == NO_ID:
            leg.connection.refuse(NoID.text, self._now())
        else:
            self._come_in(leg)

    # -- both ---------------------------------------------------------------------------------------------

    def _come_in(self, leg: Leg) -> None:
        """Put the leg into the repository, then tell the peer; the one whose place it takes is closed."""
        leg.tail = leg.id.to_bytes(8)
        old = self.repository.add(leg)
        leg.connection.accept(leg.id, self._now())
        if old is not None:
            self._retire(old)
            old.link.close()
        self._tell("online", leg)

    def _retire(self, leg: Leg) -> None:
        """End everything that hangs on a leg; its connection may still have its goodbye to say."""
        now = self._now()
        self.streams.forget(leg, now)
        self.exchange.forget(leg)

    def gone(self, leg: Leg) -> None:
        """The connection of a leg ended, in whatever way. Called once for each."""
        accepted = leg.connection.client_id != NO_ID or leg.online
        was_online = leg.online
        self._retire(leg)
        if was_online:
            self._tell("offline", leg)
        if leg.kind is Kind.EDGE and accepted:
            self.tell_offline(leg)

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

    @property
    def allocates_edge_ids(self) -> bool:
        """Whether an edge gets an id while no service hands them out."""
        return self._allocate_edge_ids

    def allocate_edge_id(self) -> int:
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

    # -- control functions --------------------------------------------------------------------------------

    def candidates(self, method: bytes) -> list[Leg]:
        """Services that registered a control function."""
        return self.repository.services_of_method(method)

    def call(
        self, method: bytes, leg: Leg, value: bytes, seconds: float, done: Callable[[bytes, str], None]
    ) -> Pending | None:
        """Call a control function at one of the services that have it, of which there is one at least."""
        candidates = self.candidates(method)
        if method == GET_EDGE_ID or len(candidates) == 1:
            service = random.choice(candidates)
        else:
            service = self.exchange.choose(candidates, leg)

        def answered(value: bytes, error: str) -> None:
            if error:
                self._on_control_error(method.decode(), leg, error)
            done(value, error)

        return self.exchange.call_service(service, method, value, seconds, answered)

    def tell_offline(self, leg: Leg) -> None:
        """Tell a service that an edge which was announced is gone."""
        if self.candidates(EDGE_OFFLINE):
            seconds = self.exchange.settings.call_seconds
            self.call(EDGE_OFFLINE, leg, _event_json(leg), seconds, lambda value, error: None)

    @property
    def control_seconds(self) -> float:
        """See the constructor."""
        return self._control_seconds

    def now(self) -> float:
        """Seconds of the process's clock."""
        return self._now()

    def let_in(self, leg: Leg) -> None:
        """Accept an edge whose id is settled."""
        self._come_in(leg)


class _EdgeArrival:
    """The way of one edge from its Conn to its ConnAck.

    It is refused when ``control_seconds`` are over. What a service was asked by then may still be answered: an edge
    that it lets in too late, or that has left meanwhile, is one that it hears of leaving.
    """

    __slots__ = ("tick", "_presence", "_leg", "_until", "_asked")

    def __init__(self, presence: Presence, leg: Leg) -> None:
        #: The slot of the process's timer (``timers.Timed``).
        self.tick = 0
        self._presence = presence
        self._leg = leg
        self._until = presence.now() + presence.control_seconds
        self._asked: Pending | None = None

    def start(self, event: ConnReceived) -> None:
        """First the id: the wanted one, one from a service, or an allocated one."""
        presence, leg = self._presence, self._leg
        if not event.acquire and event.wanted_id:
            self._identified(event.wanted_id)
        elif event.acquire and presence.candidates(GET_EDGE_ID):
            self._ask(GET_EDGE_ID, leg.meta, self._got_id)
        elif presence.allocates_edge_ids:
            self._identified(presence.allocate_edge_id())
        else:
            self._refuse(ServiceNotOnline.text)

    def _ask(self, method: bytes, value: bytes, done: Callable[[bytes, str], None]) -> None:
        presence = self._presence

        def answered(value: bytes, error: str) -> None:
            self._asked = None
            presence.exchange.timers.cancel(self)
            done(value, error)

        presence.exchange.timers.schedule(self, self._until)
        self._asked = presence.call(method, self._leg, value, self._until - presence.now(), answered)

    def fire(self, now: float) -> None:
        """The services have taken too long."""
        self._refuse(Timeout.text)
        if self._asked is not None:
            self._presence.exchange.withdraw(self._asked, DEADLINE_EXCEEDED)

    def _got_id(self, value: bytes, error: str) -> None:
        if error:
            self._refuse(error)
        elif len(value) != 8:
            self._refuse(IllegalEdgeID.text)
        elif self._waiting():
            # A service that leaves the choice to the gateway is one that hands out ids, whatever holds without one.
            self._identified(int.from_bytes(value) or self._presence.allocate_edge_id())

    def _identified(self, edge_id: int) -> None:
        if edge_id == NO_ID:
            self._refuse(NoID.text)
            return
        presence, leg = self._presence, self._leg
        leg.id = edge_id
        if self._until <= presence.now():
            self._refuse(Timeout.text)
        elif presence.candidates(EDGE_ONLINE):
            self._ask(EDGE_ONLINE, _event_json(leg), self._announced)
        else:
            presence.let_in(leg)

    def _announced(self, value: bytes, error: str) -> None:
        if error:
            self._refuse(error)
        elif self._waiting():
            self._presence.let_in(self._leg)
        else:
            self._presence.tell_offline(self._leg)

    def _waiting(self) -> bool:
        return self._leg.connection.state is State.CONN_RECEIVED

    def _refuse(self, error: str) -> None:
        if self._waiting():
            self._leg.connection.refuse(error, self._presence.now(), self._leg.id)


def _event_json(leg: Leg) -> bytes:
    meta = base64.b64encode(leg.meta).decode() if leg.meta else None
    event = {"EdgeID": leg.id, "Meta": meta, "Net": leg.network, "Str": leg.address}
    return json.dumps(event, separators=(",", ":"), ensure_ascii=False).encode()


def read_service_meta(meta: bytes) -> tuple[str, tuple[str, ...]]:
    """Return name and topics from the meta of a service's Conn.

    :raises ValueError: it is no JSON object, or a value in it is of the wrong type.
    """
    taken = gojson.read_object(meta, {"service": gojson.read_string, "topics": gojson.read_strings})
    topics: tuple[str, ...] = taken.get("topics", ())
    return taken.get("service", ""), tuple(dict.fromkeys(topics))
