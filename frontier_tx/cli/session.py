"""What a command works with: settings, output, and connections as a service, as an edge or to a control plane."""

import asyncio
import logging
import signal
import sys
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from frontier_tx.cli.failures import Exit, Failure, fail, unreachable
from frontier_tx.cli.output import Output
from frontier_tx.cli.settings import DOORS, Settings
from frontier_tx.cli.text import shown

if TYPE_CHECKING:
    from frontier_tx.aio import ClusterService, Edge, Service
    from frontier_tx.cli.control import Control

T = TypeVar("T")

#: Seconds for a call, for connecting, and for an answer of a control plane, where ``--timeout`` says nothing.
CALL_SECONDS = 30.0
CONNECT_SECONDS = 10.0
ASK_SECONDS = 15.0

_LARGEST_ID = (1 << 64) - 1


class Session:
    """One command's. The options are noted while the command line is read, and looked at later."""

    def __init__(self) -> None:
        self.options: dict[str, Any] = {}
        self._ending = False

    @cached_property
    def settings(self) -> Settings:
        """Where and as whom."""
        settings = Settings(self.options)
        if settings.contexts.warning:
            self.output.note(f"frontier: {settings.contexts.warning}")
        return settings

    @cached_property
    def output(self) -> Output:
        """Where answers go."""
        output = Output(bool(self.options.get("json")), False if self.options.get("no_colour") else None)
        output.quiet = bool(self.options.get("quiet"))
        return output

    @cached_property
    def control(self) -> "Control":
        """The control plane."""
        from frontier_tx.cli.control import Control

        return Control(self.settings, self.settings.timeout(ASK_SECONDS))

    def run(self, main: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run a coroutine to its end; SIGTERM cancels it and ends the command with 143."""
        logged_here()
        return asyncio.run(terminable(main))

    @asynccontextmanager
    async def service(
        self, name: str = "", topics: tuple[str, ...] = (), *, stays: bool = False, **options: Any
    ) -> AsyncIterator["Service | ClusterService"]:
        """Be a service, of a gateway or of a cluster.

        :param stays: connect again when the connection is lost, and tell of it.
        """
        from frontier_tx import aio

        settings, wait = self.settings, min(settings_wait(self.settings), CONNECT_SECONDS)
        client: aio.Service | aio.ClusterService
        if settings.clustered:
            door, address = "frontlas", settings.address("frontlas")
            context = settings.tls() if settings.secure else None
            client = aio.ClusterService(
                str(address), name=name, topics=topics, tls=context, connect_timeout=wait,
                frontlas_tls=settings.tls() if address.tls else None, frontlas_token=settings.token,
                **self._told(stays), **options,
            )  # fmt: skip
        else:
            door, address = "service", settings.address("service")
            client = aio.Service(
                str(address), name=name, topics=topics, tls=settings.tls() if address.tls else None,
                connect_seconds=wait, **self._reconnecting(stays), **options,
            )  # fmt: skip
        async with self._connected(client, door, str(address), wait, stays):
            yield client

    @asynccontextmanager
    async def edge(self, meta: bytes, wanted_id: int = 0, *, stays: bool = False) -> AsyncIterator["Edge"]:
        """Be an edge."""
        from frontier_tx import aio

        address, wait = self.settings.address("edge"), min(settings_wait(self.settings), CONNECT_SECONDS)
        client = aio.Edge(
            str(address), meta=meta, wanted_id=wanted_id, tls=self.settings.tls() if address.tls else None,
            connect_seconds=wait, **self._reconnecting(stays),
        )  # fmt: skip
        async with self._connected(client, "edge", str(address), wait, stays):
            yield client

    def _reconnecting(self, stays: bool) -> dict[str, Any]:
        return self._told(stays) if stays else {"reconnect": None}

    def _told(self, stays: bool) -> dict[str, Any]:
        """Callbacks that tell of a connection that is lost and comes back."""
        lost = False

        def online() -> None:
            nonlocal lost
            if lost:
                self.output.note("frontier: connected again")
            lost = False

        def offline(reason: str) -> None:
            nonlocal lost
            if self._ending:
                return
            lost = True
            self.output.note(f"frontier: the connection is lost ({shown(reason) or 'closed'}); connecting again")

        return {"on_online": online, "on_offline": offline} if stays else {}

    @asynccontextmanager
    async def _connected(
        self, client: Any, door: str, address: str, wait: float, stays: bool
    ) -> AsyncIterator[None]:  # fmt: skip
        from frontier_tx.aio import ConnectFailed

        # What goes wrong before is what this raises.
        log = logging.getLogger("frontier")
        log.setLevel(logging.CRITICAL)
        try:
            await asyncio.wait_for(client.connect(), wait + 1)
        except (OSError, ConnectFailed) as error:
            hint = "`--server` says where; is it running?"
            raise unreachable(address, DOORS[door][1], error, hint) from None
        except ValueError as error:
            fail(Exit.USAGE, str(error))
        if stays:
            log.setLevel(logging.WARNING)
        try:
            yield
        except BaseException:
            # What was half written is not to look complete.
            for stream in client.list_streams():
                stream.abort()
            raise
        finally:
            self._ending = True
            client_closing = asyncio.ensure_future(client.close())
            try:
                await asyncio.wait_for(asyncio.shield(client_closing), 3)
            except TimeoutError:
                client_closing.cancel()

    def edge_id(self, text: str) -> int:
        """Return the edge that is meant: its ID, or the meta of the one edge that has it.

        :raises Failure: no edge, or several, have this meta.
        """
        if text.isascii() and text.isdigit():
            if int(text) > _LARGEST_ID:
                fail(Exit.USAGE, f"{text} is no ID of an edge: the largest is {_LARGEST_ID}")
            return int(text)
        from frontier_tx.cli.listing import edges_of_meta

        try:
            found = edges_of_meta(self.control, text)
        except Failure as failure:
            why = f"an edge that is not named by its ID is looked up by its meta, but {failure.text}"
            raise Failure(failure.code, why) from None
        if not found:
            fail(Exit.NOT_FOUND, f"no edge is online whose meta is {text!r}; `frontier edges` lists those that are")
        if len(found) > 1:
            some = ", ".join(str(each["edge_id"]) for each in found[:5])
            fail(Exit.NOT_FOUND, f"{len(found)} edges have the meta {text!r}; say which by its ID: {some}")
        return int(found[0]["edge_id"])


def settings_wait(settings: Settings) -> float:
    """Seconds for connecting."""
    return settings.timeout(CONNECT_SECONDS)


async def terminable(main: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run ``main`` so that SIGTERM ends it in order."""
    terminated = False
    task = asyncio.current_task()

    def terminate() -> None:
        nonlocal terminated
        terminated = True
        if task is not None:
            task.cancel()

    if threading.current_thread() is threading.main_thread():
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, terminate)
    try:
        return await main()
    except asyncio.CancelledError:
        if terminated:
            raise SystemExit(Exit.TERMINATED) from None
        raise


class _Escaping(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return "frontier: " + shown(super().format(record))

    def formatException(self, ei: Any) -> str:
        return f"{ei[0].__name__}: {ei[1]}" if ei and ei[0] else ""


def logged_here() -> None:
    """Let what the client library logs go to standard error, in one line each and escaped."""
    logger = logging.getLogger("frontier")
    if not logger.handlers:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(_Escaping("%(message)s"))
        logger.addHandler(handler)
        logger.propagate = False
        # What asyncio has to say of connections that were cut is no sentence for a person.
        logging.getLogger("asyncio").setLevel(logging.CRITICAL)
