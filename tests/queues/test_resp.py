"""Commands and answers of Redis."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from frontier_tx.queues.resp import MOST_LINE, Replies, command

ANSWERS: list[tuple[bytes, str | None]] = [
    (b":0\r\n", None),
    (b"+OK\r\n", None),
    (b"$3\r\n1-0\r\n", None),
    (b"$0\r\n\r\n", None),
    (b"$2\r\n-E\r\n", None),
    (b"$-1\r\n", None),
    (b"-ERR bad\r\n", "bad"),
    (b"-OOM no \xff room\r\n", "OOM no \ufffd room"),
]


def test_a_command_holds_any_bytes() -> None:
    assert command(b"PUBLISH", b"t", b"\r\n\0") == b"*3\r\n$7\r\nPUBLISH\r\n$1\r\nt\r\n$3\r\n\r\n\0\r\n"


@given(st.lists(st.sampled_from(ANSWERS), max_size=20), st.data())
def test_answers_in_any_pieces(answers: list[tuple[bytes, str | None]], data: st.DataObject) -> None:
    sent = b"".join(line for line, _ in answers)
    replies, found = Replies(), []
    while sent:
        size = data.draw(st.integers(1, len(sent)))
        found += replies.feed(sent[:size])
        sent = sent[size:]
    assert found == [error for _, error in answers]


@pytest.mark.parametrize("line", [b"*1\r\n", b"\r\n", b"HTTP/1.1 400\r\n", b":" + b"1" * (MOST_LINE + 1)])
def test_what_is_no_answer(line: bytes) -> None:
    with pytest.raises(ValueError, match="the server sends"):
        Replies().feed(line)
