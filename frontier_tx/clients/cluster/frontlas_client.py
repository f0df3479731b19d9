"""Asks Frontlas: a gRPC client of the cluster plane with any number of servers, one of which is used at a time."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import Deferred, DeferredSemaphore
from twisted.internet.interfaces import IDelayedCall, IReactorTime, IStreamClientEndpoint
from twisted.logger import Logger
from twisted.python.failure import Failure

from frontier_tx.clients.surface.flavour import error_of
from frontier_tx.config.address import join_host_port, split_host_port
from frontier_tx.errors import EdgeNotOnline, EndClosed, OperationError, RemoteError
from frontier_tx.rpc.contract import frontlas_contract
from frontier_tx.rpc.grpc_client import GrpcClientConnection, NotSentError, connect
from frontier_tx.rpc.status import RpcError, Status
from frontier_tx.runtime.deferreds import Waiters

#: What Frontlas answers for an edge that it does not know, whatever the status (control-plane: ``redis: nil``).
UNKNOWN_TEXT = "redis: nil"
#: Begins the answer of a Frontlas that is well, but cannot tell yet where this edge is.
INCOMPLETE_TEXT = "redis lost its data"
#: Questions under way at a time; further ones wait for their turn.
CONCURRENT = 50
#: Bytes of one answer: the list of all Frontiers comes in one.
MAX_ANSWER = 32 * 1024 * 1024
#: Seconds for which nothing is asked after all servers failed.
PAUSE = 1.0

#: Makes the endpoint to dial for a host and a port.
EndpointFor = Callable[[str, int], IStreamClientEndpoint]


class FrontlasUnavailable(OperationError):
    """No Frontlas could be asked; the text names the addresses and the cause."""

    private = True


class LookupRefused(RemoteError):
    """Frontlas answered with an error; the text is its own."""

    private = True
    origin = "frontlas"


class UnknownEdge(EdgeNotOnline):
    """Frontlas knows no Frontier that holds the edge; the text is Frontlas's."""

    text = UNKNOWN_TEXT
    origin = "frontlas"


@dataclass(frozen=True, slots=True)
class Listed:
    """A Frontier as Frontlas lists it, with its address parsed."""

    frontier_id: str
    host: str
    port: int


def addresses_of(given: str | Sequence[str]) -> list[tuple[str, int]]:
    """Hosts and ports of the Frontlas that a user gave.

    :raises ValueError: no address, or one that is not ``host:port``. :raises TypeError: something else than text.
    """
    addresses = [given] if isinstance(given, str) else given
    if not isinstance(addresses, Sequence) or not all(isinstance(address, str) for address in addresses):
        raise TypeError(f"frontlas: expected host:port or a list of them, not {given!r}")
    if not addresses:
        raise ValueError("no address of a Frontlas was given")
    found = []
    for address in addresses:
        try:
            found.append(split_host_port(address))
        except ValueError as error:
            raise ValueError(f"frontlas {address!r}: {error}") from None
    return found


class FrontlasClient:
    """A client of one or several Frontlas that share their registry.

    It needs no reactor, only a clock.

    :param addresses: ``host:port`` each, or one of them; asked in this order until one answers, which is then kept.
    :param endpoint_for: makes the endpoint of each. :param secure: whether that speaks TLS.
    :param timeout: seconds for a connection, and for an answer. :param token: what Frontlas is shown.
    :raises TypeError: or ValueError, see ``addresses_of``.
    """

    def __init__(
        self,
        addresses: str | Sequence[str],
        clock: IReactorTime,
        endpoint_for: EndpointFor,
        *,
        secure: bool = False,
        timeout: float = 5.0,
        token: str = "",
        log: Logger | None = None,
    ) -> None:
        self.log = log or Logger(namespace="frontier.client")
        self.addresses = addresses_of(addresses)
        self._clock = clock
        self._secure = secure
        self._timeout = timeout
        self._metadata = {"authorization": f"Bearer {token}"} if token else {}
        self._endpoint_for = endpoint_for
        contract = frontlas_contract()
        self._list = contract.method("controlplane.ClusterService", "ListFrontiers")
        self._find = contract.method("controlplane.ClusterService", "GetFrontierByEdge")
        self._watch = contract.method("controlplane.ClusterWatch", "Watch")
        self._joined_kind = contract.enum("controlplane.WatchEvent.Kind")["FRONTIER_UP"]
        self._turn = 0
        self._current: GrpcClientConnection | None = None
        self._connecting: Deferred[None] | None = None
        self._waiters: Waiters[GrpcClientConnection] = Waiters()
        self._looking_up: dict[int, Waiters[Listed]] = {}
        self._leaving: dict[GrpcClientConnection, IDelayedCall] = {}
        self._slots = DeferredSemaphore(CONCURRENT)
        self._quiet_until = float("-inf")
        self._trouble = ""
        self._closed = False
        #: Questions asked, and those that no server answered.
        self.asked = 0
        self.failed = 0

    @property
    def trouble(self) -> str:
        """Why no Frontlas can be asked; empty while one can."""
        return self._trouble

    async def frontiers(self) -> list[Listed]:
        """All Frontiers that are listed with an address that can be dialled.

        :raises FrontlasUnavailable: no server answered.
        :raises LookupRefused: one answered with an error.
        """
        answer = await self._ask(self._list, self._list.request())
        found = [_listed(frontier) for frontier in answer.frontiers]
        return [listed for listed in found if listed is not None]

    async def holder(self, edge_id: int) -> Listed:
        """The Frontier that holds the edge. Those who ask for one edge at the same time share one question.

        :raises UnknownEdge: none does. Else as ``frontiers``.
        """
        asking = self._looking_up.get(edge_id)
        first = asking is None
        if asking is None:
            asking = self._looking_up[edge_id] = Waiters()
        waiting = asking.wait()
        if first:
            # Not cancelled with the first caller: others may wait for the answer, and it is bounded in time.
            Deferred.fromCoroutine(self._holder(edge_id)).addBoth(self._looked_up, edge_id, asking)
        return await waiting

    def _looked_up(self, outcome: Any, edge_id: int, asking: Waiters[Listed]) -> None:
        del self._looking_up[edge_id]
        asking.tell(error_of(outcome) if isinstance(outcome, Failure) else outcome)

    async def _holder(self, edge_id: int) -> Listed:
        try:
            answer = await self._ask(self._find, self._find.request(edge_id=edge_id))
        except LookupRefused as error:
            if str(error) == UNKNOWN_TEXT:
                raise UnknownEdge from None
            raise
        listed = _listed(answer.fontier)
        if listed is None:
            raise UnknownEdge(f"Frontlas names no address for edge {edge_id}")
        return listed

    async def watch_joins(self, joined: Callable[[], None]) -> None:
        """Call ``joined`` for each Frontier that joins; returns when the server tells no more, or never did.

        :raises FrontlasUnavailable: no server can be reached.
        """
        connection = await self._connection()
        try:
            async for event in connection.stream(self._watch, self._watch.request(frontiers=True)):
                if event.kind == self._joined_kind:
                    joined()
        except RpcError:
            # A Frontlas without this method, or one that goes away. The lists go on.
            return

    def close(self) -> None:
        """Stop; what is under way fails."""
        self._closed = True
        self._waiters.tell(EndClosed())
        if self._connecting is not None:
            self._connecting.cancel()
        for connection, timer in self._leaving.items():
            timer.cancel()
            connection.close()
        self._leaving.clear()
        if self._current is not None:
            self._current.close()
            self._current = None

    # -- asking -------------------------------------------------------------------------------------------

    async def _ask(self, method: Any, request: Any) -> Any:
        await self._slots.acquire()
        try:
            self.asked += 1
            return await self._try_each(method, request)
        finally:
            self._slots.release()

    async def _try_each(self, method: Any, request: Any) -> Any:
        cause, trouble = "", False
        alone = len(self.addresses) == 1
        # Twice at least: a connection may be lost though Frontlas is there.
        for _ in range(max(2, len(self.addresses))):
            connection = await self._connection()
            name = join_host_port(*self.addresses[self._turn])
            try:
                answer = await connection.unary(method, request, self._timeout)
            except RpcError as error:
                if self._closed:
                    raise EndClosed from None
                if error.status not in (Status.UNAVAILABLE, Status.DEADLINE_EXCEEDED):
                    raise LookupRefused(str(error)) from None
                cause = f"{name}: {error}"
                trouble = trouble or not str(error).startswith(INCOMPLETE_TEXT)
                silent = error.status is Status.DEADLINE_EXCEEDED
                if isinstance(error, NotSentError) and (connection.usable or connection.spent):
                    # Not processed, or the connection takes no more calls: call once more.
                    continue
                if alone and connection.usable and not silent:
                    break
                self._leave(connection)
                if alone and silent:
                    break
            else:
                self._well(name)
                return answer
        if not trouble:
            raise FrontlasUnavailable(cause)
        raise self._ill(cause)

    def _well(self, name: str) -> None:
        if self._trouble:
            self._trouble = ""
            self.log.info("Frontlas {name} answers again", name=name)

    def _ill(self, cause: str) -> FrontlasUnavailable:
        self.failed += 1
        known, self._trouble = self._trouble, f"no Frontlas can be asked: {cause}"
        self._quiet_until = self._clock.seconds() + PAUSE
        if not (known or self._closed):
            self.log.warn("{trouble}; the Frontiers and edges known so far are used on", trouble=self._trouble)
        return FrontlasUnavailable(self._trouble)

    # -- connecting ---------------------------------------------------------------------------------------

    async def _connection(self) -> GrpcClientConnection:
        if self._closed:
            raise EndClosed
        if self._current is not None:
            if self._current.usable:
                return self._current
            self._leave(self._current, stay=self._current.spent)
        if self._trouble and self._clock.seconds() < self._quiet_until:
            raise FrontlasUnavailable(self._trouble)
        waiting = self._waiters.wait()
        if self._connecting is None:
            connecting = self._connecting = Deferred.fromCoroutine(self._connect())
            connecting.addBoth(self._connect_over)
        return await waiting

    def _connect_over(self, result: Any) -> None:
        self._connecting = None
        if isinstance(result, Failure):
            # For instance no endpoint could be made.
            self._waiters.tell(self._ill(result.getErrorMessage()))

    async def _connect(self) -> None:
        causes = []
        for _ in self.addresses:
            host, port = self.addresses[self._turn]
            try:
                made = await connect(
                    self._clock,
                    self._endpoint_for(host, port),
                    join_host_port(host, port),
                    secure=self._secure,
                    timeout=self._timeout,
                    metadata=self._metadata,
                    max_message=MAX_ANSWER,
                )
            except RpcError as error:
                causes.append(str(error))
                self._next()
                continue
            self._connecting = None
            self._current = made
            self._waiters.tell(made)
            return
        self._connecting = None
        self._waiters.tell(self._ill("; ".join(causes)))

    def _next(self) -> None:
        self._turn = (self._turn + 1) % len(self.addresses)

    def _leave(self, connection: GrpcClientConnection, stay: bool = False) -> None:
        # Other questions may still be answered on it; their time limits are over by then.
        if connection is self._current:
            self._current = None
            if not stay:
                self._next()
            self._leaving[connection] = self._clock.callLater(self._timeout, self._left, connection)

    def _left(self, connection: GrpcClientConnection) -> None:
        del self._leaving[connection]
        connection.close()


def _listed(frontier: Any) -> Listed | None:
    try:
        host, port = split_host_port(frontier.advertised_sb_addr)
    except ValueError:
        return None
    return Listed(frontier.frontier_id, host.lower(), port) if host and port else None
