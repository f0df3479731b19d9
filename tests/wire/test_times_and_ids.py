"""Times as text, and where ids come from."""

import contextlib
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from frontier_tx.wire.ids import ClientIds, id_counter
from frontier_tx.wire.times import UNSET, canonical_time, format_time, parse_time


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1970-01-01T00:00:00Z", 0.0),
        ("1970-01-01T02:00:00+02:00", 0.0),
        ("1969-12-31T19:30:00-04:30", 0.0),
        ("2026-11-23T20:28:51.5Z", 1795465731.5),
        ("2026-11-23T20:28:51,5Z", 1795465731.5),
        ("2026-11-23T20:28:51.500000000999Z", 1795465731.5),
        ("2024-02-29T23:59:59Z", 1709251199.0),
        ("1970-01-01T23:59:00+23:59", 0.0),
        ("1970-01-02T00:00:00+24:00", 0.0),
        ("1970-01-01T01:00:00+00:60", 0.0),
        ("1970-01-01T1:00:00Z", 3600.0),
    ],
)
def test_read(text: str, seconds: float) -> None:
    assert parse_time(text) == seconds


@pytest.mark.parametrize(
    "text", [UNSET, "0001-01-01T02:00:00+02:00", "0000-12-31T23:00:00-01:00", "0001-01-01T00:00:00.000Z"]
)
def test_unset_is_an_instant_and_not_a_text(text: str) -> None:
    assert parse_time(text) is None


@pytest.mark.parametrize(
    "text",
    [
        "", "x", "2026-01-01T00:00:00", "2026-01-01 00:00:00Z", "2026-01-01t00:00:00z", "2026-01-01T00:00:60Z",
        "2026-01-01T24:00:00Z", "2026-13-01T00:00:00Z", "2026-00-01T00:00:00Z", "2026-02-29T00:00:00Z",
        "2026-01-01T00:00:00+25:00", "2026-01-01T00:00:00+00:61", "2026-01-01T00:00:00.Z", "26-01-01T00:00:00Z",
        "2026-01-01T00:00:00Z ", "2026-1-01T00:00:00Z", "2026-01-01T00:00:00+0100", "\u0662026-01-01T00:00:00Z",
    ],
)  # fmt: skip
def test_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_time(text)


@pytest.mark.parametrize(
    ("text", "written"),
    [
        (UNSET, UNSET),
        ("2026-11-23T20:28:51.5+02:00", "2026-11-23T20:28:51.5+02:00"),
        ("2026-11-23T20:28:51,500-04:30", "2026-11-23T20:28:51.5-04:30"),
        ("2026-11-23T20:28:51.1234567899Z", "2026-11-23T20:28:51.123456789Z"),
        ("2026-11-23T20:28:51.000Z", "2026-11-23T20:28:51Z"),
        ("2026-11-23T2:28:51-00:00", "2026-11-23T02:28:51Z"),
        ("2026-11-23T20:28:51+22:60", "2026-11-23T20:28:51+23:00"),
        ("2026-11-23T20:28:51+23:60", "2026-11-22T20:28:51Z"),
        ("2026-11-23T20:28:51-24:60", "2026-11-24T21:28:51Z"),
        ("0000-02-29T12:00:00+05:30", "0000-02-29T12:00:00+05:30"),
        ("0000-01-01T00:00:00-24:00", "0000-01-02T00:00:00Z"),
        ("0000-01-01T00:00:00+24:00", "0000-01-01T00:00:00Z"),
        ("9999-12-31T23:59:59-24:00", "9999-12-31T23:59:59.999999999Z"),
        ("0001-01-01T00:00:00.0000000009Z", UNSET),
    ],
)
def test_a_time_is_written_in_the_one_form_that_every_end_reads(text: str, written: str) -> None:
    assert canonical_time(text) == written
    assert canonical_time(written) == written


def test_a_nanosecond_after_the_unset_time_is_a_time() -> None:
    assert parse_time("0001-01-01T00:00:00.000000001Z") is not None


@given(st.integers(0, 4_000_000_000 * 1_000_000))
def test_written_times_are_read_again(microseconds: int) -> None:
    seconds = microseconds / 1e6
    text = format_time(seconds)
    assert (text.endswith("Z") and "." not in text[-2:] and not text.endswith("0Z")) or "." not in text
    read = parse_time(text)
    assert read is not None and abs(read - seconds) < 2e-6


@given(st.text(max_size=40))
def test_any_text_is_a_time_or_a_value_error(text: str) -> None:
    with contextlib.suppress(ValueError):
        parse_time(text)


def test_ids_hold_the_seconds_and_step_by_two() -> None:
    first, second, third = itertools.islice(id_counter(1_700_000_000.9), 3)
    assert first >> 32 in (1_700_000_000, 1_700_000_001)
    assert (second - first, third - second) == (2, 2)


def test_client_ids_wrap_and_skip_what_is_in_use() -> None:
    ids = ClientIds(lambda: 1.0)
    ids._counter = 0xFFFFFFFE
    assert ids.allocate() == (1 << 32) + 0xFFFFFFFF
    assert ids.allocate() == 1 << 32
    assert ids.allocate(in_use={(1 << 32) + 1, (1 << 32) + 2}) == (1 << 32) + 3


def test_a_client_id_is_never_zero() -> None:
    ids = ClientIds(lambda: 0.0)
    ids._counter = 0xFFFFFFFF
    assert ids.allocate() == 1
