"""Calls and messages: of an edge and a stream, which have one far end, and of services, which name an edge."""

from collections.abc import Callable
from typing import Any, Generic

from frontier_tx.clients.core.intake import Done
from frontier_tx.clients.core.presence import EdgeEvent, event_handler, id_handler
from frontier_tx.clients.core.session import ClientSession
from frontier_tx.clients.core.values import addressed
from frontier_tx.clients.surface.flavour import Flavour, GivesBytes, GivesNothing, Handle, Handler, Registering

#: Starts an operation on session 1 with a gateway, with what is left of the timeout in seconds.
StartOn = Callable[[ClientSession, float | None, Done], Handle]


class Speaker(Flavour, Generic[GivesBytes, GivesNothing]):
    """Speaks on one session."""

    def _session(self) -> ClientSession:
        raise NotImplementedError

    def call(
        self,
        method: str,
        data: bytes = b"",
        custom: bytes = b"",
        *,
        timeout: float | None = None,
        deadline: float | None = None,
    ) -> GivesBytes:
        """Call a method of the other side. Cancelling withdraws the call. There is no default timeout.

        :param timeout: seconds; then it fails with OperationTimeout.
        :param deadline: Unix seconds; then it fails with DeadlineExceeded.
        :return: the answer; fails with RemoteError with the text that the other side gave, ForceClosed when the
            connection ended meanwhile, EndClosed when there is none, PayloadTooLarge, TooManyPending, SendBufferFull.
        :raises RuntimeError: (as every method) in another thread or loop, or in a fork of the process.
        """
        result: GivesBytes = self._begin(
            lambda done: self._session().call(method, data, done, custom=custom, timeout=timeout, deadline=deadline)
        )
        return result

    def publish(
        self,
        topic: str,
        data: bytes = b"",
        custom: bytes = b"",
        *,
        timeout: float | None = None,
        deadline: float | None = None,
        at_most_once: bool = False,
    ) -> GivesNothing:
        """Send a message. Done when the receiver acknowledged it; fails with its error if it refused.

        With ``at_most_once`` it is done at once. The other parameters and errors are those of ``call``.
        """
        options: Any = {"custom": custom, "timeout": timeout, "deadline": deadline, "at_most_once": at_most_once}
        result: GivesNothing = self._begin(lambda done: self._session().publish(topic, data, done, **options))
        return result


class EdgeSpeaker(Flavour, Generic[GivesBytes, GivesNothing]):
    """Speaks to edges."""

    def _start_at(
        self, edge_id: int, start: StartOn, done: Done, timeout: float | None, deadline: float | None
    ) -> Handle:
        """Start an operation where the edge is."""
        raise NotImplementedError

    def call(
        self,
        edge_id: int,
        method: str,
        data: bytes = b"",
        custom: bytes = b"",
        *,
        timeout: float | None = None,
        deadline: float | None = None,
    ) -> GivesBytes:
        """Call a method of an edge. Parameters and errors as of ``Edge.call``; EdgeNotOnline when it is not there.

        A ClusterService finds the edge first. The time limits cover that, and it fails also with UnknownEdge (an
        EdgeNotOnline), FrontlasUnavailable, LookupRefused and ConnectFailed.
        """

        def start(done: Done) -> Handle:
            options: Any = {"custom": addressed(custom, edge_id), "deadline": deadline}
            return self._start_at(
                edge_id,
                lambda session, left, done: session.call(method, data, done, timeout=left, **options),
                done,
                timeout,
                deadline,
            )

        result: GivesBytes = self._begin(start)
        return result

    def publish(
        self,
        edge_id: int,
        data: bytes = b"",
        custom: bytes = b"",
        *,
        topic: str = "",
        timeout: float | None = None,
        deadline: float | None = None,
        at_most_once: bool = False,
    ) -> GivesNothing:
        """Send a message to an edge; see ``Edge.publish`` and ``call``."""

        def start(done: Done) -> Handle:
            options: Any = {"custom": addressed(custom, edge_id), "deadline": deadline, "at_most_once": at_most_once}
            return self._start_at(
                edge_id,
                lambda session, left, done: session.publish(topic, data, done, timeout=left, **options),
                done,
                timeout,
                deadline,
            )

        result: GivesNothing = self._begin(start)
        return result


class Presence(Registering[GivesNothing]):
    """Hands out edge ids and follows who is online."""

    def _told(self, method: str, make: Callable[[Any], Handler], function: Callable[[Any], Any]) -> GivesNothing:
        result: GivesNothing = self._begin(lambda done: self._register(method, make(function), done, None))
        return result

    def register_get_edge_id(self, function: Callable[[bytes], Any]) -> GivesNothing:
        """Let ``function(meta)`` give edges their ids: it returns one, or 0 to let the gateway allocate it.

        What it raises refuses the edge; it reads the text of a ``HandlerError``, of anything else a reference number
        that stands in the log. Like every handler it may be asynchronous.
        """
        return self._told("get_edge_id", id_handler, function)

    def register_edge_online(self, function: Callable[[EdgeEvent], Any]) -> GivesNothing:
        """Let ``function(event)`` know of each edge before it is let in; what it raises refuses it, see above."""
        return self._told("edge_online", event_handler, function)

    def register_edge_offline(self, function: Callable[[EdgeEvent], Any]) -> GivesNothing:
        """Let ``function(event)`` know of each edge that left."""
        return self._told("edge_offline", event_handler, function)
