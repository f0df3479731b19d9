"""Times as they stand in bodies: RFC 3339 text with up to nine fraction digits (docs/protocol.md, "Times")."""

import re
from datetime import datetime, timedelta, timezone

#: The unset time; it is written where no deadline is given and never left out.
UNSET = "0001-01-01T00:00:00Z"

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
# The other implementation reads an hour of one digit, a comma, and zones up to and with 24 hours and 60 minutes.
_TIME = re.compile(
    r"(\d{4})-(\d{2})-(\d{2})T(\d{1,2}):(\d{2}):(\d{2})(?:[.,](\d+))?(?:Z|([+-])(\d{2}):(\d{2}))", re.ASCII
)
_LONGEST = 1024
_EARLIEST, _LATEST = "0000-01-01T00:00:00Z", "9999-12-31T23:59:59.999999999Z"
#: What datetime has no year 0 for is counted one leap cycle later.
_CYCLE_YEARS, _CYCLE_SECONDS = 400, 146097 * 86400


class _Parsed:
    """A time in its parts: ``local`` seconds of its own zone since 1970, the zone's seconds, and fraction digits."""

    __slots__ = ("local", "zone", "fraction")

    def __init__(self, text: str) -> None:
        match = _TIME.fullmatch(text) if len(text) <= _LONGEST else None
        if match is None:
            raise ValueError(f"not an RFC 3339 time: {text[:40]!r}")
        year, month, day, hour, minute, second, fraction, sign, zone_hour, zone_minute = match.groups()
        zone = 0
        if sign is not None:
            if int(zone_hour) > 24 or int(zone_minute) > 60:
                raise ValueError(f"time zone out of range: {text[:40]!r}")
            zone = (int(zone_hour) * 60 + int(zone_minute)) * 60
        cycles = 1 if int(year) < _CYCLE_YEARS else 0
        moment = datetime(
            int(year) + cycles * _CYCLE_YEARS, int(month), int(day), int(hour), int(minute), int(second),
            tzinfo=timezone.utc,
        )  # fmt: skip
        since = moment - _EPOCH
        self.local = since.days * 86400 + since.seconds - cycles * _CYCLE_SECONDS
        self.zone = -zone if sign == "-" else zone
        self.fraction = (fraction or "")[:9].rstrip("0")

    @property
    def seconds(self) -> int:
        """Unix seconds, without the fraction."""
        return self.local - self.zone


def parse_time(text: str) -> float | None:
    """Return the Unix time in seconds, or None for the unset time.

    :raises ValueError: the text is not a time of the protocol.
    """
    if text == UNSET:
        return None
    parsed = _Parsed(text)
    if not parsed.fraction:
        return None if parsed.seconds == _UNSET_SECONDS else float(parsed.seconds)
    return parsed.seconds + int(parsed.fraction.ljust(9, "0")) / 1e9


def canonical_time(text: str) -> str:
    """Return the one form in which this instant is written in this zone: what any reader of RFC 3339 takes.

    :raises ValueError: the text is not a time of the protocol.
    """
    if text == UNSET:
        return text
    parsed = _Parsed(text)
    zone = parsed.zone
    if abs(zone) >= 86400:
        zone = 0
    local = parsed.seconds + zone
    cycles = 1 if local < _YEAR_400 else 0
    try:
        moment = _EPOCH + timedelta(seconds=local + cycles * _CYCLE_SECONDS)
    except OverflowError:
        return _LATEST
    year = moment.year - cycles * _CYCLE_YEARS
    if year < 0:
        return _EARLIEST
    fraction = f".{parsed.fraction}" if parsed.fraction else ""
    hours, minutes = divmod(abs(zone) // 60, 60)
    offset = f"{'-' if zone < 0 else '+'}{hours:02}:{minutes:02}" if zone else "Z"
    return f"{year:04}{moment:-%m-%dT%H:%M:%S}{fraction}{offset}"


def format_time(seconds: float) -> str:
    """Write a Unix time in UTC with microseconds, trailing zeros cut."""
    text = (_EPOCH + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S.%f")
    return text.rstrip("0").rstrip(".") + "Z"


_UNSET_SECONDS = int((datetime(1, 1, 1, tzinfo=timezone.utc) - _EPOCH).total_seconds())
_YEAR_400 = int((datetime(400, 1, 1, tzinfo=timezone.utc) - _EPOCH).total_seconds())
