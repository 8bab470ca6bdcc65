"""Scale-in stops instances, with WARM_POOL."""

from dataclasses import replace
from datetime import timedelta

import pytest

from controller.autoscaling.autoscaler import TOO_LATE
from controller.batches.load import BatchLoad
from tests.support.aws_errors import raising, refusal
from tests.support.world import MAXIMUM, SILENT_AFTER


def test_scale_in_stops_as_many_as_the_pool_may_have_and_terminates_the_rest(make_world, burst):
    world = make_world(2)
    launched = burst(world, 3)
    world.reconcile()
    assert len(world.ids("stopped")) == 2
    assert len(world.ids("terminated")) == 1
    decision = world.shared.peek().decisions[-1]
    assert sorted([*decision.stopped, *decision.terminated]) == sorted(launched)
    assert not world.reconcile(), "an idle fleet may have stopped instances"


def test_without_a_pool_all_are_terminated(make_world, burst):
    world = make_world(0)
    burst(world, 2)
    world.reconcile()
    assert len(world.ids("terminated")) == 2


def test_a_full_pool_takes_no_more(world, burst, stopped):
    burst(world, 3)
    for _ in range(3):
        world.reconcile()
    assert len(world.ids("stopped")) == 1
    assert len(world.ids("terminated")) == 2
    assert world.active == []


def test_only_on_demand_instances_are_stopped(aws, world, burst):
    """EC2 stops no spot instance whose request is not persistent."""
    world.fleet.plan = replace(world.fleet.plan, market="spot")
    burst(world)
    world.reconcile()
    assert len(world.ids("terminated")) == 1


@pytest.mark.parametrize("spot", [True, None])
def test_a_batch_that_asks_for_spot_instances_leaves_stopped_ones_to_requests(world, stopped, spot):
    world.controllers[0].batches = [BatchLoad(10, False, None, None, spot=spot)]
    world.reconcile()
    assert (stopped in world.active) == (not spot)
    assert [i.market for i in world.fleet.instances() if i.active] == ["spot" if spot else "on-demand"]


def test_an_instance_whose_worker_was_never_ready_is_terminated(world, burst):
    burst(world, ready=False)
    world.reconcile()
    assert len(world.ids("terminated")) == 1


def test_an_instance_whose_worker_has_stopped_reporting_is_terminated(world, burst, aws, on_reply):
    def report_long_ago(reply):
        for item in reply.get("Contents", []):
            if item["Key"].startswith("workers/"):
                item["LastModified"] -= timedelta(seconds=SILENT_AFTER + 5)

    world.ask(1)
    world.reconcile()
    world.ready(*world.active)
    on_reply(aws.s3, "ListObjectsV2", report_long_ago)
    world.reconcile()
    assert len(world.ids("terminated")) == 1
    assert world.ids("stopped") == []


@pytest.mark.parametrize("code", ["IncorrectInstanceState", "UnauthorizedOperation", "InternalError"])
def test_what_ec2_does_not_stop_is_terminated(world, burst, aws, on_call, code):
    on_call(aws.ec2, "StopInstances", raising(refusal(code, "StopInstances")))
    (instance_id,) = burst(world)
    world.reconcile()
    assert world.ids("terminated") == [instance_id]
    assert "EC2 lets only 0 of 1 instances be stopped" in world.reasons


def test_an_instance_that_cannot_be_stopped_does_not_keep_others_from_it(make_world, burst, aws, on_call):
    world = make_world(2)
    first, second = burst(world, 2)

    def refuse_the_first(params):
        if first in params["InstanceIds"]:
            raise refusal("IncorrectInstanceState", "StopInstances")

    on_call(aws.ec2, "StopInstances", refuse_the_first)
    world.reconcile()
    assert (world.ids("stopped"), world.ids("terminated")) == ([second], [first])


def test_many_stops_that_ec2_refuses_leave_time_to_terminate_the_instances(make_world, burst, aws, on_call):
    world = make_world(MAXIMUM)
    burst(world, MAXIMUM)

    def refuse(params):
        world.controllers[0].clock += 2.0
        raise refusal("OperationNotPermitted", "StopInstances")

    on_call(aws.ec2, "StopInstances", refuse)
    world.reconcile()
    assert len(world.ids("terminated")) == MAXIMUM
    assert TOO_LATE not in world.why


def test_an_instance_that_was_told_to_stop_and_still_looks_running_is_not_replaced_in_the_pool(
    world, burst, states
):
    first, second = burst(world, 2)
    states |= {first: ("running", ""), second: ("running", "")}
    for _ in range(3):
        world.reconcile()
    states.clear()
    assert len(world.ids("stopped")) == len(world.ids("terminated")) == 1
