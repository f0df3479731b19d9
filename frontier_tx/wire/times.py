"""Times as they stand in bodies: RFC 3339 text with up to nine fraction digits (docs/protocol.md, "Times")."""

import re
from datetime import datetime, timedelta, timezone

#: The unset time; it is written where no deadline is given and never left out.
UNSET = "0001-01-01T00:00:00Z"

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_TIME = re.compile(
    r"(\d{4})-(\d{2})-(\d{2})T(\d{2}):(\d{2}):(\d{2})(?:[.,](\d+))?(?:(Z)|([+-])(\d{2}):(\d{2}))", re.ASCII
)


def parse_time(text: str) -> float | None:
    """Return the Unix time in seconds, or None for the unset time.

    :raises ValueError: the text is not a time of the protocol.
    """
    if text == UNSET:
        return None
    match = _TIME.fullmatch(text)
    if match is None:
        raise ValueError(f"not an RFC 3339 time: {text[:40]!r}")
    year, month, day, hour, minute, second, fraction, _, sign, off_hour, off_minute = match.groups()
    if off_hour is not None and (int(off_hour) > 23 or int(off_minute) > 59):
        raise ValueError(f"time zone out of range: {text[:40]!r}")
    # Year 0 is a year of the text form but not of datetime: shift by one leap cycle and back.
    cycle = 400 if int(year) < 400 else 0
    moment = datetime(int(year) + cycle, int(month), int(day), int(hour), int(minute), int(second), tzinfo=timezone.utc)
    seconds = (moment - _EPOCH).total_seconds() - cycle // 400 * 146097 * 86400
    if sign is not None:
        offset = timedelta(hours=int(off_hour), minutes=int(off_minute)).total_seconds()
        seconds += offset if sign == "-" else -offset
    if fraction is not None:
        seconds += int(fraction[:9].ljust(9, "0")) / 1e9
    return None if seconds == _UNSET_SECONDS else seconds


def format_time(seconds: float) -> str:
    """Write a Unix time in UTC with microseconds, trailing zeros cut."""
    text = (_EPOCH + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S.%f")
    return text.rstrip("0").rstrip(".") + "Z"


_UNSET_SECONDS = (datetime(1, 1, 1, tzinfo=timezone.utc) - _EPOCH).total_seconds()
