"""What cannot be done costs the operation, never the connection: odd requests, odd answers, odd errors."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from frontier_tx.clients import Bounds, ConnectionRefused, HandlerError, Request
from frontier_tx.clients.core.answers import LONGEST_TEXT
from frontier_tx.errors import (
    ConnectFailed,
    ForceClosed,
    RemoteError,
)
from frontier_tx.testing import MemoryGateway
from frontier_tx.wire import frame as f
from frontier_tx.wire.body import message_json
from tests.clients.served import Served, Told

MIB = 1 << 20


@pytest.mark.parametrize("on_stream", [False, True], ids=["session 1", "stream"])
@pytest.mark.parametrize(
    "method",
    [
        b"\xff\xfe",
        b"m" * 9 * MIB,
        b"\xf0" * MIB,
        b"\x00\x1f" * MIB,
        "\U0001f600".encode() * 9999,
        b"\xf0" * 40_000,
        b"",
    ],
    ids=["no UTF-8", "9 MB", "1 MB no UTF-8", "controls", "emoji", "40 kB no UTF-8", "empty"],
)
def test_a_request_for_a_method_that_is_none_is_answered(on_stream: bool, method: bytes) -> None:
    served = Served()
    _, session = served.opened()
    at = session.id if on_stream else 1
    served.sends_frame(f.REQUEST, 77, at, message_json(key=method))
    (text,) = served.answers().values()
    assert text.startswith("no such rpc: ") == (len(method) < 100_000) and len(text) < 1100
    assert text.startswith("no such rpc: ") or text == "too much beside the payload"
    assert served.pipe.connection.connected and session.writable


@pytest.mark.parametrize("kind", [f.REQUEST, f.MESSAGE, f.RESPONSE, f.MESSAGE_ACK, f.REGISTER_ACK])
@pytest.mark.parametrize("on_stream", [False, True], ids=["session 1", "stream"])
def test_a_body_that_no_end_reads_costs_its_operation(kind: int, on_stream: bool) -> None:
    served = Served()
    channel, session = served.opened()
    speaker = channel if on_stream else served.main
    told = Told()
    started = {
        f.RESPONSE: lambda: speaker.call("m", b"", told),
        f.MESSAGE_ACK: lambda: speaker.publish("t", b"", told),
        f.REGISTER_ACK: lambda: speaker.register("m", told),
    }
    packet_id = 77
    if kind in started:
        started[kind]()
        served.pump()
        packet_id = served.frames[-1].packet_id
    served.sends_frame(kind, packet_id, session.id if on_stream else 1, b'{"key":7,')
    if kind in started:
        assert isinstance(told.one, RemoteError)
    else:
        (text,) = served.answers(kind + 1).values()
        assert text.startswith("illegal packet: ")
    assert served.pipe.connection.connected and served.end.pending == 0


def test_requests_beyond_the_bound_on_bytes_are_refused() -> None:
    served = Served(Bounds(request_bytes=3 * MIB))
    served.intake.methods["m"] = len
    for packet_id in range(10, 14):
        served.sends_frame(f.REQUEST, packet_id, 1, message_json(key=b"m", value=bytes(MIB)))
    assert served.answers() == {12: "too many pending", 13: "too many pending"}
    served.running.pop().respond(b"")
    served.sends_frame(f.REQUEST, 14, 1, message_json(key=b"m", value=bytes(MIB)))
    assert len(served.running) == 2
    for request in served.running:
        request.fail(HandlerError("no"))
    served.pump()
    assert served.end.running == served.intake.request_budget.held == 0


@pytest.mark.parametrize("text", ["x" * 12 * MIB, "\x01" * 12 * MIB, "\ud800 not text", "\U0001f600" * MIB])
def test_an_error_that_cannot_travel_as_it_is_travels_cut(text: str) -> None:
    served = Served()
    served.intake.methods["m"] = len
    served.sends_frame(f.REQUEST, 10, 1, message_json(key=b"m"))
    served.running.pop().fail(HandlerError(text))
    served.intake.messages.used = True
    served.sends_frame(f.MESSAGE, 11, 1, message_json(value=b"m"))
    served.intake.messages.pop().fail(text)
    served.pump()
    cut = text[:LONGEST_TEXT].replace("\ud800", "?")
    assert served.answers() == {10: cut} and served.answers(f.MESSAGE_ACK) == {11: cut}


def test_a_message_that_is_failed_with_what_is_no_text_can_still_be_answered() -> None:
    served = Served()
    served.intake.messages.used = True
    served.sends_frame(f.MESSAGE, 11, 1, message_json(value=b"m"))
    message = served.intake.messages.pop()
    with pytest.raises(TypeError, match=r"^text: expected str, not ValueError$"):
        message.fail(ValueError("no"))
    message.fail("no")
    served.pump()
    assert served.answers(f.MESSAGE_ACK) == {11: "no"}


def test_an_answer_that_does_not_fit_fails_its_call() -> None:
    served = Served()
    served.intake.methods["m"] = len
    served.sends_frame(f.REQUEST, 10, 1, message_json(key=b"m"))
    served.running.pop().respond(bytes(13 * MIB))
    served.pump()
    assert served.answers() == {10: "packet payload too large"}


# -- what strangers read -----------------------------------------------------------------------------------

SECRET = "no route to db-7.internal:5432, password 'hunter2'"


def failing(how: str) -> Any:
    error = ConnectFailed(SECRET) if how == "of this library" else ValueError(SECRET)

    async def later(argument: Any) -> Any:
        raise error

    def now(argument: Any) -> Any:
        raise error

    return later if how == "coroutine" else now


@pytest.mark.parametrize("how", ["plain", "coroutine", "of this library"])
def test_a_stranger_gets_a_number_and_the_log_has_the_rest(how: str, caplog: pytest.LogCaptureFixture) -> None:
    with MemoryGateway() as gateway, caplog.at_level(logging.DEBUG):
        service, edge = gateway.service(name="s"), gateway.edge()
        gateway.run(service.connect())
        gateway.run(edge.connect())
        gateway.run(service.register("m", failing(how)))
        with pytest.raises(RemoteError, match=r"^rpc handler failed: reference \d{10}$") as caught:
            gateway.run(edge.call("m"))
        texts = [str(caught.value)]
        for register in (service.register_edge_online, service.register_get_edge_id):
            gateway.run(register(failing(how)))
            with pytest.raises(ConnectionRefused) as refused:
                gateway.run(gateway.edge().connect())
            texts.append(str(refused.value))
    assert not any("db-7" in text or "ValueError" in text for text in texts)
    numbers = [text.rpartition("reference ")[2] for text in texts]
    assert len(set(numbers)) == 3 and all(number.isdigit() for number in numbers)


def test_what_is_meant_for_the_caller_reaches_it_and_an_edge_tells_its_service() -> None:
    with MemoryGateway() as gateway:
        service, edge, open_minded = gateway.service(), gateway.edge(), gateway.service(error_texts=True)
        for client in (service, edge, open_minded):
            gateway.run(client.connect())
        gateway.run(edge.register("m", failing("plain")))
        with pytest.raises(RemoteError, match=r"^rpc handler failed: ValueError: no route to db-7"):
            gateway.run(service.call(edge.edge_id, "m"))
        gateway.run(open_minded.register("m", failing("plain")))
        with pytest.raises(RemoteError, match="no route to db-7"):
            gateway.run(edge.call("m"))

        async def refuse(meta: bytes) -> int:
            raise HandlerError("who are you")

        gateway.run(service.register_get_edge_id(refuse))
        with pytest.raises(ConnectionRefused, match=r"^who are you$"):
            gateway.run(gateway.edge().connect())


def test_a_handler_that_is_given_up_says_nothing_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    with MemoryGateway() as gateway:
        service, edge = gateway.service(), gateway.edge()
        gateway.run(service.connect())
        gateway.run(edge.connect())
        started: list[Request] = []

        def slow(request: Request) -> Deferred[bytes]:
            started.append(request)
            return Deferred()

        gateway.run(service.register("slow", slow))
        call = edge.call("slow")
        gateway.advance()
        assert started
        call.addErrback(lambda failure: None)
        call.cancel()
        gateway.advance()
    assert not caplog.records


def test_operations_on_a_stream_that_was_aborted() -> None:
    with MemoryGateway() as gateway:
        service, edge = gateway.service(name="s"), gateway.edge()
        gateway.run(service.connect())
        gateway.run(edge.connect())
        mine = gateway.run(edge.open_stream("s"))
        theirs = gateway.run(service.accept_stream())
        mine.write(b"half")
        assert gateway.run(theirs.read()) == b"half"
        reading = theirs.read()
        mine.abort("enough")
        mine.abort()
        gateway.run(mine.close())
        for failing in (theirs.call("m"), reading):
            with pytest.raises(ForceClosed, match=r"^force closed: enough$"):
                gateway.run(failing)
