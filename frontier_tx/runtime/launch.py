"""Opening the ports of a server, and ending with one clear line when that fails."""

from __future__ import annotations

import errno
import os
import resource
import socket
from collections.abc import Sequence
from typing import Protocol
from weakref import WeakSet

from twisted.internet.defer import Deferred, DeferredList, succeed
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort, IProtocolFactory

from frontier_tx.config.address import join_host_port
from frontier_tx.config.common import Listen, RLimit
from frontier_tx.errors import ConfigError
from frontier_tx.runtime.logs import Logger
from frontier_tx.runtime.tls import ServerContext

log = Logger(namespace="frontier.launch")

#: Connections that may wait for being accepted; the system's own bound (somaxconn) applies too.
BACKLOG = 4096


class StartFailed(SystemExit, Exception):
    """The process must end with status 1; the reason has been logged.

    It is an `Exception` for twistd, which then removes its pid file and tells the waiting parent of a daemon, and a
    `SystemExit` for the interpreter, which then prints no traceback.
    """

    # The parent of a daemon gets a hundred characters to show; without a module's name the reason fits into them.
    __module__ = "builtins"

    def __init__(self, reason: str) -> None:
        super().__init__(1)
        self.reason = reason

    def __str__(self) -> str:
        return self.reason


class Listens(Protocol):
    """The part of a reactor that opens ports."""

    def listenTCP(
        self, port: int, factory: IProtocolFactory, backlog: int = ..., interface: str = ...
    ) -> IListeningPort: ...

    def listenSSL(
        self, port: int, factory: IProtocolFactory, contextFactory: object, backlog: int = ..., interface: str = ...
    ) -> IListeningPort: ...


class Reloads(Protocol):
    """What was read from files, and can be read again."""

    def reload(self) -> list[str]:
        """Read again, and give warnings.

        :raises ConfigError: a file that cannot be used; what was read before stays in use.
        """


class Ports:
    """The listening ports of one process.

    :param program: how the process calls itself in messages.
    """

    def __init__(self, reactor: Listens, program: str = "frontier") -> None:
        self._reactor = reactor
        self._program = program
        self._log = Logger(namespace=f"{program}.launch")
        self._open: list[IListeningPort] = []
        self._files: dict[tuple[str, str], Reloads] = {}
        _IN_USE.add(self)

    def listen(
        self, path: str, listen: Listen, factory: IProtocolFactory, alpn: Sequence[bytes] = ()
    ) -> IListeningPort:
        """Open the port of a ``listen`` section.

        :param path: the key of the section, such as ``edgebound.listen``; messages name it.
        :param alpn: protocols to offer inside TLS.
        :raises StartFailed: after logging one line; the ports opened before are closed.
        :raises ConfigError: a TLS file that cannot be used.
        """
        if hasattr(factory, "noisy"):
            # What Twisted would say of the factory's start and stop, the lines below say in words.
            factory.noisy = False
        context = ServerContext(listen.tls, f"{path}.tls", alpn) if listen.tls.enable else None
        try:
            interface = _interface(listen.host)
            if context is None:
                port = self._reactor.listenTCP(listen.port, factory, backlog=BACKLOG, interface=interface)
            else:
                port = self._reactor.listenSSL(listen.port, factory, context, backlog=BACKLOG, interface=interface)
        except (CannotListenError, OSError) as error:
            raise self._failed(path, listen, error) from None
        self._open.append(port)
        name, tls = path.removesuffix(".listen"), " with TLS" if context else ""
        if context is not None:
            self.reloads(name, "certificates", context)
        self._log.info("{name} listens on {addr}{tls}", name=name, addr=listening_at(port), tls=tls)
        return port

    def close(self) -> Deferred[None]:
        """Stop accepting on every port. Fires when all are closed; connections stay."""
        closing, self._open = self._open, []
        waits = [each for each in (port.stopListening() for port in closing) if isinstance(each, Deferred)]
        if not waits:
            return succeed(None)
        return DeferredList(waits, consumeErrors=True).addCallback(lambda _: None)

    def reloads(self, name: str, what: str, files: Reloads) -> None:
        """Read ``files`` again on SIGHUP; ``name`` is the listener they belong to, ``what`` is in them."""
        self._files[name, what] = files

    def reload_files(self) -> None:
        """Read the files of every listener again; one that cannot be used leaves what was read before in use."""
        for (name, what), files in self._files.items():
            try:
                for warning in files.reload():
                    self._log.warn("{warning}", warning=warning)
            except ConfigError as error:
                for problem in error.problems:
                    self._log.error(
                        "{name} goes on with the {what} it has: {problem}", name=name, what=what, problem=problem
                    )
            else:
                self._log.info("{name} has read its {what} again", name=name, what=what)

    def _failed(self, path: str, listen: Listen, error: CannotListenError | OSError) -> StartFailed:
        cause = error.socketError if isinstance(error, CannotListenError) else error
        where = f"{path.removesuffix('.listen')} {listen.addr}"
        advice = _advice(cause, self._program, f"{path}.addr")
        reason = f"{self._program}: cannot listen on {where}: {_reason(cause)}; {advice}"
        self._log.critical("{reason}", reason=reason)
        self.close()
        return StartFailed(reason)


#: The ports of this process, for signals, which are the process's too.
_IN_USE: WeakSet[Ports] = WeakSet()


def reload_files() -> None:
    """Let every listener of this process read its certificates and tokens again. Connections stay as they are."""
    for ports in list(_IN_USE):
        ports.reload_files()


def port_number(port: IListeningPort) -> int:
    """The number of a port that is open, which the system may have chosen."""
    return int(getattr(port.getHost(), "port", 0))


def listening_at(port: IListeningPort) -> str:
    """``host:port`` of a port that is open."""
    return join_host_port(getattr(port.getHost(), "host", "?"), port_number(port))


def _interface(host: str) -> str:
    """What Twisted calls the interface: an address, looked up if it is a name; both families if there is none."""
    if not host:
        return "::" if socket.has_ipv6 and _has_ipv6() else ""
    # Names are looked up here, blocking, because nothing is being served yet.
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    return str(found[0][4][0])


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as trial:
            trial.bind(("::", 0))
    except OSError:
        return False
    return True


def _reason(cause: object) -> str:
    if isinstance(cause, OSError) and not isinstance(cause, socket.gaierror) and cause.errno is not None:
        return os.strerror(cause.errno).lower()
    return " ".join(str(getattr(cause, "strerror", None) or cause).split()).lower()


def _advice(cause: object, program: str, key: str) -> str:
    code = cause.errno if isinstance(cause, OSError) else None
    if isinstance(cause, socket.gaierror):
        return f"correct the host in {key}"
    if code == errno.EADDRINUSE:
        return f"another {program} running? change {key}"
    if code == errno.EACCES:
        return f"ports below 1024 need privileges; change {key}"
    if code == errno.EADDRNOTAVAIL:
        return f"no interface of this machine has that address; change {key}"
    return f"change {key}"


def raise_open_files(rlimit: RLimit) -> None:
    """Set the limit of open files, or raise it to what the system allows; what is not allowed is logged."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = rlimit.nofile if rlimit.enable and rlimit.nofile > 0 else None
    if rlimit.enable and wanted is None:
        return
    if wanted is None:
        if soft != hard:
            _set_open_files(hard, hard)
        return
    if hard != resource.RLIM_INFINITY and wanted > hard and not _set_open_files(wanted, wanted):
        log.warn(
            "open files limited to {hard}: daemon.rlimit.nofile asks for {wanted}, which needs privileges",
            hard=hard, wanted=wanted,
        )  # fmt: skip
        wanted = hard
    _set_open_files(wanted, max(wanted, hard) if hard != resource.RLIM_INFINITY else hard)


def open_files() -> int | None:
    """How many files this process may have open; None where there is no limit."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if soft == resource.RLIM_INFINITY else soft


def _set_open_files(soft: int, hard: int) -> bool:
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    except (OSError, ValueError):
        return False
    return True
