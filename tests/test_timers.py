"""The process's timer: a wheel of slots on one ``callLater``."""

from time import process_time

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock

from frontier_tx.timers import BATCH, LOOK, RESOLUTION, TURN_SECONDS, Alarms, Wheel


class Item:
    def __init__(self) -> None:
        self.tick = 0
        self.fired: list[float] = []

    def fire(self, now: float) -> None:
        self.fired.append(now)


class Doing(Item):
    """Does something when it fires."""

    def __init__(self, what: object) -> None:
        super().__init__()
        self.what = what

    def fire(self, now: float) -> None:
        super().fire(now)
        assert callable(self.what)
        self.what()


TIMES = st.floats(0, 100, allow_nan=False)


@settings(max_examples=200)
@given(st.lists(TIMES, max_size=20), st.lists(TIMES, max_size=20))
def test_everything_fires_once_not_early_and_little_late(times: list[float], checks: list[float]) -> None:
    wheel = Wheel()
    due = [(when, Item()) for when in times]
    for when, item in due:
        wheel.schedule(item, when)
    for now in [*sorted(checks), 200.0]:
        for taken in wheel.take(now):
            assert isinstance(taken, Item)
            taken.fire(now)
        for when, item in due:
            assert (when <= now) or not item.fired
            assert (when > now - 2 * RESOLUTION) or item.fired
    assert all(len(item.fired) == 1 for _, item in due) and len(wheel) == 0
    assert wheel.next_due() is None


@settings(max_examples=100)
@given(st.lists(st.tuples(st.integers(0, 4), st.none() | TIMES), max_size=30))
def test_the_wheel_against_a_dictionary(steps: list[tuple[int, float | None]]) -> None:
    wheel = Wheel()
    items = [Item() for _ in range(5)]
    model: dict[int, float] = {}
    for number, when in steps:
        if when is None:
            wheel.cancel(items[number])
            model.pop(number, None)
        else:
            wheel.schedule(items[number], when)
            model[number] = when
        assert len(wheel) == len(model)
        soonest = wheel.next_due()
        assert (soonest is None) is (not model)
        assert soonest is None or min(model.values()) <= soonest <= min(model.values()) + 2 * RESOLUTION
    assert {items.index(item) for item in wheel.take(1000.0)} == set(model)  # type: ignore[arg-type]


def test_earlier_items_come_first_and_no_more_than_asked_for() -> None:
    wheel = Wheel()
    late, early, soon = Item(), Item(), Item()
    for item, when in ((late, 3.0), (early, 1.0), (soon, 2.0)):
        wheel.schedule(item, when)
    assert wheel.take(10.0, at_most=2) == [early, soon]
    assert wheel.take(10.0) == [late]


def test_one_call_later_for_any_number_of_items() -> None:
    clock = Clock()
    alarms = Alarms(clock)
    for at in range(50):
        alarms.schedule(Item(), 5.0 + at)
    assert len(clock.getDelayedCalls()) == 1
    early = Item()
    alarms.schedule(early, 1.0)
    assert [call.getTime() for call in clock.getDelayedCalls()] == [1.0]
    clock.advance(1.0)
    assert early.fired == [1.0]
    assert len(clock.getDelayedCalls()) == 1 and len(alarms) == 50


def test_nothing_is_called_when_all_is_cancelled_and_a_later_item_still_fires() -> None:
    clock = Clock()
    alarms = Alarms(clock)
    item = Item()
    alarms.schedule(item, 1.0)
    alarms.cancel(item)
    alarms.cancel(item)
    clock.advance(2.0)
    assert item.fired == [] and clock.getDelayedCalls() == []
    alarms.schedule(item, 3.0)
    clock.advance(1.0)
    assert item.fired == [3.0]


def test_moving_an_item_leaves_one_time() -> None:
    clock = Clock()
    alarms = Alarms(clock)
    item = Item()
    alarms.schedule(item, 1.0)
    alarms.schedule(item, 2.0)
    clock.advance(1.5)
    assert item.fired == []
    clock.advance(1.0)
    assert len(item.fired) == 1


def test_an_item_cancelled_by_one_before_it_does_not_fire() -> None:
    clock = Clock()
    alarms = Alarms(clock)
    second, third = Item(), Item()

    def meddle() -> None:
        alarms.cancel(second)
        alarms.schedule(third, 9.0)

    alarms.schedule(Doing(meddle), 1.0)
    alarms.schedule(second, 1.0)
    alarms.schedule(third, 1.0)
    clock.advance(1.0)
    assert second.fired == third.fired == []
    clock.advance(8.0)
    assert third.fired == [9.0] and len(alarms) == 0


def test_one_that_fails_does_not_stop_the_others() -> None:
    clock = Clock()
    alarms = Alarms(clock)
    after = Item()
    alarms.schedule(Doing(lambda: 1 / 0), 1.0)
    alarms.schedule(after, 1.0)
    clock.advance(1.0)
    assert after.fired == [1.0]


def test_an_item_that_is_always_due_does_not_hold_up_the_turn() -> None:
    clock = Clock()
    alarms = Alarms(clock)
    again = Doing(lambda: alarms.schedule(again, clock.seconds()))
    alarms.schedule(again, 1.0)
    clock.rightNow = 1.0
    (call,) = clock.getDelayedCalls()
    clock.calls.remove(call)
    call.called = 1
    call.func(*call.args, **call.kw)
    assert len(again.fired) == 1
    assert len(clock.getDelayedCalls()) == 1


def test_a_crowd_fires_over_several_turns() -> None:
    clock = Clock()
    alarms = Alarms(clock)
    items = [Item() for _ in range(BATCH + 5)]
    for item in items:
        alarms.schedule(item, 1.0)
    clock.rightNow = 1.0
    (call,) = clock.getDelayedCalls()
    clock.calls.remove(call)
    call.called = 1
    call.func(*call.args, **call.kw)
    assert sum(len(item.fired) for item in items) == BATCH
    clock.advance(0)
    assert all(len(item.fired) == 1 for item in items)


def test_taking_a_crowd_of_one_slot_costs_the_same_for_each() -> None:
    """A dictionary that is emptied from its front looks at every entry that was there, each time."""

    def seconds(count: int) -> float:
        wheel = Wheel()
        items = [Item() for _ in range(count)]
        for item in items:
            wheel.schedule(item, 1.0)
        began = process_time()
        while wheel.take(2.0, at_most=50):
            pass
        assert len(wheel) == 0
        return process_time() - began

    small = min(seconds(5_000) for _ in range(3))
    # Twenty times as many take some twenty times as long; taking from the front took four hundred times as long.
    assert min(seconds(100_000) for _ in range(2)) < 120 * small


def test_items_that_are_cancelled_scheduled_again_or_late_while_a_slot_is_taken() -> None:
    wheel = Wheel()
    items = [Item() for _ in range(6)]
    for item in items:
        wheel.schedule(item, 1.0)
    assert wheel.take(2.0, at_most=2) == items[:2]
    wheel.cancel(items[2])
    wheel.cancel(items[3])
    wheel.schedule(items[3], 1.0)
    wheel.schedule(items[0], 1.0)
    earlier = Item()
    wheel.schedule(earlier, 0.5)
    assert len(wheel) == 5
    assert wheel.take(2.0) == [earlier, items[4], items[5], items[3], items[0]]
    assert len(wheel) == 0 and wheel.next_due() is None


def test_a_turn_is_over_after_some_milliseconds_and_those_left_can_still_be_cancelled() -> None:
    clock = Clock()
    spent = [0.0]
    alarms = Alarms(clock, stopwatch=lambda: spent[0])

    def work() -> None:
        spent[0] += TURN_SECONDS / 10

    items = [Doing(work) for _ in range(5 * LOOK)]
    for item in items:
        alarms.schedule(item, 1.0)
    clock.rightNow = 1.0
    (call,) = clock.getDelayedCalls()
    clock.calls.remove(call)
    call.called = 1
    call.func(*call.args, **call.kw)
    fired = sum(len(item.fired) for item in items)
    assert 0 < fired <= LOOK + 10
    alarms.cancel(items[-1])
    alarms.schedule(items[-2], 5.0)
    for _ in range(10):
        clock.advance(0)
    assert [len(item.fired) for item in items] == [1] * (len(items) - 2) + [0, 0]
    clock.advance(4.0)
    assert len(items[-2].fired) == 1 and len(items[-1].fired) == 0


def test_time_zero_is_a_time_like_any_other() -> None:
    clock = Clock()
    alarms = Alarms(clock)
    item = Item()
    alarms.schedule(item, 0.0)
    alarms.schedule(item, 0.0)
    assert len(alarms) == 1
    clock.advance(RESOLUTION)
    assert len(item.fired) == 1


def test_stop_forgets_the_call_and_schedule_starts_anew() -> None:
    clock = Clock()
    alarms = Alarms(clock)
    first, second = Item(), Item()
    alarms.schedule(first, 1.0)
    alarms.stop()
    assert clock.getDelayedCalls() == []
    alarms.schedule(second, 2.0)
    clock.advance(2.0)
    assert first.fired and second.fired
