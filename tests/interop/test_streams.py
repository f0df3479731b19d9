"""Streams between Go edges and Go services, opened from either side."""

from __future__ import annotations

from concurrent.futures import FIRST_COMPLETED, wait
from dataclasses import dataclass

import pytest

from tests.interop.ends import End, Ends, Stream, fails, unique
from tests.interop.python_driver import PythonDriver

pytestmark = pytest.mark.timeout(20)


@dataclass(frozen=True)
class Pair:
    """A stream seen from the end that opened it and from the one that accepted it."""

    opener: End
    acceptor: End
    peer: str
    near: Stream
    far: Stream

    def another(self) -> tuple[Stream, Stream]:
        return joined(self.opener, self.acceptor, self.peer)


def joined(opener: End, acceptor: End, peer: str, meta: bytes | None = None) -> tuple[Stream, Stream]:
    near = opener.open(peer, meta)
    far = acceptor.accept()
    return near, far


@pytest.fixture(params=["opened_by_service", "opened_by_edge"])
def pair(request: pytest.FixtureRequest, paired: Ends) -> Pair:
    name = unique("service")
    edge, service = paired.edge(), paired.service(name)
    if request.param == "opened_by_service":
        opener, acceptor, peer = service, edge, str(edge.client_id)
    else:
        opener, acceptor, peer = edge, service, name
    near, far = joined(opener, acceptor, peer)
    return Pair(opener, acceptor, peer, near, far)


@pytest.fixture(params=["near_first", "far_first"])
def sides(request: pytest.FixtureRequest, pair: Pair) -> tuple[Stream, Stream]:
    """The two sides in both orders, for what must work from either."""
    return (pair.near, pair.far) if request.param == "near_first" else (pair.far, pair.near)


def test_bytes_cross(sides: tuple[Stream, Stream]) -> None:
    one, other = sides
    one.write(b"hello")
    assert other.read(5) == b"hello"
    other.write(b"\x00\xffback")
    assert one.read(6) == b"\x00\xffback"


def test_megabytes_cross_both_ways_at_once(pair: Pair) -> None:
    near, far = pair.near, pair.far
    reads = [far.start_read_bulk(256, 32768, 15), near.start_read_bulk(256, 32768, 15)]
    writes = [near.start_write_bulk(256, 32768, 1), far.start_write_bulk(256, 32768, 2)]
    sent = [future.result(15)["sha256"] for future in writes]
    assert [future.result(15)["sha256"] for future in reads] == sent


def test_large_single_write(sides: tuple[Stream, Stream]) -> None:
    one, other = sides
    reading = other.start_read_bulk(1, 8_000_000, 15)
    sent = one.start_write_bulk(1, 8_000_000, 3).result(15)["sha256"]
    assert reading.result(15)["sha256"] == sent


def test_many_small_writes_keep_their_order(sides: tuple[Stream, Stream]) -> None:
    one, other = sides
    reading = other.start_read_bulk(5000, 7, 15)
    sent = one.start_write_bulk(5000, 7, 4).result(15)["sha256"]
    assert reading.result(15)["sha256"] == sent


def test_close_ends_the_other_side(sides: tuple[Stream, Stream]) -> None:
    one, other = sides
    one.close()
    assert other.ended()


def test_what_was_written_before_the_close_arrives(sides: tuple[Stream, Stream]) -> None:
    one, other = sides
    sent = one.start_write_bulk(20, 5000, 5).result(5)["sha256"]
    one.close()
    assert other.start_read_bulk(20, 5000, 5).result(10)["sha256"] == sent
    assert other.ended()


def test_close_from_both_sides_at_once(pair: Pair) -> None:
    futures = [stream.driver.submit("close", name=stream.name) for stream in (pair.near, pair.far)]
    for future in futures:
        future.result(5)
    near, far = pair.another()
    near.write(b"new")
    assert far.read(3) == b"new"


def test_closed_streams_are_forgotten_on_both_ends(pair: Pair) -> None:
    assert (pair.opener.streams(), pair.acceptor.streams()) == (1, 1)
    pair.far.close()
    assert pair.near.ended()
    assert (pair.opener.streams(), pair.acceptor.streams()) == (0, 0)


def test_streams_do_not_mix(pair: Pair) -> None:
    pairs = [pair.another() for _ in range(20)]
    reads = [far.start_read_bulk(10, 10_000, 10) for _, far in pairs]
    writes = [near.start_write_bulk(10, 10_000, seed) for seed, (near, _) in enumerate(pairs)]
    sent = [future.result(10)["sha256"] for future in writes]
    assert len(set(sent)) == 20
    assert [future.result(10)["sha256"] for future in reads] == sent


def test_one_stream_that_nobody_reads_delays_no_other(pair: Pair) -> None:
    """As little is written to the unread stream as fits into the queues of the library that reads."""
    unread, _ = pair.another()
    unread.start_write_bulk(30, 1000, 6).result(5)
    pair.near.write(b"hello")
    assert pair.far.read(5) == b"hello"


def test_message_on_a_stream(sides: tuple[Stream, Stream]) -> None:
    one, other = sides
    publishing = one.start_publish(b"news", topic="t", custom=b"mine")
    message = other.receive()
    assert (message.data, message.topic, message.custom) == (b"news", "t", b"mine")
    assert not publishing.done()
    message.done()
    publishing.result(5)


def test_refused_message_on_a_stream(sides: tuple[Stream, Stream]) -> None:
    one, other = sides
    publishing = one.start_publish(b"news")
    other.receive().refuse("not now")
    with fails("not now"):
        publishing.result(5)


@pytest.mark.differs("G15: a refusal ends the messages of a stream")
def test_messages_go_on_after_a_refusal(sides: tuple[Stream, Stream]) -> None:
    one, other = sides
    publishing = one.start_publish(b"first")
    other.receive().refuse("not now")
    with fails("not now"):
        publishing.result(5)
    publishing = one.start_publish(b"second")
    other.receive().done()
    publishing.result(5)


def test_messages_on_a_stream_keep_their_order(sides: tuple[Stream, Stream]) -> None:
    one, other = sides
    other.drain()
    publishing = one.start_publish_many(500)
    assert other.drained(500) == [str(number) for number in range(500)]
    publishing.result(5)


def test_call_on_a_stream(sides: tuple[Stream, Stream]) -> None:
    one, other = sides
    other.register("echo", echo=True)
    assert one.call("echo", b"hello", custom=b"mine") == b"hello"
    assert other.seen("echo")[0].custom == b"mine"


def test_calls_on_a_stream_fail_with_their_text(sides: tuple[Stream, Stream]) -> None:
    one, other = sides
    other.register("refuse", error="not now")
    with fails("not now"):
        one.call("refuse")
    with fails("no such rpc: nothing"):
        one.call("nothing")


def test_methods_of_an_end_are_not_those_of_its_streams(pair: Pair) -> None:
    method = unique("own")
    pair.acceptor.register(method, echo=True)
    with fails(f"no such rpc: {method}"):
        pair.near.call(method)


def test_hundred_calls_under_way_on_a_stream(sides: tuple[Stream, Stream]) -> None:
    one, other = sides
    other.register("echo", echo=True, sleep_ms=50)
    assert one.call_many("echo", 300, width=100, size=50) < 3


def test_cancel_on_a_stream_reaches_the_handler(sides: tuple[Stream, Stream]) -> None:
    one, other = sides
    other.register("hang", until_done=True)
    with fails("context canceled"):
        one.call("hang", cancel_ms=150)
    assert other.seen("hang", ended=True)[0].ended == "context canceled"


@pytest.mark.differs("it says EOF or closes late")
def test_call_pending_on_a_closed_stream_fails(sides: tuple[Stream, Stream]) -> None:
    one, other = sides
    other.register("hang", sleep_ms=3000)
    calling = one.start_call("hang")
    other.seen("hang")
    other.close()
    with fails("force closed"):
        calling.result(2.5)


@pytest.mark.parametrize("lost", ["opener", "acceptor"])
def test_lost_connection_ends_the_streams(pair: Pair, lost: str) -> None:
    if lost == "opener":
        pair.opener.cut()
        left = pair.far
    else:
        pair.acceptor.cut()
        left = pair.near
    if isinstance(left.driver, PythonDriver):
        # It knows that this is not all that was to come; a Go end does not.
        with fails("force closed"):
            left.read(1)
    else:
        assert left.ended()


@pytest.mark.differs("G5: its Dismiss is lost at Go openers")
@pytest.mark.parametrize("peer", ["4242", "nobody", "", "-1", "99999999999999999999999"])
def test_service_opens_to_nobody(ends: Ends, peer: str) -> None:
    service = ends.service(unique("service"))
    assert service.open(peer).ended()


@pytest.mark.differs("G5: it hangs")
@pytest.mark.parametrize("peer", ["no-such-service", ""])
def test_edge_opens_to_nobody(ends: Ends, peer: str) -> None:
    assert ends.edge().open(peer).ended()


@pytest.mark.differs("it passes no meta on")
@pytest.mark.parametrize("opener", ["service", "edge"])
def test_meta_reaches_the_acceptor(ends: Ends, opener: str) -> None:
    name = unique("service")
    edge, service = ends.edge(), ends.service(name)
    if opener == "service":
        _, far = joined(service, edge, str(edge.client_id), b"\x00meta")
    else:
        _, far = joined(edge, service, name, b"\x00meta")
    assert far.meta == b"\x00meta"


def test_stream_reaches_one_of_several_services_of_a_name(ends: Ends) -> None:
    name = unique("service")
    services = [ends.service(name) for _ in range(2)]
    edge = ends.edge()
    near = edge.open(name)
    near.write(b"hello")
    accepting = [service.driver.submit("accept", name=service.name, as_=unique("s")) for service in services]
    wait(accepting, timeout=5, return_when=FIRST_COMPLETED)
    assert sum(future.done() for future in accepting) == 1
    # a Go end that still accepts takes its time over a goodbye
    for service in services:
        service.cut()
