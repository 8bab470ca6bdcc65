"""How many instances batches call for."""

from dataclasses import replace

import pytest

from controller.autoscaling.batch_demand import STAY_SECONDS, Means, demand_of_batches
from controller.batches.load import BatchLoad

MEANS = Means(
    now=1000.0,
    images_per_second=10.0,
    boot_seconds=100.0,
    dollars_per_hour=3.6,
    until_ready=(),
    maximum=10,
    share=8,
)
"""An instance does 10 images a second, and costs $0.001 a second."""


def batch(images: int, *, seconds: float | None = None, budget: float | None = None) -> BatchLoad:
    """A batch that should be done within `seconds`, for `budget` dollars."""
    return BatchLoad(images, False, None if seconds is None else MEANS.now + seconds, budget)


def instances(*loads: BatchLoad, **changes) -> int:
    return demand_of_batches(loads, replace(MEANS, **changes)).instances


def why(*loads: BatchLoad, **changes) -> str:
    return "; ".join(demand_of_batches(loads, replace(MEANS, **changes)).reasons)


@pytest.mark.parametrize("budget", [1e300, 1e308])
def test_a_budget_beyond_all_reckoning_limits_nothing(budget):
    assert instances(batch(1_000_000, budget=budget)) == 10
    assert instances(batch(10**300, seconds=3600, budget=budget)) == 10


def test_no_batches_call_for_nothing():
    assert demand_of_batches([], MEANS).instances == 0
    assert demand_of_batches([BatchLoad(0, True, None, None)], MEANS).reasons == (), "none is listed yet"


@pytest.mark.parametrize(
    ("images", "called_for"),
    [(1, 1), (1000, 1), (1999, 1), (2000, 2), (7999, 7), (8000, 8), (1_000_000, 8)],
)
def test_each_instance_has_at_least_as_much_to_do_as_a_boot_takes_up_to_the_share(images, called_for):
    assert instances(batch(images)) == called_for


def test_each_instance_has_enough_to_do_for_what_ec2_bills_anyway():
    assert instances(batch(1499), boot_seconds=10) == 1, "75 s"
    assert instances(batch(1500), boot_seconds=10) == 2


def test_instances_that_there_are_stay_until_little_is_left():
    there = (0.0,) * 4
    assert instances(batch(1000), until_ready=there) == 4, "they need no boot"
    assert instances(batch(int(4 * STAY_SECONDS * 10)), until_ready=there) == 4
    assert instances(batch(int(2 * STAY_SECONDS * 10)), until_ready=there) == 2
    assert instances(batch(1), until_ready=there) == 1
    assert instances(batch(10_000), until_ready=(0.0,) * 10) == 8, "the share"


def test_each_batch_with_a_deadline_or_a_budget_asks_for_its_market():
    loads = [
        replace(batch(3000, seconds=200), spot=True),
        replace(batch(1000, seconds=200), spot=False),
        batch(1, budget=1.0),
    ]
    demand = demand_of_batches(loads, MEANS)
    assert demand.spot == (True, True, True, False, None)
    assert "that calls for 3 spot instances" in demand.reasons[0]
    assert "that calls for 1 on-demand instance" in demand.reasons[1]


@pytest.mark.parametrize(
    ("wishes", "wish"),
    [
        ([None, None], None),
        ([None, True], True),
        ([None, False], False),
        ([True, True], True),
        ([True, False], False),
    ],
)
def test_batches_that_share_have_on_demand_instances_if_one_of_them_asks_for_these(wishes, wish):
    loads = [replace(batch(1000), spot=one) for one in wishes]
    assert demand_of_batches(loads, MEANS).spot == (wish, wish)


def test_while_a_batch_is_listed_there_are_at_least_so_many_images():
    assert why(replace(batch(2000), listing=True)).startswith("at least 2,000 images of a batch are left")


def test_batches_with_neither_deadline_nor_budget_share():
    assert instances(batch(1000), batch(1000), batch(2000)) == 4
    assert instances(batch(100_000), batch(100_000)) == 8
    assert why(batch(700), batch(500)) == "1,200 images of 2 batches are left: that calls for 1 instance"


@pytest.mark.parametrize(
    ("images", "seconds", "called_for"),
    [(1000, 200, 1), (1001, 200, 2), (3000, 200, 3), (3000, 400, 1), (36_000, 3700, 1), (10_000, 200, 10)],
)
def test_a_deadline_calls_for_as_many_as_make_it_and_no_more(images, seconds, called_for):
    """The first 100 seconds are those of the boot."""
    assert instances(batch(images, seconds=seconds)) == called_for


def test_what_instances_do_that_there_are_already_needs_no_boot():
    assert instances(batch(4000, seconds=200), until_ready=(0.0, 0.0)) == 2
    assert instances(batch(4001, seconds=200), until_ready=(0.0, 0.0)) == 3
    assert instances(batch(3500, seconds=200), until_ready=(50.0, 0.0)) == 2, "one is half booted"
    assert instances(batch(500, seconds=50), until_ready=(0.0, 0.0)) == 1, "one makes it"


def test_the_reason_says_by_when_a_batch_is_to_be_done():
    assert why(batch(1200, seconds=200)) == (
        "1,200 images of a batch are left, to be done by 01 Jan 00:20:00 UTC: that calls for 2 instances"
    )


@pytest.mark.parametrize("seconds", [200, 100, 10, -5])
def test_the_reason_says_so_when_even_the_maximum_will_not_make_the_deadline(seconds):
    load = batch(20_000, seconds=seconds)
    assert instances(load) == 10
    assert why(load).endswith("10 instances, and even the maximum of 10 will not make it")


def test_what_is_late_anyway_calls_for_no_instance_that_would_have_nothing_left_to_do():
    assert instances(batch(100, seconds=50)) == 1
    assert instances(batch(500, seconds=-1), until_ready=(0.0, 0.0)) == 2


@pytest.mark.parametrize(
    ("budget", "called_for"),
    [(0.001, 1), (1.0, 1), (1.19, 1), (1.21, 2), (1.31, 3), (1.91, 9), (100.0, 10)],
)
def test_a_budget_calls_for_as_many_as_it_pays_for(budget, called_for):
    """The work costs $1, and a boot $0.10."""
    assert instances(batch(10_000, budget=budget)) == called_for


def test_a_large_budget_calls_for_no_instance_that_would_have_nothing_left_to_do():
    assert instances(batch(2500, budget=1000.0)) == 2


def test_the_boots_of_instances_that_there_are_are_paid_for():
    assert instances(batch(10_000, budget=1.01), until_ready=(0.0,) * 3) == 3
    assert instances(batch(10_000, budget=1.1), until_ready=(0.0,) * 3) == 4
    assert instances(batch(10_000, budget=1.1), until_ready=(100.0,)) == 1, "its own boot is yet to come"


def test_instances_that_cost_nothing_are_limited_by_the_work_alone():
    assert instances(batch(5000, budget=0.01), dollars_per_hour=0.0) == 5


def test_a_batch_whose_budget_is_used_up_calls_for_nothing():
    assert instances(batch(10_000, budget=0.0), until_ready=(0.0,)) == 0
    assert why(batch(10_000, budget=-0.1)) == ("10,000 images of a batch are left, but its budget is used up")


def test_the_reason_says_what_a_batch_may_still_cost():
    assert why(batch(1, budget=0.5)) == (
        "1 image of a batch is left, for at most $0.50: that calls for 1 instance"
    )


def test_of_a_deadline_and_a_budget_the_stricter_one_counts():
    assert instances(batch(3000, seconds=200, budget=100.0)) == 3
    load = batch(3000, seconds=200, budget=0.5)
    assert instances(load) == 2
    assert why(load).endswith("2 instances, which is all that the budget pays for, and too few to make it")


def test_while_the_speed_of_a_worker_is_unknown_each_batch_calls_for_one_instance():
    loads = batch(100_000), batch(100_000, seconds=200), batch(100_000, budget=5.0)
    assert instances(*loads, images_per_second=None) == 3
    assert instances(*loads, images_per_second=None, maximum=2, share=1) == 2
    assert "the speed of a worker is not known yet: that calls for 1 instance" in why(
        loads[1], images_per_second=None
    )


def test_what_one_batch_needs_is_not_there_for_the_next():
    first, second = batch(3000, seconds=200), batch(2000, seconds=300)
    assert instances(first) == 3
    assert instances(second) == 1
    assert instances(first, second) == 4
    assert instances(second, first, until_ready=(0.0, 0.0)) == 3, "two make the first, and a third the second"


def test_all_batches_together_call_for_no_more_than_the_maximum():
    assert instances(batch(9000, seconds=200), batch(9000, budget=100.0), batch(9000)) == 10
