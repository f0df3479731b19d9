"""The Twisted protocol of a client's connection, and how a reconnector dials it over any endpoint, in any loop."""

from collections.abc import Callable
from dataclasses import replace

from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure

from frontier_tx.clients.core.connection import ClientConnection
from frontier_tx.clients.core.reconnect import Dial, Reconnector
from frontier_tx.timers import Alarms
from frontier_tx.wire.events import Event
from frontier_tx.wire.frame import Frame
from frontier_tx.wire.limits import Limits
from frontier_tx.wire.outlet import Outlet
from frontier_tx.wire.protocol import WireProtocol
from frontier_tx.wire.states import Role


class ClientProtocol(WireProtocol):
    """The client's end of a connection: hands on to a ``ClientConnection``. Parameters as of ``WireProtocol``."""

    client: ClientConnection
    _attached = False

    def __init__(
        self,
        reconnector: Reconnector,
        alarms: Alarms,
        outlet: Outlet,
        limits: Limits | None = None,
        write_stall_seconds: float = 30.0,
    ) -> None:
        window = reconnector.intake.bounds.stream_bytes
        super().__init__(
            Role.CLIENT, alarms, outlet, replace(limits or Limits(), stream_window_bytes=window), write_stall_seconds
        )
        self._reconnector = reconnector

    def connection_ready(self) -> None:
        """Introduce this client."""
        self.client = self._reconnector.attach(self)
        self._attached = True

    def frame_received(self, frame: Frame) -> None:
        """A frame of a session."""
        self.client.frame(frame)

    def event_received(self, event: Event) -> None:
        """An event of the connection or of a session."""
        self.client.event(event)

    def connection_gone(self, reason: str) -> None:
        """The connection is over."""
        if self._attached:
            self.client.gone(reason)

    def transport_gone(self) -> None:
        """The transport is closed."""
        if self._attached:
            self._reconnector.transport_gone()

    def flush(self) -> None:
        """Write; whoever waits for that goes on."""
        super().flush()
        if not self._gone and self._attached:
            self.client.drained()


def dial_to(
    endpoint: IStreamClientEndpoint,
    alarms: Alarms,
    outlet: Outlet,
    limits: Limits | None,
    write_stall_seconds: float,
    protocol: type[ClientProtocol] = ClientProtocol,
) -> Dial:
    """Return what dials ``endpoint``; the other parameters are those of ``ClientProtocol``."""

    def dial(reconnector: Reconnector) -> Callable[[], object]:
        def failed(failure: Failure) -> None:
            error = failure.value
            # A reconnector that was closed gave the attempt up itself.
            if not reconnector.closed:
                reconnector.dial_failed(error if isinstance(error, Exception) else RuntimeError(str(error)))

        factory = Factory.forProtocol(lambda: protocol(reconnector, alarms, outlet, limits, write_stall_seconds))
        factory.noisy = False
        return endpoint.connect(factory).addErrback(failed).cancel

    return dial
