from collections import deque
from dataclasses import replace

import numpy as np
import pytest

from bench.simulate import KEDA, RATE, Row, policies, simulate, table, verdict
from bench.simulation import oracle
from bench.simulation.bill import CALLS_PER_IMAGE, IMAGE, INSTANCE_SECOND
from bench.simulation.ec2 import Ec2
from bench.simulation.luck import draw_work
from bench.simulation.others import hpa_instances, hpa_recommendation, plain_launches, tracked_instances
from bench.simulation.parameters import Parameters
from bench.simulation.sqs import Queue
from bench.simulation.traces import TRACES, Trace, generate, make_trace
from bench.simulation.world import Policy, World
from controller.autoscaling.scaling import (
    Sent,
    arriving_per_second,
    instances_for_rate,
    instances_to_terminate,
)

CHANCE = Parameters(maximum=20, quota=30, warm_pool=3).in_blocks(30)
CERTAIN = replace(CHANCE, speed_spread=0.0, boot_spread=0.0)
ALL = range(len(policies(Trace("one", np.array([0.0]), np.array([1]), 1.0), CERTAIN)))


def tiny(seed: int = 1) -> Trace:
    rate = np.concatenate([np.full(60, 10.0), np.zeros(240), np.full(120, 2.0)])
    return generate("tiny", rate, np.random.default_rng(seed))


@pytest.mark.parametrize("number", ALL)
def test_every_image_is_answered_once_or_still_in_the_queue(number: int) -> None:
    trace = tiny()
    policy = policies(trace, CHANCE)[number]
    world = World(trace, policy, CHANCE, seed=1)
    world.run()
    assert np.all(world.answered_at > trace.arrivals)
    assert np.count_nonzero(np.isfinite(world.answered_at)) == world.classified
    assert world.classified + world.queue.visible + world.queue.in_flight == trace.total
    # It looks only when requests come, so that nobody may come for what its last worker gave back.
    assert world.classified == trace.total or policy.name == "plain"
    assert not world.ec2.active


class TerminatesAtWork(Policy):
    interval = 7.0

    def look(self, world: World) -> None:
        world.terminate([i for i in world.ec2.active if i.hand])
        world.launch(3 - len(world.ec2.active))


def test_what_a_draining_worker_gives_back_is_answered_by_another() -> None:
    trace = tiny()
    world = World(trace, TerminatesAtWork(), CHANCE, seed=1)
    world.run()
    assert any(i.draining for i in world.ec2.ended)
    assert np.all(np.isfinite(world.answered_at))
    assert world.classified == trace.total


@pytest.mark.parametrize("number", ALL)
def test_the_seed_decides_everything(number: int) -> None:
    first, again, other = (
        simulate(tiny(seed), policies(tiny(seed), CHANCE)[number], CHANCE, seed) for seed in (1, 1, 2)
    )
    assert first == again
    assert first != other


@pytest.mark.parametrize("number", ALL)
def test_no_policy_is_cheaper_than_the_oracle(number: int) -> None:
    trace = tiny()
    row = simulate(trace, policies(trace, CERTAIN)[number], CERTAIN, seed=1)
    known = CERTAIN.started_warm()
    least = oracle.least_cost(trace, draw_work(trace, CERTAIN, 1), known, row.p95, row.until)
    assert 0 < least <= row.dollars / INSTANCE_SECOND


def test_the_oracle_boots_once_for_requests_that_come_close_together() -> None:
    trace = Trace("three", np.array([0.0, 10.0, 1000.0]), np.array([1, 1, 1]), 1100.0)
    # A minute for the first two and one for the third, less what lateness is worth: 5% of 3 images.
    assert oracle.presence(trace, CERTAIN, 5.0) == pytest.approx(60 + 60 - 0.15 * 60)
    apart = Trace("apart", np.array([0.0, 200.0, 1000.0]), np.array([1, 1, 1]), 1100.0)
    assert oracle.presence(apart, CERTAIN, 5.0) == pytest.approx(180 - 0.15 * 60)


def test_the_oracles_bill_grows_with_the_hurry() -> None:
    trace = tiny()
    work = draw_work(trace, CERTAIN, 1)
    costs = [oracle.flow(trace.arrivals, work, CERTAIN, within, trace.seconds) for within in (1, 60, 400)]
    assert costs == sorted(costs, reverse=True)
    assert costs[0] > costs[-1] >= work.sum() * 0.99


def test_ours_never_has_more_than_the_maximum() -> None:
    parameters = replace(CHANCE, maximum=3)
    trace = tiny()
    assert simulate(trace, policies(trace, parameters)[0], parameters, seed=1).most == 3


def test_ours_ends_all_when_the_queue_is_quiet() -> None:
    trace = Trace("one", np.array([1.0]), np.array([30]), 1000.0)
    row = simulate(trace, policies(trace, CERTAIN)[0], CERTAIN, seed=1)
    # Two instances: 5 s pending, 40 s of boot, three seconds of work: less than what is billed anyway.
    assert (row.launches, row.dollars) == (2, pytest.approx(120 * INSTANCE_SECOND))
    assert row.p95 == pytest.approx(CERTAIN.cold_seconds + 3)
    assert row.sizes[-1][0] < 60


def test_pending_is_not_billed_and_a_minute_is_billed_at_least() -> None:
    ec2 = Ec2(CERTAIN, seed=1)
    early, short, long = ec2.launch(3, now=0.0)
    ec2.end(early, now=4.0)
    ec2.end(short, now=20.0)
    ec2.end(long, now=112.0)
    assert ec2.billed() == 0 + 60 + 107


def test_a_stopped_instance_costs_its_disk_and_is_started_before_another_is_launched() -> None:
    ec2 = Ec2(CERTAIN, seed=1)
    (first,) = ec2.launch(1, now=0.0)
    ec2.stop(first, now=100.0)
    (too_early,) = ec2.launch(1, now=101.0)
    warm, cold = ec2.launch(2, now=200.0)
    ready = [i.ready - i.launched for i in (first, too_early, warm, cold)]
    assert ready == [45, 45, 29, 45]
    assert ec2.disk_seconds(300.0) == 100
    for instance in (too_early, warm, cold):
        ec2.end(instance, now=220.0)
    assert ec2.billed() == 95 + (220 - 106) + 60 + 60, "each start is billed for a minute at least"


def test_a_warm_pool_is_never_larger_than_it_should_be() -> None:
    trace = tiny()
    policy = policies(trace, CHANCE)[2]
    world = World(trace, policy, CHANCE, seed=1)
    world.run()
    assert policy.warm_pool == len(world.ec2.stopped) == 3
    assert np.all(np.isfinite(world.answered_at))


def test_blocks_of_images_take_as_much_work_as_their_images() -> None:
    blocks = Parameters().in_blocks(30)
    assert (blocks.images_per_second, blocks.images_per_instance) == (5, 20)
    assert (blocks.hand, blocks.batch) == (1, 1)
    assert Parameters().in_blocks(1) == Parameters()


def test_requests_are_priced_by_the_calls_that_were_counted() -> None:
    calls = sum(CALLS_PER_IMAGE["s3"].values())
    assert calls == pytest.approx(4.5)
    assert pytest.approx(12.75e-6, rel=0.01) == IMAGE, "as bench.bill adds them up"


def test_ec2_limits_what_it_launches() -> None:
    ec2 = Ec2(
        replace(CHANCE, quota=50, launch_bucket=8, launch_refill=2, shortfalls=((100, 200, 15),)), seed=1
    )
    assert [len(ec2.launch(10, now)) for now in (0.0, 1.0, 3.0)] == [8, 2, 4]
    assert len(ec2.launch(10, now=150.0)) == 1
    assert len(ec2.launch(100, now=250.0)) == 8
    assert len(ec2.launch(100, now=260.0)) == 8
    assert ec2.most == 31


def test_the_queues_counts_are_some_seconds_old() -> None:
    queue = Queue(lag=2.0)
    queue.sent = 12
    queue.remember(10.0)
    queue.receive(10)
    queue.remember(11.0)
    assert [queue.counts(now) for now in (11.9, 12.0, 13.0)] == [(0, 0), (12, 0), (2, 10)]


@pytest.mark.parametrize(
    ("visible", "running", "launches"),
    [(0, 0, 0), (1, 0, 1), (20, 0, 1), (21, 0, 2), (40, 2, 0), (9000, 2, 8)],
)
def test_plain(visible: int, running: int, launches: int) -> None:
    assert plain_launches(visible, running, images_per_instance=20, maximum=10) == launches


@pytest.mark.parametrize(
    ("metric", "in_service", "active", "desired"),
    [
        ([150, 150], 10, 10, 10),  # the alarm takes three datapoints
        ([150, 150, 150], 10, 10, 15),  # the example in AWS's documentation
        ([150, 150, 150], 10, 15, 15),  # those that boot count
        ([150, 90, 150], 10, 10, 10),
        ([900, 900, 900], 10, 10, 50),
        ([0] * 14, 10, 10, 10),
        ([0] * 15, 10, 10, 9),
        ([0] * 15, 10, 11, 11),  # not while any boots
        ([85] * 15, 30, 30, 27),
        ([88] * 15, 30, 30, 27),
        ([95] * 15, 30, 30, 30),
        ([0] * 15, 1, 1, 1),
    ],
)
def test_target_tracking(metric: list[float], in_service: int, active: int, desired: int) -> None:
    assert tracked_instances(deque(metric, maxlen=15), in_service, active, target=100, maximum=50) == desired


@pytest.mark.parametrize(
    ("messages", "active", "recommended"),
    [(0, 5, 1), (100, 5, 5), (109, 5, 5), (91, 5, 5), (111, 5, 6), (89, 5, 5), (79, 5, 4), (9000, 5, 50)],
)
def test_hpa_recommends(messages: int, active: int, recommended: int) -> None:
    assert hpa_recommendation(messages, active, target=20, maximum=50) == recommended


@pytest.mark.parametrize(
    ("recommended", "active", "highest", "instances"),
    [(50, 1, 50, 5), (50, 10, 50, 20), (12, 10, 12, 12), (2, 10, 8, 8), (2, 10, 2, 2), (10, 10, 30, 10)],
)
def test_hpa_goes_up_by_steps_and_down_to_the_highest_of_late(
    recommended: int, active: int, highest: int, instances: int
) -> None:
    assert hpa_instances(recommended, active, highest) == instances


@pytest.mark.parametrize(
    ("sent", "rate"),
    [
        ([], 0),
        ([Sent(5, 1, 1000)], 0),
        ([Sent(5, 1, 1000), Sent(2, 1, 20)], 2),
        ([Sent(20, 1, 7), Sent(10, 3, 60), Sent(1, 1, 40)], 5),
        ([Sent(200, 9, 900), Sent(100, 1, 7), Sent(1, 2, 50)], 0.5),
    ],
)
def test_the_rate_is_that_of_the_last_minutes_or_since_the_first_request(
    sent: list[Sent], rate: float
) -> None:
    assert arriving_per_second(sent) == rate


@pytest.mark.parametrize(
    ("arriving", "instances"), [(0, 0), (0.1, 1), (5, 2), (20, 5), (100, 22), (2500, 507)]
)
def test_a_rate_calls_for_the_busy_ones_and_some_spare(arriving: float, instances: int) -> None:
    assert instances_for_rate(arriving, images_per_second=5) == instances


@pytest.mark.parametrize(
    ("called_for_lately", "ages", "ends"),
    [
        ([2, 2], [900, 900, 900], 1),
        ([2, 3], [900, 900, 900], 0),
        ([0], [900, 80, 30], 2),
        ([0], [30, 30], 0),
        ([9], [900, 900], 0),
    ],
)
def test_only_those_end_whom_nobody_wanted_of_late_and_who_are_paid_for(
    called_for_lately: list[int], ages: list[float], ends: int
) -> None:
    assert instances_to_terminate(called_for_lately, ages) == ends


@pytest.mark.parametrize("name", [name for name in TRACES if name != "daily"])
def test_a_trace_is_what_it_says(name: str) -> None:
    trace = make_trace(name, seed=3)
    assert np.all(np.diff(trace.times) >= 0)
    assert trace.images.min() >= 1
    assert trace.times[-1] < trace.seconds
    assert trace.total == len(trace.arrivals) == trace.images_before(trace.seconds)


def test_a_flash_crowd_is_a_million_blocks_in_an_hour() -> None:
    trace = make_trace("flash", seed=3)
    assert trace.total == pytest.approx(1e6, rel=0.01)
    assert trace.peak_minute() > 50 * 5


def row(policy: str, dollars: float, p95: float) -> Row:
    return Row(policy, dollars, 2.0, 1.0, p95, 2, 3, 0, 500.0, [], oracle=1.0)


def test_the_table_says_what_a_policy_costs_and_how_long_people_wait() -> None:
    figures = table([row("other", 1.1, 9.0)]).splitlines()[1].split()
    assert figures == ["other", "$1.1000", "$2.0000", "$1.0000", "1.10", "1.00", "9.00", "2", "3", "0"]


def test_the_verdict_says_whether_the_goal_is_reached() -> None:
    reached = verdict("steady", [row(RATE, 1.1, 9.0), row(KEDA, 4.0, 18.0)])
    assert reached == (
        "rate, warm pool: within 1.15 times the oracle's cost (1.10); a p95 no worse than half of"
        " KEDA + HPA's (9.00 s, 9.00 s)"
    )
    missed = verdict("burst", [row(RATE, 2.1, 9.0), row(KEDA, 4.0, 17.0)])
    assert "not within 2 times" in missed
    assert "a p95 worse than half" in missed
    assert "2.10 times the oracle's cost" in verdict("trickle", [row(RATE, 2.1, 9.0), row(KEDA, 4.0, 17.0)])
