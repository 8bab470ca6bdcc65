"""SCALING=rate: its arithmetic, and what it guarantees whatever comes."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.autoscaling.demand import Demand
from controller.autoscaling.observation import Counts, Observation, ObservedInstance
from controller.autoscaling.planner import IDLE_SECONDS, Policy, plan
from controller.autoscaling.rate_scaling import (
    CLEARING_BOOTS,
    CalledFor,
    Load,
    arriving_now,
    held_instances,
    instances_for_load,
)
from controller.autoscaling.scaling import PAID_SECONDS, Sent

POLICY = Policy(
    max_instances=5, max_images_per_instance=10, boot_timeout=300, silent_after=60, scaling="rate"
)
BOOT = 40.0
STEP = 15.0  # seconds between two runs in the tests of the bound
PAID = int(PAID_SECONDS / STEP)


def seen(visible: int = 0) -> Counts:
    return Counts(visible, 0, 0, 0, 0, 0)


def instances(count: int, **fields: object) -> tuple[ObservedInstance, ...]:
    given = {"age": 100.0, "ready": True, **fields}
    return tuple(ObservedInstance(f"i-{n}", **given) for n in range(count))  # type: ignore[arg-type]


def load(backlog: int = 0, arriving: float = 0.0, ready: int = 0, booting: tuple[float, ...] = ()) -> Load:
    return Load(backlog, arriving, 5.0, BOOT, ready, booting)


@pytest.mark.parametrize(
    ("what", "wanted"),
    [
        (load(), 0),
        (load(1), 1),
        (load(1100), 1),  # 220 s of work, of which one does 160 in the four boots after its own
        (load(1300), 2),
        (load(16_000), 20),  # 3,200 s of work, in four boots
        (load(0, arriving=22.0, ready=5), 4),  # 4.4 busy: what is left over waits
        (load(300, arriving=22.0, ready=4), 5),  # and has become too much
        (load(0, arriving=50.0), 13),  # 10 busy, and 400 s of work come before the first is ready
        (load(0, arriving=50.0, ready=10), 10),
        (load(0, arriving=50.0, booting=(0.0,) * 10), 10),
        (load(0, arriving=50.0, booting=(BOOT,) * 10), 13),
        (load(400, ready=2), 1),  # two boots of work, which the two will have done
        (load(0, arriving=1.0), 0),
        (load(1, arriving=1.0), 1),
    ],
)
def test_a_load_calls_for_what_does_it_within_some_boots(what: Load, wanted: int) -> None:
    assert CLEARING_BOOTS == 4, "the numbers above are for this"
    assert instances_for_load(what) == wanted


@pytest.mark.parametrize(
    ("sent", "rate"),
    [
        ([], 0),
        ([Sent(5, 1, 10), Sent(2, 1, 20)], 2),
        ([Sent(float(age), 1, 10) for age in range(100, -1, -2)], 5),
        ([Sent(float(age), 1, 10) for age in range(100, 49, -2)], 250 / 100),  # 50 s ago; may be chance
        ([Sent(age / 10, 2, 10) for age in range(1000, 200, -1)], 0),  # it has ended
        ([Sent(100, 1, 1), *(Sent(age / 10, 10, 10) for age in range(100, 0, -1))], 100),  # it has begun
    ],
)
def test_the_rate_is_that_of_the_last_seconds_if_it_has_changed(sent: list[Sent], rate: float) -> None:
    assert arriving_now(sent) == pytest.approx(rate)


def test_what_was_called_for_is_held_for_as_long_as_a_boot_takes() -> None:
    called_for = [CalledFor(50, 9), CalledFor(39, 7), CalledFor(0, 2)]
    assert held_instances(called_for, BOOT) == 7
    assert held_instances([], BOOT) == 0


def test_nobody_is_terminated_in_a_minute_that_is_billed_anyway() -> None:
    observation = Observation(0, seen(), instances=instances(3, age=PAID_SECONDS - 1), boot_seconds=BOOT)
    assert plan(observation, POLICY).terminate == ()
    old = replace(observation, instances=instances(3, age=PAID_SECONDS))
    assert plan(old, POLICY).terminate == ("i-0", "i-1", "i-2")
    assert plan(replace(old, quiet=False), POLICY).terminate == (), "something may still come"
    assert plan(replace(old, levels=[CalledFor(39, 2)]), POLICY).terminate == ("i-0",)
    assert plan(replace(old, unanswered={"a": 1}), POLICY).terminate == ("i-0", "i-1")


def test_a_backlog_that_is_done_before_a_boot_ends_needs_no_launch() -> None:
    observation = Observation(0, seen(300), instances=instances(2), images_per_second=5.0, boot_seconds=BOOT)
    assert plan(observation, POLICY).launch == 0
    queue = replace(POLICY, scaling="queue")
    assert plan(observation, queue).launch == 3
    assert plan(replace(observation, images_per_second=None), POLICY).launch == 3, "the speed is unknown"


def test_the_speed_that_counts_is_that_of_a_worker_with_enough_to_do() -> None:
    observation = Observation(0, seen(4000), images_per_second=5.0, full_speed=100.0, boot_seconds=BOOT)
    assert plan(observation, POLICY).launch == 1
    assert plan(replace(observation, full_speed=None), POLICY).launch == POLICY.max_instances


@st.composite
def curves(draw: st.DrawFn) -> list[int]:
    """Draws how many instances are needed in each step, in runs of equal numbers."""
    runs = draw(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 14)), min_size=1, max_size=8))
    return [level for level, steps in runs for _ in range(steps)]


@settings(max_examples=300, deadline=None)
@given(curve=curves(), boot=st.integers(3, 10))
def test_idle_and_boots_cost_at_most_twice_what_they_cost_who_knows_the_future(
    curve: list[int], boot: int
) -> None:
    work = sum(curve)
    assert bill_of_plans(curve, boot) - work <= 2 * (least_bill(curve, boot) - work)


def bill_of_plans(curve: list[int], boot: int) -> int:
    """Returns what EC2 bills, in steps, when plans follow a curve of demand.

    A boot is billed for `boot` steps, and the instance then serves at once. Its speed is unknown, so that the
    backlog is the demand.
    """
    demand, ages, bill = Demand(), [], 0
    for step, needed in enumerate([*curve, *[0] * (boot + PAID)]):
        now = step * STEP
        fleet = [ObservedInstance(str(n), age * STEP, ready=True) for n, age in enumerate(ages)]
        observation = Observation(
            now, seen(needed * 10), instances=fleet, levels=demand.levels(now), boot_seconds=boot * STEP
        )
        made = plan(observation, POLICY)
        demand.note_called_for(made.called_for, now)
        bill += sum(max(PAID, ages[int(i)]) for i in made.terminate)
        ages = [age for n, age in enumerate(ages) if str(n) not in made.terminate] + [boot] * made.launch
        assert len(ages) >= needed
        ages = [age + 1 for age in ages]
    assert not ages
    return bill


def least_bill(curve: list[int], boot: int) -> int:
    """Returns the least that EC2 can bill for serving the curve, by trying every way.

    The state is how long ago each instance was launched; from the end of its minute on, all are alike. Before
    that nobody is let go, because it saves nothing.
    """
    costs = {(): 0}
    for needed in curve:
        after: dict[tuple[int, ...], int] = {}
        for ages, cost in costs.items():
            for left in let_go(ages):
                launched = [boot] * max(0, needed - len(left))
                price = cost + len(launched) * max(PAID, boot)
                price += sum(age >= PAID for age in [*left, *launched])
                state = tuple(sorted(min(PAID, age + 1) for age in [*left, *launched]))
                after[state] = min(price, after.get(state, price))
        costs = after
    return min(costs.values())


def let_go(ages: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    paid = sum(age >= PAID for age in ages)
    yield from (ages[: len(ages) - n] for n in range(paid + 1))


@settings(max_examples=200, deadline=None)
@given(
    arrivals=st.lists(st.tuples(st.integers(0, 400), st.floats(0.5, 90)), min_size=1, max_size=30),
    speed=st.none() | st.floats(0.2, 50),
    boot=st.floats(5, 120),
)
def test_whatever_comes_is_answered_and_then_the_fleet_goes(
    arrivals: list[tuple[int, float]], speed: float | None, boot: float
) -> None:
    demand, now, backlog, fleet = Demand(), 0.0, 0.0, list[float]()
    steps = [*arrivals, *[(0, 20.0)] * 2000]
    for images, seconds in steps:
        backlog += images
        demand.note_sent(min(1, images), images, now)
        observation = Observation(
            now,
            seen(-int(-backlog // 1)),
            instances=[ObservedInstance(str(at), now - at, ready=now - at >= boot) for at in fleet],
            arrivals=demand.arrivals(now),
            levels=demand.levels(now),
            images_per_second=speed,
            boot_seconds=boot,
        )
        made = plan(observation, POLICY)
        demand.note_called_for(made.called_for, now)
        fleet = [at for at in fleet if str(at) not in made.terminate]
        fleet += [now + n / 1e6 for n in range(made.launch)]
        assert fleet or backlog <= 0, "what waits has an instance"
        assert len(fleet) <= POLICY.max_instances
        done = sum(max(0.0, now + seconds - max(now, at + boot)) for at in fleet) * (speed or 1.0)
        backlog, now = max(0.0, backlog - done), now + seconds
        if not (fleet or backlog or images) and made.next_run_in == IDLE_SECONDS and now > 3000:
            break
    assert backlog == 0
    assert fleet == []
