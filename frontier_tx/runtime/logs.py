"""Logging on `twisted.logger`: levels that cost nothing while off, one line per event, files that rotate."""

from __future__ import annotations

import os
import resource
import sys
import traceback
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, BinaryIO, Protocol, cast

import msgspec
from twisted.logger import ILogObserver, LogEvent, LogLevel, formatEvent
from twisted.logger import Logger as TwistedLogger
from twisted.python.failure import Failure
from zope.interface import implementer

from frontier_tx.config.common import Log
from frontier_tx.errors import ConfigError
from frontier_tx.runtime.logfile import RotatingFile
from frontier_tx.runtime.lograte import PERIOD, LogRates
from frontier_tx.runtime.logstream import Stream, special_file

#: Longest message; what peers send may be megabytes.
MAX_MESSAGE = 8192
#: Who says that a connection could not be accepted.
_PORT = "twisted.internet.tcp.Port"
#: Seconds between two lines that say that no file can be opened.
FILES_LOG_SECONDS = 10.0
#: Lines of one kind that are logged, as a mean over ``lograte.PERIOD``; others are counted.
LINES_PER_SECOND = 20
#: Innermost places of a traceback that are shown.
MAX_PLACES = 10

_RANKS = {
    LogLevel.debug: 10,
    LogLevel.info: 20,
    LogLevel.warn: 30,
    LogLevel.error: 40,
    LogLevel.critical: 50,
}
_NAMES = {
    LogLevel.debug: "DEBUG",
    LogLevel.info: "INFO",
    LogLevel.warn: "WARN",
    LogLevel.error: "ERROR",
    LogLevel.critical: "CRITICAL",
}
_PLAIN = (str, int, float, bool, type(None))

_ESCAPES: dict[int, str] = {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0))}
_ESCAPES |= {ord("\n"): "\\n", ord("\r"): "\\r", ord("\t"): "\\t", 0x2028: "\\u2028", 0x2029: "\\u2029"}
# Marks that turn the direction of text could make a line read as another one.
_TURNS = (0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))
_ESCAPES |= {code: f"\\u{code:04x}" for code in _TURNS}
#: The same where JSON leaves them as they are; in its texts an escape is the character again.
_JSON_ESCAPES = {code: f"\\u{code:04x}" for code in _ESCAPES if code >= 0x7F}


class Logger(TwistedLogger):
    """A `twisted.logger.Logger` that drops events below the process's level before they are made.

    Use it like Twisted's. Where even the arguments cost something, ask `enabled` first.
    """

    #: Rank of the least level that is logged, for the whole process; set by `set_level`.
    threshold: int = _RANKS[LogLevel.info]

    def emit(self, level: Any, format: str | None = None, **kwargs: object) -> None:
        if _RANKS.get(level, 0) >= Logger.threshold:
            super().emit(level, format, **kwargs)

    def debug(self, format: str | None = None, **kwargs: object) -> None:
        if Logger.threshold <= 10:
            super().emit(LogLevel.debug, format, **kwargs)

    @staticmethod
    def enabled(level: Any) -> bool:
        """Whether events of ``level`` are logged at all."""
        return _RANKS[level] >= Logger.threshold


def set_level(name: str) -> None:
    """Log from this level on: ``debug``, ``info``, ``warn`` or ``error``. Takes effect at once, everywhere."""
    Logger.threshold = _RANKS[LogLevel.levelWithName(name)]


def level() -> str:
    """The level from which on the process logs."""
    return next(_NAMES[each].lower() for each, rank in _RANKS.items() if rank == Logger.threshold)


def clean(text: str) -> str:
    """``text`` with every control character replaced by an escape, so that it stays on its line and in its place."""
    return text if text.isprintable() else text.translate(_ESCAPES)


class Sink(Protocol):
    """Where finished lines go."""

    def write(self, line: bytes) -> None:
        """Take one line with its line end; must not raise."""


@implementer(ILogObserver)
class Observer:
    """Writes events at or above the process's level to its sinks.

    :param per_second: lines of one kind, which is one text before its values are put in; 0 for any number. Much of what
        is logged can be caused by strangers.
    """

    def __init__(self, sinks: Sequence[Sink], line: Callable[[LogEvent], str], per_second: int = 0) -> None:
        self.sinks = tuple(sinks)
        self._line = line
        self._rates = LogRates(int(per_second * PERIOD))
        self._files_told = float("-inf")

    def __call__(self, event: LogEvent) -> None:
        if event.get("log_namespace") == _PORT:
            told = self._without_files(event)
            if told is None:
                return
            event = told
        rank = _RANKS.get(event.get("log_level"), 20)
        if rank == 20 and event.get("log_namespace") == "log_legacy":
            # What Twisted says of each port and factory; here it is said once, by whoever opened the port.
            rank = 10
        if rank < Logger.threshold:
            return
        allowed = self._rates.allows((event.get("log_namespace"), event.get("log_format")))
        for kind, count in self._rates.left_out():
            self._write(_left_out(event, kind, count))
        if allowed:
            self._write(event)

    def _write(self, event: LogEvent) -> None:
        line = f"{self._line(event)}\n".encode("utf-8", "backslashreplace")
        for sink in self.sinks:
            sink.write(line)

    def _without_files(self, event: LogEvent) -> LogEvent | None:
        """One line in ``FILES_LOG_SECONDS`` where Twisted has three for each connection that it cannot accept."""
        if "EMFILE" not in f"{event.get('log_format')} {event.get('acceptError')}":
            return event
        now = float(event.get("log_time", 0.0))
        if now < self._files_told + FILES_LOG_SECONDS:
            return None
        self._files_told = now
        most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        return {
            "log_time": now,
            "log_level": LogLevel.warn,
            "log_namespace": "frontier.launch",
            "log_format": "all {most} open files are in use, newcomers are turned away; raise daemon.rlimit.nofile",
            "most": most,
        }

    def reopen(self) -> None:
        """Open files anew under their names, after something else has moved them away."""
        for sink in self.sinks:
            if isinstance(sink, RotatingFile):
                sink.reopen()


def observer(log: Log) -> Observer:
    """The observer that a ``log`` section asks for; also sets the process's level.

    :raises ConfigError: the file cannot be opened.
    """
    set_level(log.level)
    sinks: list[Sink] = []
    terminal = {"stdout": sys.stdout, "both": sys.stdout, "stderr": sys.stderr}.get(log.output)
    # The interpreter has none where it was started without that descriptor.
    if terminal is not None:
        sinks.append(Stream(_binary(terminal)))
    if log.output in ("file", "both"):
        file = log.file
        try:
            special = special_file(file.path)
        except OSError as error:
            raise ConfigError(f"log.file.path: cannot write {file.path}: {error.strerror or error}") from None
        if special is not None:
            sinks.append(Stream(special))
        else:
            sinks.append(
                RotatingFile(
                    file.path, max_bytes=file.max_size << 20, max_backups=file.max_backups,
                    max_age_seconds=file.max_age * 86_400, compress=file.compress,
                )
            )  # fmt: skip
    return Observer(sinks, json_line if log.format == "json" else text_line, LINES_PER_SECOND)


def _left_out(event: LogEvent, kind: object, count: int) -> LogEvent:
    """The line that says how many were left out."""
    namespace, text = kind if isinstance(kind, tuple) else ("", kind)
    return {
        "log_time": event.get("log_time"),
        "log_level": LogLevel.warn,
        "log_namespace": namespace,
        "log_format": "{count} lines like this one were left out within {seconds:g} s: {text}",
        "count": count,
        "seconds": PERIOD,
        "text": str(text)[:200],
    }


def text_line(event: LogEvent) -> str:
    """``2026-01-31T12:00:00.123Z INFO  frontier.gateway  what happened``"""
    level = _NAMES.get(event.get("log_level"), "INFO")
    component = clean(_component(event))
    message = clean(_message(event))
    failure = event.get("log_failure")
    if isinstance(failure, Failure):
        message = f"{message}: {clean(_cause(failure))} [{clean('; '.join(_places(failure)))}]"
    return f"{_time(event)} {level:5} {component}  {message}"


def json_line(event: LogEvent) -> str:
    """One JSON object: ``time``, ``level``, ``component``, ``message``; the event's plain values in ``fields``."""
    record: dict[str, object] = {
        "time": _time(event),
        "level": _NAMES.get(event.get("log_level"), "INFO").lower(),
        "component": _component(event),
        "message": _message(event),
    }
    fields = {name: _bounded(value) for name, value in event.items() if _is_field(name, value)}
    if fields:
        record["fields"] = fields
    failure = event.get("log_failure")
    if isinstance(failure, Failure):
        record["error"] = _cause(failure)
        record["places"] = _places(failure)
    return json_text(record)


def json_text(record: dict[str, object]) -> str:
    """A record as JSON in one line, in which all control characters are escapes."""
    try:
        line = msgspec.json.encode(record).decode()
    except UnicodeEncodeError:  # lone surrogates, from undecodable names
        line = msgspec.json.encode(_encodable(record)).decode()
    return line if line.isprintable() else line.translate(_JSON_ESCAPES)


def _component(event: LogEvent) -> str:
    """The part of the program that speaks: ``frontier.gateway`` for what stands in ``frontier_tx.gateway``."""
    name = str(event.get("log_namespace") or "-")
    package, _, rest = name.partition(".")
    if package == "twisted" or name == "log_legacy":
        return "twisted"
    if package in ("frontier_tx", "frontlas_tx") and rest:
        return f"{package.removesuffix('_tx')}.{rest.partition('.')[0]}"
    return name


def _message(event: LogEvent) -> str:
    message = formatEvent(event)
    if len(message) > MAX_MESSAGE:
        message = f"{message[:MAX_MESSAGE]}… ({len(message)} characters)"
    return message.strip()


def _time(event: LogEvent) -> str:
    moment = datetime.fromtimestamp(float(event.get("log_time") or 0), UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _cause(failure: Failure) -> str:
    text = "".join(traceback.format_exception_only(failure.type, failure.value)).strip()
    return text if len(text) <= MAX_MESSAGE else f"{text[:MAX_MESSAGE]}…"


def _places(failure: Failure) -> list[str]:
    frames = traceback.extract_tb(failure.getTracebackObject())  # type: ignore[no-untyped-call]
    shown = [f"{os.path.basename(each.filename)}:{each.lineno} {each.name}" for each in frames[-MAX_PLACES:]]
    return shown or ["no traceback"]


def _is_field(name: str, value: object) -> bool:
    return isinstance(value, _PLAIN) and not name.startswith("log_") and name not in ("message", "time", "isError")


def _bounded(value: object) -> object:
    return value[:MAX_MESSAGE] if isinstance(value, str) else value


def _encodable(value: object) -> object:
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, dict):
        return {_encodable(name): _encodable(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_encodable(each) for each in value]
    return value


def _binary(stream: object) -> BinaryIO:
    return cast(BinaryIO, getattr(stream, "buffer", stream))
