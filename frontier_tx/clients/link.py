"""Twisted's link: a connection's Protocol whose frames go to an ``End``."""

from dataclasses import replace

from frontier_tx.clients.core.end import End
from frontier_tx.clients.core.keeper import Keeper
from frontier_tx.timers import Alarms
from frontier_tx.wire.events import Event
from frontier_tx.wire.frame import Frame
from frontier_tx.wire.limits import Limits
from frontier_tx.wire.outlet import Outlet
from frontier_tx.wire.protocol import WireProtocol
from frontier_tx.wire.states import Role


class ClientProtocol(WireProtocol):
    """The client's end of a connection. Parameters as of ``WireProtocol``."""

    end: End

    def __init__(
        self,
        keeper: Keeper,
        alarms: Alarms,
        outlet: Outlet,
        limits: Limits | None = None,
        write_stall_seconds: float = 30.0,
    ) -> None:
        window = keeper.intake.bounds.stream_bytes
        super().__init__(
            Role.CLIENT, alarms, outlet, replace(limits or Limits(), stream_window=window), write_stall_seconds
        )
        self._keeper = keeper

    def connection_ready(self) -> None:
        """Introduce this client."""
        self.end = self._keeper.attach(self)

    def frame_received(self, frame: Frame) -> None:
        """Pass on."""
        self.end.frame(frame)

    def event_received(self, event: Event) -> None:
        """Pass on."""
        self.end.event(event)

    def connection_gone(self, reason: str) -> None:
        """Pass on."""
        if hasattr(self, "end"):
            self.end.gone(reason)

    def transport_gone(self) -> None:
        """Pass on."""
        if hasattr(self, "end"):
            self._keeper.transport_gone()

    def flush(self) -> None:
        """Write; whoever waits for that goes on."""
        super().flush()
        if not self._gone and hasattr(self, "end"):
            self.end.drained()
