"""Calls of the gateway itself: functions that services register for it (docs/gateway.md, "Presence")."""

import base64
import json
import random
from collections.abc import Callable

from frontier_tx.errors import NoChoice
from frontier_tx.switch.exchange import Exchange
from frontier_tx.switch.legs import Announced, Leg, Pending
from frontier_tx.switch.routing import EDGE_OFFLINE, EDGE_ONLINE, GET_EDGE_ID


class ControlFunctions:
    """Asks services for ids of edges, and tells them which edges come and go.

    :param seconds: time for ``get_edge_id`` and ``edge_online`` together.
    :param on_error: told the function, the edge, and the error text that a service answered with.
    """

    def __init__(self, exchange: Exchange, seconds: float, on_error: Callable[[str, Leg, str], None]) -> None:
        self.exchange = exchange
        self.seconds = seconds
        self._on_error = on_error

    def candidates(self, method: bytes) -> list[Leg]:
        """Services that registered a control function."""
        return self.exchange.repository.services_of_method(method)

    def call(
        self, method: bytes, leg: Leg, value: bytes, seconds: float, done: Callable[[bytes, str], None]
    ) -> Pending | None:
        """Call a control function at one of the services that have it, of which there is one at least."""
        candidates = self.candidates(method)
        if method == GET_EDGE_ID or len(candidates) == 1:
            service: Leg | None = random.choice(candidates)
        else:
            service = self.exchange.router.choose(candidates, leg)
            if service is None and method == EDGE_OFFLINE:
                # Whoever is told of it, it must not get lost.
                service = candidates[0]

        def answered(value: bytes, error: str) -> None:
            if error:
                self._on_error(method.decode(), leg, error)
            done(value, error)

        if service is None:
            answered(b"", NoChoice.text)
            return None
        # An edge that was announced is one whose end is told, however much waits: there is one for each coming.
        return self.exchange.forwarding.call_service(
            service, method, value, seconds, answered, leg, method == EDGE_OFFLINE
        )

    def ask_online(self, leg: Leg, seconds: float, done: Callable[[bytes, str], None]) -> Pending | None:
        """Ask a service whether an edge may be online; ``leg.announced`` is ASKED until ``done`` changes it."""
        leg.announced = Announced.ASKED
        return self.call(EDGE_ONLINE, leg, event_json(leg), seconds, done)

    def tell_offline(self, leg: Leg, done: Callable[[], None] = lambda: None) -> None:
        """Tell a service that an edge which was announced is gone."""
        leg.announced = Announced.OFFLINE
        if self.candidates(EDGE_OFFLINE):
            seconds = self.exchange.settings.call_seconds
            self.call(EDGE_OFFLINE, leg, event_json(leg), seconds, lambda value, error: done())
        else:
            done()


def event_json(leg: Leg) -> bytes:
    """What ``edge_online`` and ``edge_offline`` are called with."""
    meta = b'"%b"' % base64.b64encode(leg.meta) if leg.meta else b"null"
    network, address = (json.dumps(text, ensure_ascii=False).encode() for text in (leg.network, leg.address))
    return b'{"EdgeID":%d,"Meta":%b,"Net":%b,"Str":%b}' % (leg.id, meta, network, address)
