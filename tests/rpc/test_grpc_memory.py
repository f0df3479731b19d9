"""Our gRPC client against our server in memory, under a clock of the test's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred

from frontier_tx.config.common import ControlPlaneLimits
from frontier_tx.rpc.engine import Http2Limits
from frontier_tx.rpc.grpc_client import NotSentError
from frontier_tx.rpc.grpc_client_call import ResponseStream
from frontier_tx.rpc.status import RpcError, Status
from tests.rpc.support import CONTRACT, WATCH, Memory, message, method, outcome

FRONTIER_OF = method("GetFrontierByEdge")
FRONTIERS = method("ListFrontiers")
SLOW = method("ListEdges")
EVENTS = method("Watch", WATCH)


@pytest.fixture
def memory() -> Memory:
    return Memory()


def read(stream: ResponseStream) -> tuple[list[Any], Deferred[None]]:
    """Read a stream to its end; gives the list that fills."""
    got: list[Any] = []

    async def run() -> None:
        async for item in stream:
            got.append(item)

    return got, Deferred.fromCoroutine(run())


def test_a_call(memory: Memory) -> None:
    client, pump = memory.client()
    answer = client.unary(FRONTIER_OF, FRONTIER_OF.request(edge_id=7), timeout=3)
    pump.flush()
    assert outcome(answer).fontier.frontier_id == "f7"
    (context,) = memory.handlers.contexts
    assert (context.via, context.deadline) == ("grpc", pytest.approx(3, abs=0.01))
    assert not client.streams
    assert (memory.table.calls, memory.factory.budget.held) == (0, 0)


@pytest.mark.parametrize(
    ("name", "status", "text"),
    [
        ("GetEdgeByID", Status.NOT_FOUND, "redis: nil"),
        ("GetServiceByID", Status.FAILED_PRECONDITION, "100 % näh\n"),
        ("GetEdgesCount", Status.INTERNAL, "unknown request error"),
        ("GetServicesCount", Status.INTERNAL, "unknown request error"),
    ],
)
def test_errors_keep_their_status_and_text(memory: Memory, name: str, status: Status, text: str) -> None:
    client, pump = memory.client()
    spec = method(name)
    answer = client.unary(spec, spec.request())
    pump.flush()
    error = outcome(answer)
    assert isinstance(error, RpcError)
    assert (error.status, error.message) == (status, text)


def test_answers_larger_than_any_window(memory: Memory) -> None:
    client, pump = memory.client()
    answers = [client.unary(FRONTIERS, FRONTIERS.request(count=1500, cursor=n)) for n in range(3)]
    pump.flush()
    for number, answer in enumerate(answers):
        assert len(outcome(answer).frontiers) == 1500
        assert outcome(answer).cursor == number


def test_requests_larger_than_any_window_but_not_than_the_limit(memory: Memory) -> None:
    client, pump = memory.client()
    spec = method("ListServices")
    fits = client.unary(FRONTIERS, FRONTIERS.request(frontier_ids=["x" * 400] * 10_000))
    pump.flush()
    assert outcome(fits) == message("ListFrontiersResponse", cursor=0)
    numbers = client.unary(spec, spec.request(service_ids=[2**63] * 400_000))
    pump.flush()
    assert outcome(numbers).cursor == 400_000
    many = client.unary(FRONTIERS, FRONTIERS.request(frontier_ids=["x"] * 50_000))
    pump.flush()
    assert (outcome(many).status, outcome(many).message) == (
        Status.INVALID_ARGUMENT,
        "the request holds more than 10500 values; ask for less at a time",
    )
    over = client.unary(spec, spec.request(service_ids=[2**63] * 500_000))
    pump.flush()
    assert outcome(over).status is Status.RESOURCE_EXHAUSTED
    assert "larger than max (5000005 vs. 4194304)" in outcome(over).message
    again = client.unary(FRONTIER_OF, FRONTIER_OF.request(edge_id=1))
    pump.flush()
    assert outcome(again).fontier.frontier_id == "f1"
    assert memory.factory.budget.held == 0


def test_memory_for_incomplete_requests_is_bounded_for_all_together() -> None:
    memory = Memory(ControlPlaneLimits(request_bytes=100_000))
    client, pump = memory.client()
    spec = method("ListServices")
    answer = client.unary(spec, spec.request(service_ids=[2**63] * 20_000))
    pump.flush()
    assert outcome(answer).status is Status.RESOURCE_EXHAUSTED
    assert memory.factory.budget.held == 0


def test_the_deadline_of_the_client_ends_both_sides(memory: Memory) -> None:
    client, pump = memory.client()
    answer = client.unary(SLOW, SLOW.request(), timeout=2)
    pump.flush()
    assert memory.table.calls == 1
    memory.clock.advance(1.9)
    assert isinstance(outcome(answer), Deferred)
    memory.clock.advance(0.11)
    assert outcome(client.unary(SLOW, SLOW.request(), timeout=0)).status is Status.DEADLINE_EXCEEDED
    pump.flush()
    assert (memory.handlers.cancelled, memory.table.calls) == (1, 0)


def test_the_deadline_of_the_server_ends_calls_without_one(memory: Memory) -> None:
    client, pump = memory.client()
    answer = client.unary(SLOW, SLOW.request())
    pump.flush()
    memory.clock.advance(memory.table.call_timeout)
    pump.flush()
    assert outcome(answer).status is Status.DEADLINE_EXCEEDED
    assert memory.handlers.cancelled == 1


def test_cancelling_ends_the_handler(memory: Memory) -> None:
    client, pump = memory.client()
    answer = client.unary(SLOW, SLOW.request())
    pump.flush()
    answer.cancel()
    pump.flush()
    assert isinstance(outcome(answer), CancelledError)
    assert (memory.handlers.cancelled, memory.table.calls) == (1, 0)


def test_a_lost_connection_ends_calls_on_both_sides(memory: Memory) -> None:
    client, pump = memory.client()
    answer = client.unary(SLOW, SLOW.request())
    stream = client.stream(EVENTS, EVENTS.request())
    got, done = read(stream)
    pump.flush()
    client.abort()
    pump.flush()
    assert outcome(answer).status is Status.UNAVAILABLE
    assert outcome(done).status is Status.UNAVAILABLE
    assert len(got) == 3
    assert (memory.handlers.cancelled, memory.handlers.stopped) == (1, 1)
    assert outcome(client.closed) is None
    assert (memory.factory.connections, memory.table.streams) == (0, 0)
    assert isinstance(outcome(client.unary(SLOW, SLOW.request())), NotSentError)


def test_too_many_calls_are_refused() -> None:
    memory = Memory(max_calls=2)
    client, pump = memory.client()
    answers = [client.unary(SLOW, SLOW.request()) for _ in range(3)]
    pump.flush()
    assert [isinstance(outcome(answer), Deferred) for answer in answers] == [True, True, False]
    assert outcome(answers[2]).status is Status.RESOURCE_EXHAUSTED
    for waiter in memory.handlers.waiting:
        waiter.callback(None)
    pump.flush()
    assert memory.table.calls == 0


def test_a_stream(memory: Memory) -> None:
    client, pump = memory.client()
    stream = client.stream(EVENTS, EVENTS.request(services=True))
    started = Deferred.fromCoroutine(stream.started())
    pump.flush()
    assert outcome(started) is None
    got, done = read(stream)
    assert [event.edge_id for event in got] == [0, 1, 2]
    assert (outcome(done).status, outcome(done).message) == (Status.ABORTED, "enough")


def test_a_stream_is_sent_no_faster_than_it_is_read(memory: Memory) -> None:
    memory.handlers.events = 5000
    client, pump = memory.client(Http2Limits(stream_window=65_536))
    stream = client.stream(EVENTS, EVENTS.request())

    def settle() -> None:
        for _ in range(100):
            pump.flush()
            memory.clock.advance(0)

    settle()
    held = memory.handlers.sent
    assert held < 400
    other = client.unary(FRONTIER_OF, FRONTIER_OF.request(edge_id=1))
    pump.flush()
    assert outcome(other).fontier.frontier_id == "f1"
    got, done = read(stream)
    settle()
    assert [event.edge_id for event in got] == list(range(5000))
    stream.cancel()
    settle()
    assert outcome(done).status is Status.CANCELLED
    assert memory.handlers.stopped == 1


def test_a_stream_that_nobody_reads_is_ended(memory: Memory) -> None:
    memory.handlers.events = 5000
    client, pump = memory.client(Http2Limits(stream_window=65_536))
    client.stream(EVENTS, EVENTS.request())
    pump.flush()
    assert memory.handlers.stopped == 0
    for _ in range(31):
        memory.clock.advance(1)
        pump.flush()
    assert memory.handlers.stopped == 1
    assert memory.table.streams == 0


def test_health_changes_are_told(memory: Memory) -> None:
    client, pump = memory.client()
    check = CONTRACT.method("grpc.health.v1.Health", "Check")
    watch = CONTRACT.method("grpc.health.v1.Health", "Watch")
    got, done = read(client.stream(watch, watch.request()))
    named, _ = read(client.stream(watch, watch.request(service="x")))
    pump.flush()
    memory.serving.set(False)
    pump.flush()
    now = client.unary(check, check.request())
    refused = client.unary(check, check.request(service="controlplane.ClusterService"))
    pump.flush()
    assert [item.status for item in got] == [1, 2]
    assert [item.status for item in named] == [3]
    assert outcome(now).status == 2
    assert (outcome(refused).status, outcome(refused).message) == (Status.NOT_FOUND, "unknown service")
    client.close()
    pump.flush()
    assert outcome(done).status is Status.CANCELLED
    assert memory.table.streams == 0


def test_an_orderly_end_lets_calls_finish(memory: Memory) -> None:
    client, pump = memory.client()
    running = client.unary(SLOW, SLOW.request())
    got, done = read(client.stream(EVENTS, EVENTS.request()))
    pump.flush()
    drained = memory.factory.drain(10)
    pump.flush()
    assert not client.usable
    assert isinstance(outcome(client.unary(FRONTIER_OF, FRONTIER_OF.request())), NotSentError)
    memory.handlers.waiting[0].callback(None)
    pump.flush()
    assert outcome(running) == message("ListEdgesResponse")
    assert isinstance(outcome(drained), Deferred)
    memory.clock.advance(10)
    pump.flush()
    assert outcome(done).status is Status.UNAVAILABLE
    assert "shutting down" in outcome(done).message
    assert len(got) == 3
    assert outcome(drained) is None
    assert memory.factory.connections == 0
    late = memory.raw()
    assert late.over


def test_an_idle_connection_is_ended_by_the_server(memory: Memory) -> None:
    client, pump = memory.client()
    for _ in range(33):
        memory.clock.advance(10)
        pump.flush()
    assert outcome(client.closed) is None
    assert memory.factory.connections == 0


def test_a_dead_client_with_a_stream_is_found_out(memory: Memory) -> None:
    client, pump = memory.client()
    client.stream(EVENTS, EVENTS.request())
    pump.flush()
    for _ in range(12):
        memory.clock.advance(10)
    pump.flush()
    assert (memory.handlers.stopped, memory.table.streams) == (1, 0)


def test_a_living_client_with_a_quiet_stream_is_kept(memory: Memory) -> None:
    client, pump = memory.client()
    client.stream(EVENTS, EVENTS.request())
    for _ in range(60):
        memory.clock.advance(10)
        pump.flush()
    assert memory.table.streams == 1
    client.close()
    pump.flush()


def test_answers_interleave(memory: Memory) -> None:
    client, pump = memory.client()
    order: list[str] = []

    def note(name: str) -> Callable[[Any], None]:
        return lambda _: order.append(name)

    client.unary(FRONTIERS, FRONTIERS.request(count=3000)).addCallback(note("long"))
    client.unary(FRONTIER_OF, FRONTIER_OF.request(edge_id=1)).addCallback(note("short"))
    pump.flush()
    assert order == ["short", "long"]
