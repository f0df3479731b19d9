"""One class for each text that travels, and the table of it that users read."""

import re
from pathlib import Path

import pytest

from frontier_tx import errors
from frontier_tx.errors import (
    DeadlineExceeded,
    EdgeNotOnline,
    EndClosed,
    ForceClosed,
    GatewayError,
    NoSuchRPC,
    OperationError,
    OperationTimeout,
    RemoteError,
    from_answer,
)

CLASSES = [made for made in vars(errors).values() if isinstance(made, type) and issubclass(made, OperationError)]
TEXTS = {
    "timeout",
    "context deadline exceeded",
    "context canceled",
    "force closed",
    "packet payload too large",
    "too many pending",
    *(made.text for made in GatewayError.__subclasses__() if made.__module__ == errors.__name__),
}


def test_no_text_has_two_classes() -> None:
    texts = [made.text for made in CLASSES if made.text]
    assert len(texts) == len(set(texts)) > 15
    assert {str(made()) for made in CLASSES if made.text} == set(texts)


@pytest.mark.parametrize("text", sorted(TEXTS))
def test_an_answer_is_raised_as_the_class_of_its_text(text: str) -> None:
    error = from_answer(text)
    assert (str(error), type(error).text, error.origin) == (text, text, "gateway")


def test_an_answer_in_words_of_its_own_is_the_far_ends() -> None:
    assert type(from_answer("no")) is RemoteError and from_answer("no").origin == "peer"
    assert isinstance(from_answer("no such rpc: x"), NoSuchRPC)
    # Who answers so had a connection that was closed. It is not this one, and the operation may have been done.
    assert type(from_answer(EndClosed.text)) is RemoteError


def test_an_error_of_this_end_says_so() -> None:
    assert OperationTimeout().origin == ForceClosed("why").origin == "caller"
    assert EdgeNotOnline().origin == "gateway"


@pytest.mark.parametrize("late", [OperationTimeout(), DeadlineExceeded(), from_answer("timeout")])
def test_one_except_catches_every_time_limit(late: Exception) -> None:
    with pytest.raises(TimeoutError):
        raise late
    assert isinstance(late, OperationTimeout)


def test_the_table_for_users_is_true() -> None:
    """A class of the table has the text and the origin that stand beside it."""
    table = Path(__file__).parent.parent.joinpath("docs", "clients.md").read_text().split("## Errors")[1]
    rows = re.findall(r"^\| `(\w+)` \| `([^`]+)`[^|]*\| ([^|]+) \|", table, re.M)
    assert len(rows) > 14
    for name, text, origins in rows:
        made = getattr(errors, name, None)
        if made is not None and made.text:
            assert made.text.startswith(text.removesuffix("...").rstrip()), name
            assert made.origin in origins.split(", "), name
    told = {name for name, _, _ in rows}
    rare = {"NoID", "NoChoice", "MetaTooLarge", "Replaced", "ServiceOnline", "MethodTooLong", "TooManyMethods"}
    assert {made.__name__ for made in CLASSES if made.text} <= told | rare
