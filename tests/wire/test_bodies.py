"""JSON bodies: what is tolerated, what is refused, and that a body looks alike whichever way it is read."""

import base64
import contextlib
import json
import time
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from frontier_tx.wire import body as b
from frontier_tx.wire import gojson
from frontier_tx.wire.errors import IllegalPacket
from frontier_tx.wire.times import UNSET

TAIL = b.EMPTY_MESSAGE[1:]
PAD = b'"custom":"' + base64.b64encode(bytes(1800)) + b'"'


def read(text: bytes) -> b.MessageData:
    """Read a body, and read it again as the text that goes on to others."""
    data, onward = b.decode_message(text)
    again, _ = b.decode_message(onward)
    assert (again.key, again.payload, again.topic, again.custom, again.error, again.timeout) == (
        data.key, data.payload, data.topic, data.custom, data.error, data.timeout,
    )  # fmt: skip
    assert onward.startswith(b"{") or onward == text
    return data


ACCEPTED: dict[str, tuple[bytes, str, object]] = {
    "white space": (b' \t\r\n{ "value" : "YQ==" ,\n"topic":"t"} \n', "payload", b"a"),
    "any key order": (b'{"error":"e","topic":"t","value":"YQ==","key":"aw=="}', "key", b"k"),
    "unknown keys": (b'{"zzz":{"a":[1,{"b":null}]},"value":"YQ==","y":-1.5e3}', "payload", b"a"),
    "case of keys": (b'{"VALUE":"YQ==","ToPiC":"t"}', "topic", "t"),
    "case of keys, folded": ('{"\u212aey":"aw=="}'.encode(), "key", b"k"),
    "duplicate keys": (b'{"value":"YQ==","value":"Yg=="}', "payload", b"b"),
    "null as body": (b"null", "payload", b""),
    "null as field": (b'{"value":null,"topic":null,"timeout":null,"deadline":null,"context":null}', "topic", ""),
    "line ends in base64": (b'{"value":"YW\\nJ\\rj"}', "payload", b"abc"),
    "bytes as numbers": (b'{"value":[1,2,255]}', "payload", b"\x01\x02\xff"),
    "no numbers": (b'{"value":[]}', "payload", b""),
    "invalid UTF-8": (b'{"topic":"a\xff\xfeb"}', "topic", "a\ufffd\ufffdb"),
    "cut UTF-8": (b'{"topic":"a\xe4\xb8b"}', "topic", "a\ufffd\ufffdb"),
    "lone surrogate": (b'{"topic":"\\ud800x"}', "topic", "\ufffdx"),
    "surrogate pair": (b'{"topic":"\\ud83d\\ude00"}', "topic", "\U0001f600"),
    "12 fraction digits": (b'{"deadline":"2026-01-01T00:00:00.123456789123Z"}', "deadline", None),
    "comma before fraction": (b'{"deadline":"2026-01-01T00:00:00,5Z"}', "deadline", None),
    "timeout": (b'{"timeout":1500000000}', "timeout", 1_500_000_000),
    "negative timeout": (b'{"timeout":-1}', "timeout", -1),
    "nothing at all": (b"{}", "deadline", UNSET),
    "context alone": (b'{"context":{"Deadline":"2026-01-01T00:00:00+02:00","x":1}}', "deadline", UNSET),
    "escaped base64": (b'{"value":"YWI\\u003d"}', "payload", b"ab"),
}


@pytest.mark.parametrize("large", [False, True], ids=["small", "large"])
@pytest.mark.parametrize("name", ACCEPTED)
def test_tolerated(name: str, large: bool) -> None:
    text, field, value = ACCEPTED[name]
    if large and text != b"null":
        close = text.rindex(b"}")
        text = text[:close] + (b"" if text[:close].strip() == b"{" else b",") + PAD + text[close:]
        assert len(text) > b.LARGE_BODY
    data = read(text)
    if value is not None:
        assert getattr(data, field) == value
    assert not large or text == b"null" or data.custom == bytes(1800)


REFUSED = {
    "no bytes": b"",
    "white space alone": b"  ",
    "cut": b'{"value":',
    "text after": b'{"value":"YQ=="} x',
    "two values": b"{}{}",
    "byte order mark": b'\xef\xbb\xbf{"value":"YQ=="}',
    "array": b"[]",
    "string": b'"x"',
    "number": b"5",
    "bool": b"true",
    "number for bytes": b'{"value":5}',
    "number for a string": b'{"topic":5}',
    "string for a number": b'{"timeout":"5"}',
    "object for a string": b'{"topic":{}}',
    "base64 without padding": b'{"value":"YQ"}',
    "URL-safe base64": b'{"value":"-_8="}',
    "foreign base64": b'{"value":"@@"}',
    "space in base64": b'{"value":"YQ= ="}',
    "too much padding": b'{"value":"YQ======"}',
    "control character": b'{"topic":"a\x01b"}',
    "256 among numbers": b'{"value":[256]}',
    "-1 among numbers": b'{"value":[-1]}',
    "half among numbers": b'{"value":[0.5]}',
    "float timeout": b'{"timeout":1.5}',
    "exponent timeout": b'{"timeout":1e3}',
    "timeout beyond 64 bits": b'{"timeout":9223372036854775808}',
    "empty time": b'{"deadline":""}',
    "time without zone": b'{"deadline":"2026-01-01T00:00:00"}',
    "time with a space": b'{"deadline":"2026-01-01 00:00:00Z"}',
    "lower-case time": b'{"deadline":"2026-01-01t00:00:00z"}',
    "second 60": b'{"deadline":"2026-01-01T00:00:60Z"}',
    "day 30 of February": b'{"deadline":"2026-02-30T00:00:00Z"}',
    "bad context": b'{"context":{"deadline":"x"}}',
    "context no object": b'{"context":"x"}',
    "NaN": b'{"zzz":NaN}',
    "nested too deep": b'{"zzz":' + b"[" * 10_001 + b"]" * 10_001 + b"}",
}


@pytest.mark.parametrize("large", [False, True], ids=["small", "large"])
@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str, large: bool) -> None:
    text = REFUSED[name]
    if large and text.startswith(b'{"') and text.endswith(b"}"):
        text = text[:-1] + b"," + PAD + b"}"
    with pytest.raises(IllegalPacket):
        b.decode_message(text)


@pytest.mark.parametrize("read_it", [b.decode_conn, b.decode_session, b.decode_register])
@pytest.mark.parametrize("text", [b"", b"{", b"[]", b'"x"', b"5", b'{"error":5}', b'{"error":"\x01"}', b"{} x"])
def test_small_bodies_refuse_alike(read_it: object, text: bytes) -> None:
    assert callable(read_it)
    with pytest.raises(IllegalPacket):
        read_it(text)


@pytest.mark.parametrize("read_it", [b.decode_conn, b.decode_session, b.decode_register])
@pytest.mark.parametrize(
    "text",
    [b'{"error":"e"}', b' { "ERROR" : "e" } ', b'{"q":[1],"error":"x","error":"e"}'],
    ids=["plain", "case", "twice"],
)
def test_small_bodies_tolerate_alike(read_it: object, text: bytes) -> None:
    assert callable(read_it)
    assert read_it(text).error == "e"
    assert read_it(b"null").error == "" == read_it(b"{}").error


def test_every_code_point_is_escaped_as_the_other_ends_do() -> None:
    special = {'"': '\\"', "\\": "\\\\", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
    special |= {c: f"\\u{ord(c):04x}" for c in "<>&\u2028\u2029"}
    for code in [*range(0x120), 0x2027, 0x2028, 0x2029, 0x202A, 0xD7FF, 0xE000, 0xFFFD, 0xFFFF, 0x10000, 0x10FFFF]:
        char = chr(code)
        text = special.get(char, f"\\u{code:04x}" if code < 0x20 else char)
        assert b.encode_data(b.RegisterData(error=char)) == f'{{"error":"{text}"}}'.encode(), hex(code)


def test_the_smallest_body_is_the_protocols_81_bytes() -> None:
    assert b.message_json() == b.EMPTY_MESSAGE
    assert len(b.EMPTY_MESSAGE) == 81


MESSAGES = st.fixed_dictionaries(
    {},
    optional={
        "key": st.binary(max_size=40),
        "value": st.binary(max_size=60) | st.sampled_from([b"x" * 1535, b"y" * 1537, b"z" * 5000]),
        "topic": st.text(st.characters(exclude_categories=["Cs"]), max_size=30),
        "custom": st.binary(max_size=20),
        "error": st.text(st.characters(exclude_categories=["Cs"]), max_size=30),
        "deadline": st.just("2026-11-24T01:29:08.5+02:00"),
        "context_deadline": st.just("2026-11-24T01:29:08Z"),
    },
)


@settings(max_examples=200, deadline=None)
@given(MESSAGES)
def test_a_message_is_written_as_documented_and_read_again(fields: dict[str, object]) -> None:
    text = b.message_json(**fields)  # type: ignore[arg-type]
    wanted: dict[str, object] = {}
    for key in ("key", "value", "topic", "custom", "error"):
        value = fields.get(key)
        if value:
            wanted[key] = base64.b64encode(value).decode() if isinstance(value, bytes) else value
    wanted["deadline"] = fields.get("deadline", UNSET)
    wanted["context"] = {"deadline": fields.get("context_deadline", UNSET)}
    assert list(json.loads(text).items()) == list(wanted.items())
    assert (b" :" not in text and b", " not in text.replace(b'", "', b"")) or fields.get("topic") or fields.get("error")
    data, onward = b.decode_message(text)
    assert onward is text
    assert data.payload == fields.get("value", b"")
    assert b.encode_message(data) == text


@settings(max_examples=150, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.text(max_size=8),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["value", "topic", "Key", "deadline", "context", "timeout", "q"]), inner, max_size=4
            )
        ),
        max_leaves=8,
    )
)
def test_both_readers_agree_on_any_json(value: object) -> None:
    """What the fast reader takes, the tolerant one takes with the same fields; nothing raises but IllegalPacket."""
    text = json.dumps(value).encode()
    try:
        data, _ = b.decode_message(text)
    except IllegalPacket:
        with pytest.raises(ValueError, match=r".+"):
            gojson.read_object(text, b._MESSAGE_SHAPE)
        return
    slow = b._read_tolerantly(text)
    assert (data.key, data.payload, data.topic, data.timeout, data.deadline, data.context) == (
        slow.key, slow.payload, slow.topic, slow.timeout, slow.deadline, slow.context,
    )  # fmt: skip


def test_a_large_body_without_a_value_is_written_again() -> None:
    text = b'{"topic":"' + b"t" * 2000 + b'",' + TAIL
    data, onward = b.decode_message(text)
    assert onward == text and data.payload == b""
    assert b.encode_message(data) == text


def test_a_large_value_goes_on_as_the_text_that_it_came_as() -> None:
    text = b.message_json(value=b"v" * 4000, topic="<t>")
    data, onward = b.decode_message(text)
    assert onward is text and not isinstance(data.value, bytes)
    assert data.payload == b"v" * 4000


def test_frame_limit_is_read_beside_keys_of_others() -> None:
    assert b.decode_conn(b'{"frame_limit":16777216,"other":1}').frame_limit == 16_777_216
    assert b.encode_data(b.ConnData(meta=b"m", frame_limit=5)) == b'{"meta":"bQ==","frame_limit":5}'
    assert b.encode_data(b.ConnData(meta=b"m")) == b'{"meta":"bQ=="}'


def test_lists_of_strings_and_whole_numbers_within_bounds() -> None:
    shape = {"names": gojson.read_strings, "n": gojson.read_integer}
    taken = gojson.read_object(b'{"names":["a",null],"n":18446744073709551615}', shape)
    assert taken == {"names": ("a", ""), "n": 2**64 - 1}
    for text in (b'{"names":{}}', b'{"names":"a"}', b'{"names":[1]}', b'{"n":18446744073709551616}', b'{"n":"1"}'):
        with pytest.raises(ValueError, match=r".+"):
            gojson.read_object(text, shape)


# -- what goes on -------------------------------------------------------------------------------------------


def test_an_escape_in_a_time_does_not_go_on() -> None:
    text = b.message_json(value=b"v").replace(b'00Z","context"', b'00\\u005a","context"')
    data, onward = b.decode_message(text)
    assert data.deadline == UNSET and onward == b.message_json(value=b"v")


def test_a_time_goes_on_in_the_form_that_all_read() -> None:
    text = b'{"deadline":"2026-01-01T1:00:00,50+24:00","context":{"deadline":"2026-01-01T00:00:00.10Z"}}'
    _, onward = b.decode_message(text)
    assert onward == b.message_json(deadline="2025-12-31T01:00:00.5Z", context_deadline="2026-01-01T00:00:00.1Z")


@pytest.mark.parametrize("first", [b"!" * 3000, b"QQ=Q" * 700, b"\\ud800" * 600, b"\\n" * 2000, b"QQ==" * 700])
@pytest.mark.parametrize("last", [b"a", b"b" * 3000], ids=["small", "large"])
def test_a_value_that_another_one_follows_does_not_go_on(first: bytes, last: bytes) -> None:
    text = b'{"value":"' + first + b'","value":"' + base64.b64encode(last) + b'",' + TAIL
    data, onward = b.decode_message(text)
    assert data.payload == last and onward == b.message_json(value=last)


@pytest.mark.parametrize("between", [b":", b": ", b" \n:\t"])
@pytest.mark.parametrize("key", [b"value", b"Value", b"VALUE"])
@pytest.mark.parametrize("beside", [b"", b'"trace":{"value":"' + b"x" * 2000 + b'"},'], ids=["alone", "beside"])
def test_a_large_value_may_stand_among_whatever_others_write(between: bytes, key: bytes, beside: bytes) -> None:
    value = bytes(range(256)) * 12_000
    spent = gojson.METER.spent
    for plain, escaped in ((b"", b""), (b"/", b"\\/"), (b"+", b"\\u002B")):
        part = value[: 3 * 768 * 100] if plain else value
        string = base64.b64encode(part)
        string = string.replace(plain, escaped) if plain else string
        text = b"{" + beside + b'"' + key + b'"' + between + b'"' + string + b'","zzz":null,' + TAIL
        data, onward = b.decode_message(text)
        assert data.payload == part and onward == b.message_json(value=part)
    assert gojson.METER.spent - spent < 100_000


@pytest.mark.parametrize(
    ("end", "written"), [(b"YR==", b"YQ=="), (b"YWJ=", b"YWI="), (b"YQ==", b"YQ=="), (b"YWJj", b"YWJj")]
)
def test_bits_of_base64_that_mean_nothing_do_not_go_on(end: bytes, written: bytes) -> None:
    for start in (b"", b"QUJD" * 500):
        _, onward = b.decode_message(b'{"value":"' + start + end + b'",' + TAIL)
        assert onward == b'{"value":"' + start + written + b'",' + TAIL


def test_line_ends_in_a_large_value_do_not_go_on() -> None:
    value = bytes(range(256)) * 40
    lines = base64.encodebytes(value).replace(b"\n", b"\\r\\n")
    data, onward = b.decode_message(b'{"value":"' + lines + b'",' + TAIL)
    assert data.payload == value and onward == b.message_json(value=value)
    session = b.decode_session(b'{"meta":"' + lines + b'","peer":"p"}')
    assert session == b.SessionData(meta=value, peer="p")


@pytest.mark.parametrize("bad", [b"=", b"Q", b"QQ==", b"\xff\xff\xff\xff", b"Q QQ", b"-_-_", b"\\u00e9QQQ", b"\\"])
def test_a_large_value_that_is_no_base64_is_refused(bad: bytes) -> None:
    string = bad + b"QUJD" * 500
    with pytest.raises(IllegalPacket):
        b.decode_message(b'{"value":"' + string + b'",' + TAIL)
    with pytest.raises(IllegalPacket):
        b.decode_session(b'{"meta":"' + string + b'"}')


def test_what_stands_for_a_lifted_string_cannot_be_guessed_from_outside() -> None:
    first = b.decode_message(b'{"value":"' + b"QUJD" * 500 + b'","value":"",' + TAIL)[0]
    assert first.payload == b""
    nested = b.decode_message(b'{"zzz":{"value":"' + b"QUJD" * 500 + b'"},' + TAIL)[0]
    assert nested.payload == b""


@pytest.mark.parametrize("key", ["topic", "error", "custom", "key", "zzz"])
def test_too_much_beside_the_value_is_refused_and_costs_no_more_than_it_is_long(key: str) -> None:
    filling = b"QUJD" * 2_000_000 if key in ("custom", "key") else b"x" * 8_000_000 + "\U0001f600".encode()
    text = b'{"' + key.encode() + b'":"' + filling + b'","value":"QUJD",' + TAIL
    tracemalloc.start()
    try:
        data = b.read_message(text)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert data.error is b.UNFIT and peak < 2 * b.BESIDE_VALUE
    assert not (data.key or data.value or data.topic or data.custom)


def test_a_ten_megabyte_body_is_not_held_many_times() -> None:
    text = b.message_json(value=bytes(7_800_000), topic="t")
    tracemalloc.start()
    try:
        _, onward = b.decode_message(text)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert onward == text and peak < 1.2 * len(text)


def test_more_than_a_session_says_beside_its_meta_is_refused() -> None:
    long = "p" * (b.BESIDE_META + 1)
    data = b.decode_session(b.encode_data(b.SessionData(b"m", peer=long)))
    assert (data.error is b.UNFIT, data.meta, data.peer) == (True, b"", "")
    assert b.decode_register(b.encode_data(b.RegisterData(long))).error is b.UNFIT
    with pytest.raises(IllegalPacket):
        b.decode_conn(b.encode_data(b.ConnData(b"m", long)))
    meta = bytes(7_000_000)
    assert b.decode_session(b.encode_data(b.SessionData(meta, peer="p"))) == b.SessionData(meta, peer="p")


SLOW = {
    "pairs": b'"":0,',
    "pairs of a key": b'"topic":"",',
    "keys in another case": b'"kEy":"QUJD",',
    "times": b'"Deadline":"2026-01-01T00:00:00Z",',
    "contexts": b'"context":{"zzz":0},',
    "bad UTF-8": b'"topic":"\xff\xff\xff\xff\xff\xff\xff\xff",',
    "escapes": b'"error":"\\ud800\\ud800",',
    "numbers": b'"value":[1,2,3,4,5,6,7,8,9],',
    "objects": b'"zzz":[{},{},{},{}],',
}


@pytest.mark.parametrize("size", [gojson.MOST, b.BESIDE_VALUE, 10_000_000], ids=["slow", "beside", "large"])
@pytest.mark.parametrize("unit", SLOW)
def test_no_body_keeps_the_process_busy(unit: str, size: int) -> None:
    """It takes some 4 ms on an idle machine of 2024; ten times that is allowed here."""
    piece = SLOW[unit]
    text = b"{" + piece * ((size - 100) // len(piece)) + TAIL
    spent = gojson.METER.spent
    took = []
    for _ in range(3):
        at = time.process_time()
        with contextlib.suppress(IllegalPacket):
            b.read_message(text)
        took.append(time.process_time() - at)
    assert min(took) < 0.04
    assert gojson.METER.spent - spent <= 3 * gojson.MOST


def test_the_slow_way_is_metered() -> None:
    spent = gojson.METER.spent
    text = b'{"zzz":1,"value":"YQ=="}'
    b.read_message(text)
    assert gojson.METER.spent - spent == len(text)
    b.read_message(b.message_json(value=b"a", topic="t"))
    assert gojson.METER.spent - spent == len(text)
