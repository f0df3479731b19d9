"""Who comes in and who goes: ids, control functions, newcomers with a known id (docs/gateway.md, "Presence")."""

import base64
import json
import random
import time
from collections.abc import Callable, Container
from typing import Any

from zope.interface import Interface, implementer

from frontier_tx.errors import MetaTooLarge, NoChoice, NoID, Replaced
from frontier_tx.switch.arrival import EDGE_OFFLINE, EDGE_ONLINE, GET_EDGE_ID, EdgeArrival
from frontier_tx.switch.exchange import Exchange
from frontier_tx.switch.introduction import EDGE_DOOR, SERVICE_DOOR, looks_like_service, read_service_meta
from frontier_tx.switch.latecomers import Latecomers
from frontier_tx.switch.leg import Kind, Leg, Told
from frontier_tx.switch.opening import StreamOpener
from frontier_tx.switch.pending import Pending
from frontier_tx.switch.repository import TOPIC_BYTES
from frontier_tx.wire.connection import State
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
        now: Callable[[], float],
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
        #: Seconds of the process's clock.
        self.now = now
        self.allocates_edge_ids = allocate_edge_ids
        self.takes_own_ids = own_edge_ids
        self.renews_edge_ids = renew_edge_ids
        self.control_seconds = control_seconds
        #: Edges that are on their way in, and of those the one for each id whose turn it is.
        self.coming: dict[Leg, EdgeArrival] = {}
        self.turns: dict[int, EdgeArrival] = {}
        self.latecomers = Latecomers(self, on_renewed or (lambda count: None))
        for method in (GET_EDGE_ID, EDGE_ONLINE):
            self.repository.watched[method] = self.latecomers.noticed
        self._allocator: Any = allocator or ClientIDAllocator(wall_clock)
        self._on_control_error = on_control_error or (lambda method, leg, error: None)
        self._on_fault = on_fault or (lambda what: None)
        self._on_replaced = on_replaced or (lambda old, new: None)

    def arrived(self, leg: Leg, event: ConnReceived) -> None:
        """Somebody introduced itself; sooner or later its connection is accepted or refused."""
        if not self.repository.holdings.take(leg, len(event.meta)):
            self.refuse(leg, MetaTooLarge.text)
            return
        leg.meta = event.meta
        wrong = event.kind not in ("", leg.kind.value)
        if leg.kind is Kind.SERVICE:
            if wrong:
                self.refuse(leg, SERVICE_DOOR)
            else:
                self._service_arrived(leg, event)
        elif wrong or (not event.kind and looks_like_service(event.meta)):
            self.refuse(leg, EDGE_DOOR)
        else:
            arrival = self.coming[leg] = EdgeArrival(self, leg)
            arrival.start(event)

    def waits(self, leg: Leg) -> bool:
        """Whether a leg is neither accepted nor refused, and still connected."""
        return leg.connection.state is State.CONN_RECEIVED

    def refuse(self, leg: Leg, error: str) -> None:
        """Turn a newcomer away, if it still waits."""
        if self.waits(leg):
            leg.connection.refuse(error, self.now(), leg.id)

    # -- services -----------------------------------------------------------------------------------------

    def _service_arrived(self, leg: Leg, event: ConnReceived) -> None:
        settings = self.exchange.settings
        try:
            name, topics = read_service_meta(event.meta, settings.topics_per_connection, settings.method_bytes)
        except ValueError as error:
            self.refuse(leg, f"illegal service meta: {error}; {SERVICE_DOOR}")
            return
        if not self.repository.holdings.take(leg, sum(len(topic) + TOPIC_BYTES for topic in topics)):
            self.refuse(leg, MetaTooLarge.text)
            return
        leg.name, leg.topics = name, topics
        leg.id = event.wanted_id or self._allocate(self.repository.services)
        if leg.id == NO_ID:
            self.refuse(leg, NoID.text)
        else:
            self.let_in(leg)

    # -- both ---------------------------------------------------------------------------------------------

    def let_in(self, leg: Leg) -> None:
        """Put the leg into the repository, then tell the peer; the one whose place it takes is closed."""
        leg.tail = leg.id.to_bytes(8)
        old = self.repository.add(leg)
        leg.connection.accept(leg.id, self.now())
        if old is not None:
            self._retire(old)
            old.link.close(Replaced.text)
            self._on_replaced(old, leg)
            if self._is_missed(old):
                self.tell_offline(old)
        if leg.allocated and self.candidates(GET_EDGE_ID):
            self.latecomers.noticed()
        self._tell("online", leg)

    def _retire(self, leg: Leg) -> None:
        """End everything that hangs on a leg; its connection may still have its goodbye to say."""
        self.streams.forget(leg, self.now())
        self.exchange.forget(leg)

    def gone(self, leg: Leg) -> None:
        """The connection of a leg ended, in whatever way. Called once for each."""
        accepted = leg.connection.client_id != NO_ID or leg.online
        was_online = leg.online
        self._retire(leg)
        if leg in self.coming:
            self.coming[leg].left()
        else:
            self.repository.holdings.let_go(leg)
        if was_online:
            self._tell("offline", leg)
        if accepted and self._is_missed(leg):
            self.tell_offline(leg)

    def _is_missed(self, leg: Leg) -> bool:
        """Whether a service takes an edge for online; where none wants ``edge_online``, all are taken for it."""
        return leg.is_edge and (
            leg.told is Told.ONLINE or (leg.told is Told.NOTHING and not self.candidates(EDGE_ONLINE))
        )

    def came(self, arrival: EdgeArrival) -> None:
        """An edge is in, or will not be."""
        leg = arrival.leg
        del self.coming[leg]
        if leg.connection.closed:
            self.repository.holdings.let_go(leg)

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
            service: Leg | None = random.choice(candidates)
        else:
            service = self.exchange.choose(candidates, leg)
            if service is None and method == EDGE_OFFLINE:
                # Whoever is told of it, it must not get lost.
                service = candidates[0]

        def answered(value: bytes, error: str) -> None:
            if error:
                self._on_control_error(method.decode(), leg, error)
            done(value, error)

        if service is None:
            answered(b"", NoChoice.text)
            return None
        # An edge that was announced is one whose end is told, however much waits: there is one for each coming.
        return self.exchange.call_service(service, method, value, seconds, answered, leg, method == EDGE_OFFLINE)

    def ask_online(self, leg: Leg, seconds: float, done: Callable[[bytes, str], None]) -> Pending | None:
        """Ask a service whether an edge may be online; ``leg.told`` is ASKED until ``done`` changes it."""
        leg.told = Told.ASKED
        return self.call(EDGE_ONLINE, leg, event_json(leg), seconds, done)

    def tell_offline(self, leg: Leg, done: Callable[[], None] = lambda: None) -> None:
        """Tell a service that an edge which was announced is gone."""
        leg.told = Told.OFFLINE
        if self.candidates(EDGE_OFFLINE):
            seconds = self.exchange.settings.call_seconds
            self.call(EDGE_OFFLINE, leg, event_json(leg), seconds, lambda value, error: done())
        else:
            done()

    def left_behind(self, edge_id: int) -> None:
        """A newcomer that was to take an edge's place is not in: the one of which a service heard that it left goes."""
        leg = self.repository.edges.get(edge_id)
        if leg is not None and leg.told is Told.OFFLINE:
            leg.link.close(Replaced.text)


def event_json(leg: Leg) -> bytes:
    """What ``edge_online`` and ``edge_offline`` are called with."""
    meta = b'"%b"' % base64.b64encode(leg.meta) if leg.meta else b"null"
    network, address = (json.dumps(text, ensure_ascii=False).encode() for text in (leg.network, leg.address))
    return b'{"EdgeID":%d,"Meta":%b,"Net":%b,"Str":%b}' % (leg.id, meta, network, address)
