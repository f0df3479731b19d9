"""Bodies at both readers: what goes on from here is read there, with the same fields; what is read there is read here.

FRONTIER_FUZZ_SECONDS makes it go on for longer than the second that it takes by itself, FRONTIER_FUZZ_SEED says with
which bodies it begins.
"""

from __future__ import annotations

import base64
import itertools
import os
import re
import time
from fractions import Fraction
from typing import Any

import pytest

from frontier_tx.wire import body as b
from frontier_tx.wire import times
from frontier_tx.wire.errors import IllegalPacket
from tests.interop.go_driver import GoDriver
from tests.switch.forwarded import Forwarding, with_route
from tests.wire.odd_bodies import BYTES, KEYS, OddBodies

SECONDS = float(os.environ.get("FRONTIER_FUZZ_SECONDS", "1"))
SEED = int(os.environ.get("FRONTIER_FUZZ_SEED", "0"))
BATCH = 300

pytestmark = pytest.mark.timeout(60 + 5 * SECONDS)

DECODERS = {
    "message": b.read_message,
    "conn": b.decode_conn,
    "session": b.decode_session,
    "register": b.decode_register,
}
#: What a null in a list of numbers becomes there depends on what an earlier value of the same key left in memory.
STALE = re.compile(rb"\[[^\]]*null")


def ours(kind: str, text: bytes) -> Any:
    """Read a body here; None: it is refused as no end would take it, UNFIT: as there is too much of it."""
    try:
        data = DECODERS[kind](text)  # type: ignore[operator]
    except IllegalPacket as error:
        return b.UNFIT if b.UNFIT in str(error) else None
    return b.UNFIT if data.error is b.UNFIT else data


def written(kind: str, data: Any) -> bytes:
    return b.encode_message(data) if kind == "message" else b.encode_data(data)


def read_by_go(go: GoDriver, kind: str, bodies: list[bytes]) -> list[dict[str, Any]]:
    texts = [base64.b64encode(body).decode() for body in bodies]
    readings: list[dict[str, Any]] = go.submit("decode", kind=kind, bodies=texts).result(60)["readings"]
    return readings


def instant(text: str) -> str:
    """Our canonical text of a time, as the Go program writes instants."""
    parsed = times._Parsed(text)
    return f"{parsed.seconds}.{parsed.fraction.ljust(9, '0')}"


def fields_here(kind: str, data: Any) -> dict[str, Any]:
    """The fields as the Go program tells them."""

    def text(value: bytes) -> str | None:
        return base64.b64encode(value).decode() or None

    if kind == "message":
        return {
            "key": text(data.key), "value": text(data.payload), "topic": data.topic, "custom": text(data.custom),
            "error": data.error, "timeout": str(data.timeout), "deadline": instant(data.deadline),
            "context": instant(data.context.deadline),
        }  # fmt: skip
    return {key: text(getattr(data, key)) if key == "meta" else getattr(data, key) for key in KEYS[kind]}


def fields_there(kind: str, reading: dict[str, Any]) -> dict[str, Any]:
    return {key: reading[key] or None if key in BYTES else reading[key] for key in KEYS[kind]}


def close_to(here: dict[str, Any], there: dict[str, Any]) -> bool:
    """Whether fields agree; an instant that no text of four year digits tells is the next one that has such a text."""
    for key, value in there.items():
        mine = here[key]
        if key in ("deadline", "context") and mine != value:
            if abs(Fraction(mine) - Fraction(value)) > 2 * 86400 or -62167219200 < Fraction(value) < 253402300800:
                return False
        elif mine != value:
            return False
    return True


def check(go: GoDriver, kind: str, bodies: list[bytes]) -> None:
    datas = [ours(kind, body) for body in bodies]
    onward = [b"{}" if data is None or data is b.UNFIT else written(kind, data) for data in datas]
    for body, data, text, there, further in zip(
        bodies, datas, onward, read_by_go(go, kind, bodies), read_by_go(go, kind, onward), strict=True
    ):
        accepted = "refused" not in there
        shown = f"{kind}: {body[:300]!r}{'...' + repr(body[-200:]) if len(body) > 300 else ''}"
        if data is b.UNFIT:
            continue
        if data is None:
            assert not accepted, f"refused here and not there: {shown}"
            continue
        assert "refused" not in further, f"{further['refused']}: what goes on is {text[:200]!r}, what came {shown}"
        here = fields_here(kind, data)
        assert here == fields_there(kind, further), shown
        assert base64.b64decode(further["written"]) == text, f"not as it is written there: {shown}"
        if accepted:
            agree = close_to(here, fields_there(kind, there))
            assert agree or STALE.search(body), f"{here} is not {fields_there(kind, there)}: {shown}"


@pytest.mark.parametrize("kind", KEYS)
def test_odd_bodies_are_read_alike_and_go_on_readable(go: GoDriver, kind: str) -> None:
    share = SECONDS * (0.7 if kind == "message" else 0.1)
    end = time.monotonic() + share
    for seed in itertools.count(SEED):
        make = OddBodies(kind, seed)
        check(go, kind, [make() for _ in range(BATCH)])
        if time.monotonic() > end:
            break


def test_what_the_gateway_sends_on_is_read_there(go: GoDriver) -> None:
    odd, odd_sessions = OddBodies("message", SEED), OddBodies("session", SEED)
    rounds = int(100 * SECONDS)
    sent = list(Forwarding().bodies(with_route(odd(), number) for number in range(rounds)))
    named = (odd_sessions().replace(b'"peer":"', b'"peer":"svc","zzz":"', 1) for _ in range(rounds))
    sessions = list(Forwarding().sessions(named))
    for kind, came in (("message", sent), ("session", sessions)):
        for (frame, body, out), there in zip(came, read_by_go(go, kind, [out for _, _, out in came]), strict=True):
            assert "refused" not in there, f"{frame}: {body[:300]!r} went on as {out[:300]!r}"
            assert base64.b64decode(there["written"]) == out, f"{frame}: {body[:300]!r} went on as {out[:300]!r}"
