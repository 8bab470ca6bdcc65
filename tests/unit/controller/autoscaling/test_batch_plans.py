"""The plan while batches are open, with SCALING=queue and SCALING=rate."""

from dataclasses import replace

import pytest

from controller.autoscaling.observation import Counts, Observation, ObservedInstance
from controller.autoscaling.planner import BATCH_SECONDS, BUSY_SECONDS, MAX_NOT_READY, Policy, plan
from controller.autoscaling.rate_scaling import CalledFor
from controller.autoscaling.scaling import PAID_SECONDS
from controller.batches.load import BatchLoad

QUEUE = Policy(max_instances=5, max_images_per_instance=10, boot_timeout=300, silent_after=60)
RATE = replace(QUEUE, scaling="rate")
both = pytest.mark.parametrize("policy", [QUEUE, RATE], ids=["queue", "rate"])
LARGE = BatchLoad(1_000_000, False, None, None)
SPEED = {"images_per_second": 10.0, "full_speed": 10.0}


def seen(visible: int = 0) -> Counts:
    return Counts(visible, 0, 0, 0, 0, 0)


def there(count: int, **fields) -> tuple[ObservedInstance, ...]:
    return tuple(ObservedInstance(f"i-{n}", **{"age": 100.0, "ready": True, **fields}) for n in range(count))


def observed(*loads: BatchLoad, running: int = 0, **fields) -> Observation:
    defaults = {"counts": seen(), "instances": there(running), **SPEED}
    return Observation(now=1000.0, batches=loads, **(defaults | fields))


@both
def test_a_batch_calls_for_instances_although_no_image_is_in_the_queue(policy):
    made = plan(observed(LARGE, running=1), policy)
    assert (made.launch, made.wanted, made.called_for) == (3, 4, 4), "80% of 5, less the one that there is"
    assert made.reasons[0] == "1,000,000 images of a batch are left: that calls for 4 instances"
    assert made.next_run_in == BUSY_SECONDS


@both
def test_the_share_of_batches_is_at_least_one_instance(policy):
    assert plan(observed(LARGE), replace(policy, max_instances=1)).launch == 1
    assert plan(observed(LARGE), replace(policy, max_instances=5, batch_share=1)).launch == 1
    assert plan(observed(LARGE), replace(policy, max_instances=5, batch_share=100)).launch == 5


@both
def test_the_price_of_an_instance_decides_what_a_budget_pays_for(policy):
    load = BatchLoad(10_000, False, None, budget_left=1.2)
    assert plan(observed(load), replace(policy, dollars_per_hour=3.6)).launch == 3
    assert plan(observed(load), replace(policy, dollars_per_hour=4.0)).launch == 1


@both
def test_of_waiting_images_and_batches_whichever_calls_for_more_counts(policy):
    small = BatchLoad(10, False, None, None)
    waiting = 50 if policy is QUEUE else 12_000
    assert plan(observed(small, counts=seen(waiting)), policy).launch == 5
    made = plan(observed(LARGE, counts=seen(1)), policy)
    assert made.launch == 4
    assert made.reasons[0].startswith("1,000,000 images of a batch are left")
    assert made.reasons[1].startswith("1 image ")


@both
@pytest.mark.parametrize(
    ("seen_of", "launch"),
    [
        ({}, (4, True)),
        ({"counts": 1}, (1, None)),
        ({"counts": 1, "on_demand": 1}, (3, True)),
        ({"counts": 1, "spot": 4}, (0, None)),
        ({"on_demand": 3}, (1, True)),
        ({"unseen": 3}, (1, True)),
        ({"counts": 1, "unseen": 1}, (3, True)),
    ],
)
def test_a_batch_decides_the_market_of_the_instances_beyond_those_of_requests(policy, seen_of, launch):
    fleet = there(seen_of.get("on_demand", 0)) + there(seen_of.get("spot", 0), spot=True)
    counts, unseen = seen(seen_of.get("counts", 0)), seen_of.get("unseen", 0)
    made = plan(observed(replace(LARGE, spot=True), counts=counts, instances=fleet, unseen=unseen), policy)
    assert (made.launch, made.spot) == launch


@both
def test_an_instance_that_is_gone_is_replaced_by_one_of_its_market(policy):
    spot, on_demand = (
        BatchLoad(30_000, False, deadline=5000.0, budget_left=None, spot=wish) for wish in (True, False)
    )
    made = plan(observed(spot, on_demand), policy)
    assert (made.launch, made.spot) == (1, True)
    left = plan(observed(spot, on_demand, instances=there(1)), policy)
    assert (left.launch, left.spot) == (1, True)
    left = plan(observed(spot, on_demand, instances=there(1, spot=True)), policy)
    assert (left.launch, left.spot) == (1, False)


@both
def test_where_market_is_spot_a_batch_may_ask_for_on_demand_instances(policy):
    of_spot = replace(policy, spot=True)
    made = plan(observed(replace(LARGE, spot=False), counts=seen(1)), of_spot)
    assert (made.launch, made.spot) == (1, None)
    made = plan(observed(replace(LARGE, spot=False), counts=seen(1), instances=there(1, spot=True)), of_spot)
    assert (made.launch, made.spot) == (3, False)
    made = plan(observed(replace(LARGE, spot=True), counts=seen(1)), of_spot)
    assert made.launch == 4, "they are of one market, so one launch has them all"


@both
def test_a_batch_keeps_what_it_calls_for_however_quiet_the_queue_is(policy):
    made = plan(observed(LARGE, running=4, quiet=True), policy)
    assert (made.launch, made.terminate) == (0, ())


@both
def test_an_instance_that_nothing_calls_for_any_more_is_let_go_during_a_batch(policy):
    load = BatchLoad(50, False, None, None)
    assert plan(observed(load, running=3), policy).terminate == ("i-0", "i-1")
    young = observed(load, instances=there(3, age=PAID_SECONDS - 1))
    assert plan(young, policy).terminate == (), "their minute is paid for"
    lately = observed(load, running=3, called_for_lately=[3], levels=[CalledFor(1.0, 3)])
    assert plan(lately, policy).terminate == (), "they were called for a moment ago"
    needed = observed(load, running=3, unanswered={"a request": 20_000}, quiet=True)
    assert plan(needed, policy).terminate == (), "an open request needs them"


@both
def test_what_an_open_request_was_launched_for_is_not_let_go_during_a_batch(policy):
    fleet = (*there(1, request_id="open"), ObservedInstance("i-9", 100, True))
    one = observed(BatchLoad(50, False, None, None), instances=fleet, unanswered={"open": 3})
    assert plan(one, policy).terminate == ("i-9",)


@both
def test_while_the_instances_work_that_batches_call_for_the_next_run_is_later(policy):
    assert plan(observed(LARGE, running=4), policy).next_run_in == BATCH_SECONDS
    booting = there(3) + there(1, ready=False, age=5.0)
    assert plan(observed(LARGE, instances=booting), policy).next_run_in == BUSY_SECONDS
    assert plan(observed(LARGE, running=4, requests=1), policy).next_run_in == BUSY_SECONDS


@both
def test_when_batches_end_all_are_terminated(policy):
    assert plan(observed(running=3), policy).terminate == ("i-0", "i-1", "i-2")


@both
def test_while_a_batch_is_open_that_calls_for_nothing_the_next_run_is_soon(policy):
    made = plan(observed(BatchLoad(0, True, None, None)), policy)
    assert (made.launch, made.next_run_in) == (0, BUSY_SECONDS)
    made = plan(observed(BatchLoad(9, False, None, 0.0), running=2), policy)
    assert (made.launch, made.terminate, made.next_run_in) == (0, ("i-0", "i-1"), BUSY_SECONDS)
    assert made.reasons[0] == "9 images of a batch are left, but its budget is used up"


@both
def test_while_the_speed_is_unknown_a_batch_has_one_instance_and_ends_none(policy):
    unknown = {"images_per_second": None, "full_speed": None}
    assert plan(observed(LARGE, LARGE, **unknown), policy).launch == 2
    if policy is QUEUE:
        assert plan(observed(LARGE, running=3, **unknown), policy).terminate == ()


@both
def test_the_speed_of_workers_that_have_enough_to_do_is_enough_to_act_on(policy):
    assert plan(observed(LARGE, images_per_second=None), policy).launch == 4


@both
def test_a_deadline_may_have_the_whole_maximum(policy):
    late = BatchLoad(1_000_000, False, deadline=1500.0, budget_left=None)
    made = plan(observed(late), policy)
    assert made.launch == 5
    assert made.reasons[0].endswith("5 instances, and even the maximum of 5 will not make it")


@both
def test_instances_that_come_count(policy):
    assert plan(observed(LARGE, instances=there(1, ready=False, age=5.0), unseen=2), policy).launch == 1


@both
def test_batches_wait_for_the_next_try_to_launch(policy):
    made = plan(observed(LARGE, no_launch_before=1060.0), policy)
    assert (made.launch, made.fail, made.pause) == (0, "", "")
    assert made.reasons[-1] == "the next try to launch is at 00:17:40"
    assert plan(observed(LARGE, no_launch_before=1000.0), policy).launch == 4


@both
@pytest.mark.parametrize(
    ("trouble", "reason"),
    [
        ({"not_ready": ["i-1"] * MAX_NOT_READY}, "Workers fail to start: 3 in a row never got ready."),
        (
            {"cannot_launch": "Workers cannot be launched.", "no_launch_before": 1060.0},
            "Workers cannot be launched.",
        ),
        ({"given_up": "No worker comes.", "given_up_until": 1010.0}, "No worker comes. The next try is at"),
    ],
)
def test_when_no_worker_comes_launches_pause_and_nothing_is_answered_failed(policy, trouble, reason):
    made = plan(observed(LARGE, **trouble), policy)
    assert (made.launch, made.fail, made.next_run_in) == (0, "", BUSY_SECONDS)
    assert made.pause.startswith(reason)
    assert made.reasons[-1] == made.pause
    images_wait = plan(observed(LARGE, counts=seen(1), **trouble), policy)
    assert images_wait.fail.startswith(reason), "only images that somebody waits for are answered"
    assert images_wait.pause == ""


@both
def test_after_the_pause_a_batch_has_another_try(policy):
    assert plan(observed(LARGE, given_up="No worker comes.", given_up_until=999.0), policy).launch == 4
