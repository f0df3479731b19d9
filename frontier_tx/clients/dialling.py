"""How a keeper gets its connections: over any endpoint, in whatever loop that endpoint lives."""

from collections.abc import Callable

from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure

from frontier_tx.clients.core.keeper import Dial, Keeper
from frontier_tx.clients.link import ClientProtocol
from frontier_tx.timers import Alarms
from frontier_tx.wire.limits import Limits
from frontier_tx.wire.outlet import Outlet


def dial_to(
    endpoint: IStreamClientEndpoint,
    alarms: Alarms,
    outlet: Outlet,
    limits: Limits | None,
    write_stall_seconds: float,
    protocol: type[ClientProtocol] = ClientProtocol,
) -> Dial:
    """Return what dials ``endpoint``; the other parameters are those of ``ClientProtocol``."""

    def dial(keeper: Keeper) -> Callable[[], object]:
        factory = Factory.forProtocol(lambda: protocol(keeper, alarms, outlet, limits, write_stall_seconds))
        factory.noisy = False
        dialing = endpoint.connect(factory)
        dialing.addErrback(_failed, keeper)
        return dialing.cancel

    return dial


def _failed(failure: Failure, keeper: Keeper) -> None:
    error = failure.value
    # A keeper that was closed gave the attempt up itself.
    if not keeper.closed:
        keeper.dial_failed(error if isinstance(error, Exception) else RuntimeError(str(error)))
