"""Calls between Go edges and Go services, both ways."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from tests.interop.conftest import ConnectTo, StartGateway
from tests.interop.ends import End, EndError, Ends, fails, unique

pytestmark = pytest.mark.timeout(20)

MIB = 1 << 20
#: Caller, gateway and callee each watch the caller's deadline, and the first of them ends the call, with its own text.
OVER = ("timeout", "context deadline exceeded")


@dataclass(frozen=True)
class Way:
    """One direction: who calls whom, and what the caller must say to reach the other."""

    caller: End
    callee: End
    options: dict[str, Any]
    down: bool

    def call(self, method: str, data: bytes = b"", **more: Any) -> bytes:
        return self.caller.call(method, data, **self.options, **more)


@pytest.fixture(params=["service_to_edge", "edge_to_service"])
def way(request: pytest.FixtureRequest, paired: Ends) -> Way:
    edge, service = paired.edge(b"edge"), paired.service(unique("service"))
    if request.param == "service_to_edge":
        return Way(service, edge, {"edge_id": edge.client_id}, True)
    return Way(edge, service, {}, False)


def test_answer_comes_back(way: Way) -> None:
    method = unique("echo")
    way.callee.register(method, echo=True)
    assert way.call(method, b"hello") == b"hello"


@pytest.mark.parametrize("data", [b"", b'\x00\xff\n"<&>', bytes(range(256)) * 5], ids=["none", "odd", "every_byte"])
def test_payload_is_untouched(way: Way, data: bytes) -> None:
    method = unique("echo")
    way.callee.register(method, echo=True)
    assert way.call(method, data) == data
    assert way.callee.seen(method)[0].data == data


def test_asynchronous_call_ends(way: Way) -> None:
    method = unique("echo")
    way.callee.register(method, echo=True)
    way.call(method, b"hello", is_async=True)
    assert way.callee.seen(method)[0].data == b"hello"


def test_asynchronous_call_gets_the_error(way: Way) -> None:
    method = unique("refuse")
    way.callee.register(method, error="not now")
    with fails("not now"):
        way.call(method, is_async=True)


def test_custom_and_edge_id_reach_the_handler(way: Way) -> None:
    method = unique("look")
    way.callee.register(method)
    way.call(method, b"x", custom=b"mine")
    seen = way.callee.seen(method)[0]
    assert seen.custom == b"mine"
    assert seen.edge_id == (0 if way.down else way.caller.client_id)


#: Go tells the caller what went wrong, our edges do so too; our services give a number that stands in their log.
HANDLER_FAILED = r"^(rpc handler panic: oh dear|rpc handler failed: (RuntimeError: oh dear|reference \d{10}))$"


def test_no_custom_is_no_custom(way: Way) -> None:
    method = unique("look")
    way.callee.register(method)
    way.call(method)
    assert way.callee.seen(method)[0].custom == b""


@pytest.mark.parametrize("text", ["not now", 'größer < "kleiner" & more\n'])
def test_error_text_comes_back_byte_for_byte(way: Way, text: str) -> None:
    method = unique("refuse")
    way.callee.register(method, error=text)
    with fails(text):
        way.call(method, b"hello")


def test_panic_of_a_handler_is_an_error_of_that_call_only(way: Way) -> None:
    method, other = unique("panic"), unique("echo")
    way.callee.register(method, panic="oh dear")
    way.callee.register(other, echo=True)
    with pytest.raises(EndError, match=HANDLER_FAILED):
        way.call(method)
    assert way.call(other, b"still here") == b"still here"


@pytest.mark.parametrize("size", [16 << 10, MIB, 7_800_000], ids=["16KiB", "1MiB", "7.8MB"])
def test_large_payload(way: Way, size: int) -> None:
    method = unique("echo")
    way.callee.register(method, echo=True)
    way.caller.call_many(method, 1, width=1, size=size, edge_ids=_ids(way), patience=15)


def test_thousand_calls_under_way(way: Way) -> None:
    method = unique("echo")
    way.callee.register(method, echo=True, sleep_ms=200)
    slowest = way.caller.call_many(method, 1000, width=1000, size=100, edge_ids=_ids(way), patience=15)
    assert slowest < 5


def test_hundreds_of_calls_each_way_at_once(ends: Ends) -> None:
    edge, service = ends.edge(), ends.service("any")
    method = unique("echo")
    for end in (edge, service):
        end.register(method, echo=True)
    calling = edge.start_call_many(method, 500, width=500, size=20)
    service.call_many(method, 500, width=500, size=20, edge_ids=[edge.client_id], patience=15)
    calling.result(15)


def test_slow_call_delays_no_other(way: Way) -> None:
    slow, fast = unique("slow"), unique("fast")
    way.callee.register(slow, until_done=True)
    way.callee.register(fast, echo=True)
    hanging = way.caller.start_call(slow, **way.options)
    way.callee.seen(slow)
    assert way.caller.call_many(fast, 200, width=8, size=10, edge_ids=_ids(way)) < 2
    assert not hanging.done()


def test_deadline_reaches_handler_and_ends_the_call(way: Way) -> None:
    method = unique("hang")
    # it goes on for a while, or its answer would meet the end of the call
    way.callee.register(method, until_done=True, sleep_ms=200)
    with fails("context deadline exceeded"):
        way.call(method, deadline_ms=400)
    seen = way.callee.seen(method, ended=True)[0]
    assert seen.deadline is not None
    assert 0 < seen.deadline <= 0.4


def test_timeout_option_ends_the_call(way: Way) -> None:
    method = unique("hang")
    way.callee.register(method, sleep_ms=1000)
    with fails(*OVER):
        way.call(method, timeout_ms=200)


def test_handler_has_a_deadline_where_the_caller_set_none(way: Way) -> None:
    method = unique("look")
    way.callee.register(method)
    way.call(method)
    deadline = way.callee.seen(method)[0].deadline
    assert deadline is not None
    assert 20 < deadline <= 30.5


def test_cancel_reaches_the_handler(way: Way) -> None:
    method = unique("hang")
    way.callee.register(method, until_done=True)
    with fails("context canceled"):
        way.call(method, cancel_ms=200)
    assert way.callee.seen(method, ended=True)[0].ended == "context canceled"


def test_late_answer_harms_nothing(way: Way) -> None:
    late, method = unique("late"), unique("echo")
    way.callee.register(late, sleep_ms=300)
    way.callee.register(method, echo=True)
    with fails(*OVER):
        way.call(late, timeout_ms=100)
    assert way.caller.call_many(method, 50, width=1, size=8, edge_ids=_ids(way)) < 2
    assert len(way.callee.seen(late)) == 1


def test_service_calls_a_method_that_the_edge_has_not(ends: Ends) -> None:
    edge, service = ends.edge(), ends.service("any")
    with fails("no such rpc: nothing"):
        service.call("nothing", edge_id=edge.client_id)


@pytest.mark.parametrize("edge_id", [0, 4242, 2**64 - 1])
def test_service_calls_an_edge_that_is_not_there(ends: Ends, edge_id: int) -> None:
    with fails("edge not online"):
        ends.service("any").call("echo", edge_id=edge_id)


@pytest.mark.differs("it answers with the text of a crash")
@pytest.mark.parametrize("custom", [None, b"short"])
def test_service_calls_without_an_edge_id(ends: Ends, custom: bytes | None) -> None:
    with fails("illegal edgeID"):
        ends.service("any").call("echo", custom=custom)


def test_edge_calls_a_method_that_no_service_has(ends: Ends) -> None:
    with fails("record not found"):
        ends.edge().call(unique("nothing"))


@pytest.mark.differs("G6: names with quotes are not found, and case is ignored")
def test_method_names_are_exact(ends: Ends) -> None:
    edge, service = ends.edge(), ends.service("any")
    method = unique('Quo"ted *')
    service.register(method, data=b"exact")
    assert edge.call(method) == b"exact"
    with fails("record not found"):
        edge.call(method.lower())


@pytest.mark.differs("an edge may call them")
@pytest.mark.parametrize("method", ["get_edge_id", "edge_online", "edge_offline"])
def test_control_functions_are_out_of_reach_of_edges(
    ends_of: ConnectTo, gateway_with: StartGateway, method: str
) -> None:
    gateway = gateway_with()
    ends = ends_of(gateway)
    edge, service = ends.edge(), ends.service("any")
    service.register(method, data=b"12345678")
    with fails("record not found"):
        edge.call(method)


@pytest.mark.differs("G7: the record goes after the goodbye")
def test_methods_vanish_with_their_owner(ends: Ends) -> None:
    edge, service = ends.edge(), ends.service("any")
    method = unique("mine")
    service.register(method, echo=True)
    assert edge.call(method, b"x") == b"x"
    service.close()
    with fails("record not found"):
        edge.call(method)


@pytest.mark.differs("G7: the record comes after the ack")
def test_registered_means_callable_at_once(ends: Ends) -> None:
    edge, service = ends.edge(), ends.service("any")
    for _ in range(100):
        method = unique("at-once")
        service.register(method, echo=True)
        assert edge.call(method, b"x") == b"x"


@pytest.mark.differs("G7: the record comes after the ack")
def test_connected_means_reachable_at_once(ends: Ends) -> None:
    service = ends.service("any")
    for _ in range(50):
        edge = ends.edge()
        with fails("no such rpc: nothing"):
            service.call("nothing", edge_id=edge.client_id)


def test_one_edge_always_reaches_the_same_of_several_services(ends: Ends) -> None:
    services = [ends.service("kind") for _ in range(3)]
    method = unique("which")
    for number, service in enumerate(services):
        service.register(method, data=bytes([number]))
    chosen = {}
    for edge in [ends.edge() for _ in range(6)]:
        answers = {edge.call(method) for _ in range(5)}
        assert len(answers) == 1
        chosen[edge.client_id] = answers.pop()[0]
    assert set(chosen.values()) == {0, 1, 2}
    # the ID modulo the number of services tells them apart, in whatever order
    assert len({(edge_id % 3, service) for edge_id, service in chosen.items()}) == 3


@pytest.mark.differs("G7: the record goes after the goodbye")
def test_the_other_service_takes_over(ends: Ends) -> None:
    services = [ends.service("kind") for _ in range(2)]
    method = unique("which")
    for number, service in enumerate(services):
        service.register(method, data=bytes([number]))
    edge = ends.edge()
    first = edge.call(method)[0]
    services[first].close()
    assert edge.call(method) == bytes([1 - first])


def test_source_address_chooses_one_service(ends_of: ConnectTo, gateway_with: StartGateway) -> None:
    gateway = gateway_with(hashby="srcip")
    ends = ends_of(gateway)
    method = unique("which")
    for number in range(3):
        ends.service("kind").register(method, data=bytes([number]))
    assert len({ends.edge().call(method) for _ in range(6)}) == 1


def test_random_choice_uses_all_services(ends_of: ConnectTo, gateway_with: StartGateway) -> None:
    gateway = gateway_with(hashby="random")
    ends = ends_of(gateway)
    method = unique("which")
    for number in range(3):
        ends.service("kind").register(method, data=bytes([number]))
    edge = ends.edge()
    assert {edge.call(method) for _ in range(60)} == {b"\0", b"\1", b"\2"}


def test_hundred_edges_called_at_once(ends: Ends) -> None:
    service = ends.service("any")
    edges = [ends.edge() for _ in range(100)]
    method = unique("echo")
    for edge in edges:
        edge.register(method, echo=True)
    ids = [edge.client_id for edge in edges]
    assert len(set(ids)) == 100
    service.call_many(method, 2000, width=256, size=128, edge_ids=ids)


def _ids(way: Way) -> list[int]:
    return [way.callee.client_id] if way.down else []
