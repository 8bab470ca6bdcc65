"""Processes that die, or outlive their lease, while they stop or start instances of the warm pool."""

from collections import Counter

import pytest

from controller.autoscaling.autoscaler import TOO_LATE
from controller.autoscaling.shared_state import LEASE_SECONDS
from controller.autoscaling.warm_pool import LONGEST_STOPPED
from tests.support.world import PER_INSTANCE, World


@pytest.fixture
def die_at_the_end_of_a_run(aws, on_call):
    """Runs the autoscaler of the first controller, which dies when it writes what it has done."""

    def run(world: World) -> None:
        writes = Counter()

        def die(params):
            writes[params["Key"]] += 1
            if writes["fleet/state"] == 2:
                raise KeyboardInterrupt

        on_call(aws.s3, "PutObject", die)
        with pytest.raises(KeyboardInterrupt):
            world.controllers[0].autoscaler.reconcile()

    return run


def test_a_process_that_dies_after_a_stop_leaves_a_pool_that_the_next_one_knows(
    world, burst, launches, die_at_the_end_of_a_run, s3_clock
):
    (instance_id,) = burst(world)
    die_at_the_end_of_a_run(world)
    assert world.ids("stopped") == [instance_id]
    s3_clock.ahead = LEASE_SECONDS + 2
    survivor = world.controller()
    survivor.reconcile()
    assert world.shared.peek().not_ready == []
    world.ask(1, survivor)
    survivor.reconcile()
    assert world.active == [instance_id]
    assert launches == [1]


def test_a_process_that_dies_after_a_start_leaves_an_instance_that_counts(
    world, stopped, launches, die_at_the_end_of_a_run, s3_clock
):
    world.ask(1)
    die_at_the_end_of_a_run(world)
    assert world.active == [stopped]
    s3_clock.ahead = LEASE_SECONDS + 2
    survivor = world.controller()
    survivor.reconcile()
    state = world.shared.peek()
    assert state.launched[stopped].started
    assert state.stopped == {}
    assert (launches, world.active) == ([], [stopped])


@pytest.mark.parametrize("what", ["stop", "start", "reap"])
def test_a_run_that_outlives_its_lease_neither_stops_nor_starts(world, burst, stopped, aws, on_reply, what):
    before = []
    if what == "stop":
        before = burst(world)
    elif what == "start":
        world.ask(1)
    else:
        world.pass_seconds(LONGEST_STOPPED.total_seconds() + 1)
    controller = world.controllers[0]

    def be_slow(reply):
        controller.clock += LEASE_SECONDS

    on_reply(aws.ec2, "DescribeInstances", be_slow)
    controller.autoscaler.reconcile()
    assert world.active == before
    assert world.ids("terminated") == []
    assert TOO_LATE in world.why


def test_a_launch_does_not_follow_a_start_that_took_too_long(world, stopped, launches, aws, on_reply):
    controller = world.controllers[0]

    def be_slow(reply):
        controller.clock += LEASE_SECONDS

    on_reply(aws.ec2, "StartInstances", be_slow)
    world.ask(2 * PER_INSTANCE)
    controller.autoscaler.reconcile()
    assert world.active == [stopped]
    assert launches == []
    assert TOO_LATE in world.why


def test_deaths_between_any_two_calls_leave_nothing_that_runs_for_nobody(
    make_world, burst, work, aws, on_call, s3_clock
):
    """A process dies at its first call, the next one at its second, and so on, around a stop and a start."""
    world = make_world(1)
    left = [0]

    def die(params):
        left[0] -= 1
        if left[0] == 0:
            raise KeyboardInterrupt

    for client in aws:
        on_call(client, "*", die)
    burst(world)
    deaths, before = 0, -1
    calls = 0
    while deaths > before:
        calls, before = calls + 1, deaths
        for act in (lambda: None, lambda: world.ask(1, world.controllers[0])):
            request_id = act()
            left[0] = calls
            try:
                world.controller().autoscaler.reconcile()
            except KeyboardInterrupt:
                deaths += 1
            left[0] = 0
            s3_clock.ahead += LEASE_SECONDS + 2
            world.reconcile()
            world.reconcile()
            assert len(world.active) <= 1, f"a death after {calls} calls"
            if request_id:
                assert len(world.active) == 1, f"a death after {calls} calls"
                world.ready(*world.active)
                world.reconcile()
                work()
                world.close(request_id)
    world.reconcile()
    world.reconcile()
    assert world.active == []
    assert len(world.ids("stopped")) <= 1
    assert deaths > 15
