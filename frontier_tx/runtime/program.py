"""What the two twistd programs share: the command line, and a service that brings up logging and then the rest."""

from __future__ import annotations

import atexit
import getopt
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar, Generic, TypeVar

from twisted.application.service import IService, MultiService
from twisted.internet.error import ReactorNotRunning
from twisted.logger import ILogObserver
from twisted.python import usage
from twisted.python.components import Componentized

import twisted
from frontier_tx import __version__
from frontier_tx.config.common import Log
from frontier_tx.config.layers import Flags
from frontier_tx.config.loading import Loaded
from frontier_tx.config.render import effective
from frontier_tx.errors import ConfigError
from frontier_tx.runtime.launch import StartFailed, reload_files
from frontier_tx.runtime.logs import Logger, Observer, observer, set_level
from frontier_tx.runtime.logstream import part
from frontier_tx.runtime.pidfile import discard_stale, is_held
from frontier_tx.runtime.steady import steady
from frontier_tx.runtime.turns import watch_turns

C = TypeVar("C")

#: What a bare ``--daemon-rlimit-nofile`` means.
_MANY_FILES = "1048576"
#: Where twistd keeps its process id, and where it logs when it is a daemon, when nothing else was said.
_PID_FILE = "twistd.pid"
_DAEMON_LOG = "twistd.log"


class ServerOptions(usage.Options, Generic[C]):
    """Command line of a server. Parsing it reads and checks the whole configuration; nothing is opened.

    A configuration that cannot be used ends the process with status 1 and one line for each mistake.
    """

    #: What the program calls itself.
    program: ClassVar[str]

    optParameters: ClassVar[Sequence[Any]] = [
        ["config", "c", None, "Configuration file (YAML). Without one, safe defaults on the loopback."],
        ["loglevel", None, None, "Least level that is logged: debug, info, warn, error."],
        ["log-output", None, None, "Where logs go: stdout, stderr, file, both (stdout and file)."],
        ["log-format", None, None, "How logs look: text, json."],
        ["log-file", None, None, "Log file, for the outputs file and both."],
        ["daemon-rlimit-nofile", None, None, "Limit of open files; -1 leaves it alone."],
    ]
    optFlags: ClassVar[Sequence[Any]] = [
        ["check", None, "Check the configuration, print it as it would take effect, and end."],
    ]

    #: Set by `postOptions`.
    loaded: Loaded[C]

    def load(self, path: str | None, flags: Flags) -> Loaded[C]:
        """:raises ConfigError: the configuration cannot be used."""
        raise NotImplementedError

    def parseOptions(self, options: Sequence[str] | None = None) -> None:
        args = list(sys.argv[1:] if options is None else options)
        for index, arg in enumerate(args):
            following = args[index + 1] if index + 1 < len(args) else ""
            if arg == "--daemon-rlimit-nofile" and not following.removeprefix("-").isdigit():
                args[index] = f"{arg}={_MANY_FILES}"
        try:
            super().parseOptions(args)  # type: ignore[no-untyped-call]
        except usage.UsageError as error:
            said = _usage(str(error), self.program, getattr(self, "parent", None))
            raise SystemExit(f"{self.program}: {said}") from None

    def opt_version(self) -> None:
        """Print the versions of this program and of Twisted, and end."""
        print(f"{self.program} {__version__} (Twisted {twisted.__version__})")
        raise SystemExit(0)

    def postOptions(self) -> None:
        flags = Flags(
            loglevel=self["loglevel"],
            log_output=self["log-output"],
            log_format=self["log-format"],
            log_file=self["log-file"],
            daemon_rlimit_nofile=self["daemon-rlimit-nofile"],
        )
        try:
            self.loaded = self.load(self["config"], flags)
        except ConfigError as error:
            raise SystemExit("\n".join(f"{self.program}: {problem}" for problem in error.problems)) from None
        if self["check"]:
            for warning in self.loaded.warnings:
                print(f"{self.program}: {warning}", file=sys.stderr)
            print(effective(self.loaded.config), end="")
            raise SystemExit(0)
        around = getattr(self, "parent", None) or {}
        if around.get("pidfile") == _PID_FILE and is_held(_PID_FILE):
            # A frontier and a frontlas are often started in one folder; twistd would refuse the second one.
            around["pidfile"] = f"{self.program}.pid"
        # Twisted would end with a traceback, when everything else is done.
        pidfile = around.get("pidfile")
        if pidfile and not os.access(os.path.dirname(pidfile) or ".", os.W_OK):
            raise SystemExit(f"{self.program}: twistd cannot write its pid file {pidfile}; --pidfile= means none")
        if pidfile:
            self.loaded = self.loaded.noting(discard_stale(pidfile, self.program))


def _usage(said: str, program: str, around: Any) -> str:
    """One line for a command line that cannot be used; options of twistd itself are what is misplaced most.

    :param around: twistd's own options, None outside twistd.
    """
    option = said.split()[1] if said.startswith("option -") else ""
    name = option.lstrip("-")
    if (
        name
        and around is not None
        and (name in around.shortOpt.replace(":", "") if len(name) == 1 else {name, f"{name}="} & {*around.longOpt})
    ):
        return f"{option} is an option of twistd and stands before {program!r}: twistd {option} … {program} …"
    if said.startswith("Wrong number of arguments"):
        said = "unexpected argument"
    return f"{said}; see twistd {program} --help"


class Program(MultiService):
    """A server under twistd: attaches the configured log, says what was read, then starts its children.

    :param parent: twistd's own options; None outside twistd, where logging is left alone.
    :param log: the ``log`` section.
    :param hello: lines logged at the start, with their level.
    """

    def __init__(
        self, name: str, log: Log, parent: Mapping[str, Any] | None, warnings: Sequence[str], source: str
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.setName(name)  # type: ignore[no-untyped-call]
        self._log = Logger(namespace=name)
        self._settings = log
        self._parent = parent
        self._warnings = warnings
        self._source = source
        self._observer: Observer | None = None

    def setServiceParent(self, parent: Any) -> None:
        """twistd calls this with the application just before it begins logging, which uses the component set here."""
        if isinstance(parent, Componentized) and self._parent is not None:
            self._attach(parent, self._parent)
        super().setServiceParent(parent)  # type: ignore[no-untyped-call]

    def startService(self) -> None:
        self._log.info("{name} {v}, configured by {source}", name=self.name, v=__version__, source=self._source)
        for warning in self._warnings:
            self._log.warn("{warning}", warning=warning)
        try:
            super().startService()  # type: ignore[no-untyped-call]
        except ConfigError as error:
            for problem in error.problems:
                self._log.critical("{problem}", problem=problem)
            raise StartFailed(str(error)) from None
        self._on_signals()
        if self._observer is not None:
            _part_at_the_end()

    def _attach(self, application: Componentized, parent: Mapping[str, Any]) -> None:
        set_level(self._settings.level)
        settings = log_under_twistd(self._settings, parent, str(self.name))
        if settings is None:
            return
        try:
            self._observer = observer(settings)
        except ConfigError as error:
            raise SystemExit("\n".join(f"{self.name}: {problem}" for problem in error.problems)) from None
        application.setComponent(ILogObserver, self._observer)  # type: ignore[no-untyped-call]
        atexit.register(part)

    def _on_signals(self) -> None:
        """SIGUSR1 opens log files anew, which is what tools that rotate logs expect of a twistd process.

        SIGHUP does that too and reads certificates and tokens again, since otherwise it would end the process without a
        goodbye. But where the program was started at a terminal it means that the terminal was closed: a stop in order.
        Whoever ignores a signal (nohup) or has taken it is left alone.
        """
        from twisted.internet import reactor

        running: Any = reactor
        at_terminal = self._parent is not None and bool(self._parent.get("nodaemon")) and _at_terminal()
        for number, action in (
            (signal.SIGUSR1, self._reopen),
            (signal.SIGHUP, partial(_stop, running) if at_terminal else self._reload),
        ):
            if self._parent is not None and signal.getsignal(number) is signal.SIG_DFL:
                signal.signal(number, _in_turn(running, action))

    def _reopen(self) -> None:
        if self._observer is not None:
            try:
                self._observer.reopen()
            except OSError as error:
                why = f"{error.filename}: {error.strerror}" if error.filename else str(error)
                self._log.error("cannot open the log file anew, the one that is open stays in use: {why}", why=why)

    def _reload(self) -> None:
        self._log.info("SIGHUP: reading certificates and tokens; other changes of the configuration need a restart")
        self._reopen()
        reload_files()


def _part_at_the_end() -> None:
    """Lines that wait are written before the process is gone, which a signal may end without anything more."""
    from twisted.internet import reactor

    running: Any = reactor
    running.addSystemEventTrigger("after", "shutdown", part)


def _in_turn(reactor: Any, action: Callable[[], object]) -> Callable[[int, object], None]:
    """A signal handler that lets the reactor act, in a turn of its own."""
    return lambda number, frame: reactor.callFromThread(action)


def _stop(reactor: Any) -> None:
    with suppress(ReactorNotRunning):
        reactor.stop()


def _at_terminal() -> bool:
    try:
        return os.isatty(0)
    except OSError:
        return False


def log_under_twistd(log: Log, parent: Mapping[str, Any], name: str) -> Log | None:
    """The log settings once twistd's own options are heard; None where twistd is to do the logging.

    ``--logger`` and ``--syslog`` bring an observer of their own. ``-l FILE`` and ``-l -`` say where lines go, whatever
    the configuration says of that; form and level stay as configured. A daemon has no terminal, so what would go
    there goes to ``twistd.log``, where twistd's own lines would go; to a file of its own where another server has that.

    :param name: the program's.
    """
    if parent.get("logger") or parent.get("syslog"):
        return None
    daemon = not parent.get("nodaemon") and not parent.get("debug")
    target = parent.get("logfile")
    if target == "-":
        return None if daemon else replace(log, output="stdout")
    if not target and daemon:
        if log.output in ("stdout", "stderr"):
            aside = os.path.basename(parent.get("pidfile") or "") == f"{name}.pid"
            target = f"{name}.log" if aside else _DAEMON_LOG
        elif log.output == "both":
            return replace(log, output="file")
    if target:
        return replace(log, output="file", file=replace(log.file, path=target))
    return log


def log_of_application(application: object, log: Log, name: str) -> None:
    """Let an application of a file for ``twistd -y`` log as the ``log`` section says, where nobody said otherwise.

    :param application: what a server became a part of; anything else is left alone, and so is a program that is not
        under ``twistd -y``.
    """
    if not isinstance(application, Componentized):
        return
    parent = _options_of_y(sys.argv[1:])
    if parent is None or application.getComponent(ILogObserver, None) is not None:  # type: ignore[no-untyped-call]
        return
    set_level(log.level)
    settings = log_under_twistd(log, parent, name)
    if settings is None:
        return
    try:
        made = observer(settings)
    except ConfigError as error:
        raise SystemExit("\n".join(f"{name}: {problem}" for problem in error.problems)) from None
    application.setComponent(ILogObserver, made)  # type: ignore[no-untyped-call]
    atexit.register(part)
    _part_at_the_end()


def _options_of_y(args: Sequence[str]) -> Mapping[str, Any] | None:
    """What a command line says of logging; None where it is not one of ``twistd -y``."""
    from twisted.scripts import twistd

    known: Any = twistd.ServerOptions()  # type: ignore[attr-defined, no-untyped-call]
    try:
        found, rest = getopt.getopt(list(args), known.shortOpt, known.longOpt)
    except getopt.GetoptError:
        return None
    given = {known.synonyms.get(name.lstrip("-"), name.lstrip("-")): value for name, value in found}
    if rest or "python" not in given:
        return None
    flags = {name: True for name in ("nodaemon", "debug", "syslog") if name in given}
    return {"pidfile": _PID_FILE, **given, **flags}


def twistd_options(options: usage.Options) -> Mapping[str, Any] | None:
    """The options of the twistd command around a plugin's."""
    parent: Mapping[str, Any] | None = getattr(options, "parent", None)
    return parent


def program(options: ServerOptions[C], make: Callable[[C], IService]) -> Program:
    """The service that ``make`` makes of the configuration, under the log of ``options``.

    The process's reactor is made independent of the wall clock before.
    """
    from twisted.internet import reactor

    steady(reactor)
    watch_turns(reactor)
    loaded = options.loaded
    config: Any = loaded.config
    made = Program(options.program, config.log, twistd_options(options), loaded.warnings, loaded.source)
    try:
        make(loaded.config).setServiceParent(made)  # type: ignore[no-untyped-call]
    except ConfigError as error:
        raise SystemExit("\n".join(f"{options.program}: {problem}" for problem in error.problems)) from None
    return made
