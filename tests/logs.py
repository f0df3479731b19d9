"""What is logged meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from twisted.logger import LogEvent, globalLogPublisher


def anything(event: LogEvent) -> bool:
    """Every event."""
    return True


def more_than_information(event: LogEvent) -> bool:
    """Warnings and worse."""
    return event["log_level"].name in ("warn", "error", "critical")


def text(event: LogEvent) -> str:
    """The words of an event."""
    return str(event["log_format"].format(**event))


@contextmanager
def logged(
    wanted: Callable[[LogEvent], bool] = more_than_information, line: Callable[[LogEvent], str] = text
) -> Iterator[list[str]]:
    """The lines of the events that are wanted, as they come."""
    lines: list[str] = []

    def see(event: LogEvent) -> None:
        if wanted(event):
            lines.append(line(event))

    globalLogPublisher.addObserver(see)
    try:
        yield lines
    finally:
        globalLogPublisher.removeObserver(see)
