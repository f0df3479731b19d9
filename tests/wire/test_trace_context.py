"""The trace context at the head of ``custom``."""

import pytest

from frontier_tx.wire.trace_context import checked, put, take

CONTEXT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.mark.parametrize("context", [CONTEXT, ""])
@pytest.mark.parametrize("custom", [b"", b"8 bytes.", b"\x00" * 300])
def test_what_is_put_is_taken(context: str, custom: bytes) -> None:
    assert take(put(context, custom)) == (context, custom)


def test_no_custom_is_no_context() -> None:
    assert take(b"") == ("", b"")


@pytest.mark.parametrize(
    "text",
    [
        CONTEXT[:-1],
        CONTEXT.upper(),
        "01" + CONTEXT[2:],
        "00-" + "0" * 32 + CONTEXT[35:],
        CONTEXT[:36] + "0" * 16 + "-01",
        CONTEXT + "\n",
    ],
)
def test_what_is_not_well_formed_is_none(text: str) -> None:
    assert checked(text) == "" and checked(CONTEXT) == CONTEXT
    assert take(put(text, b"rest")) == ("", b"rest")


def test_a_length_that_goes_beyond_the_end_takes_what_is_there() -> None:
    assert take(b"\xffabc") == ("", b"")
    assert take(b"\x02\xff\xfeabc") == ("", b"abc")
