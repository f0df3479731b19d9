"""A service of all Frontiers of a cluster."""

from collections.abc import Sequence
from typing import Generic, Unpack

from twisted.internet.interfaces import IReactorTime

from frontier_tx.clients.cluster.core import ClusterCore, ClusterOptions
from frontier_tx.clients.cluster.frontlas_client import EndpointFor, FrontlasClient
from frontier_tx.clients.cluster.member import FrontierState
from frontier_tx.clients.cluster.routes import LearningIntake
from frontier_tx.clients.core.home import Home
from frontier_tx.clients.core.intake import Bounds, Done
from frontier_tx.clients.core.operations import Run
from frontier_tx.clients.core.stream import StreamSession
from frontier_tx.clients.surface.client import Incoming
from frontier_tx.clients.surface.flavour import B, Callbacks, Handle, Handler, M, N, S, T, waiting_for
from frontier_tx.clients.surface.speaking import EdgeSpeaker, Presence, StartOn


class ClusterFace(Incoming[N, M, S, T], EdgeSpeaker[B, N], Presence[N], Generic[B, N, M, S, T]):
    """A service over all Frontiers of a cluster; its surface is that of ``Service``.

    :param frontlas: ``host:port`` of Frontlas, or several of them that share one registry.
    :param endpoint_for: makes the endpoint for a Frontier; ``frontlas_endpoint_for`` the same for Frontlas, ``secure``:
        over TLS.
    :param name: see ``Service``, as ``topics``, ``service_id`` and ``error_texts``; without an id the first Frontier
        gives it.
    :param options: see ``ClusterOptions``.
    """

    def __init__(
        self,
        frontlas: str | Sequence[str],
        clock: IReactorTime,
        home: Home,
        callbacks: Callbacks,
        run: Run,
        endpoint_for: EndpointFor,
        frontlas_endpoint_for: EndpointFor,
        secure: bool,
        *,
        name: str,
        topics: Sequence[str],
        service_id: int,
        bounds: Bounds | None,
        error_texts: bool,
        **options: Unpack[ClusterOptions],
    ) -> None:
        intake = LearningIntake(run, bounds, error_texts=error_texts)
        super().__init__(intake, home, callbacks)
        #: What asks Frontlas; its ``trouble`` is empty while all is well.
        self.frontlas = FrontlasClient(
            frontlas,
            clock,
            frontlas_endpoint_for,
            secure=secure,
            timeout=options.get("connect_timeout", 5.0),
            log=self.log,
        )
        self.core = ClusterCore(
            intake,
            self.frontlas,
            clock,
            endpoint_for,
            home=home,
            callbacks=callbacks,
            name=name,
            topics=topics,
            service_id=service_id,
            protocol=self.protocol,
            log=self.log,
            **options,
        )
        self.name = name
        self.topics = tuple(topics)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.service_id}>"

    def connect(self, wait: bool = True) -> N:
        """Get the first list, and connect to all Frontiers on it.

        Where it fails, or is cancelled, all is over. It fails with FrontlasUnavailable or LookupRefused, where it waits
        with ConnectFailed when no Frontier could be connected to, and with EndClosed when it was closed.

        :param wait: for the first connection; it does not wait where the list is empty.
        """

        def start(done: Done) -> Handle:
            self._home.settle()
            return waiting_for(lambda: self.core.connect(wait))(done)

        result: N = self._begin(start)
        return result

    def when_online(self) -> N:
        """Done when a connection to any Frontier is up; EndClosed when there will be none."""
        result: N = self._begin(waiting_for(self.core.roster.when_online))
        return result

    def _close(self, done: Done) -> Handle:
        return waiting_for(self.core.close)(done)

    @property
    def online(self) -> bool:
        """Whether a connection to any Frontier is up."""
        return self.core.roster.online

    @property
    def service_id(self) -> int:
        """The same at every Frontier; 0 before the first gave one."""
        return self.core.roster.service_id

    @property
    def frontiers(self) -> list[FrontierState]:
        """The Frontiers of the cluster as this service sees them."""
        return self.core.roster.states

    def _start_at(
        self, edge_id: int, start: StartOn, done: Done, timeout: float | None, deadline: float | None
    ) -> Handle:
        return self.core.start_at(edge_id, start, done, timeout, deadline)

    def _register(self, method: str, handler: Handler, done: Done, timeout: float | None) -> Handle:
        return waiting_for(lambda: self.core.register(method, handler, timeout=timeout))(done)

    def _sessions(self) -> list[StreamSession]:
        return self.core.sessions()

    def open_stream(self, target: str | int, meta: bytes = b"") -> S:
        """Open a stream to an edge, wherever it is; Frontlas is asked each time, unless the edge was heard just now."""
        return self._opening(lambda done: self.core.open(target, meta, done))
