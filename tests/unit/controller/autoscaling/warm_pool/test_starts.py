"""Scale-out starts what is stopped in the warm pool."""

import pytest
from botocore.exceptions import ReadTimeoutError

from cloud.clock import now
from controller.autoscaling.autoscaler import TOO_LATE
from controller.autoscaling.fleet_state import UnansweredLaunch
from controller.autoscaling.instance_ledger import LAUNCH_LAG_SECONDS
from tests.support.aws_errors import raising, refusal
from tests.support.world import MAXIMUM, PER_INSTANCE


def test_scale_out_starts_what_is_stopped_and_launches_the_rest(world, stopped, launches):
    request_id = world.ask(3 * PER_INSTANCE)
    world.reconcile()
    assert launches == [2]
    assert stopped in world.active
    assert len(world.active) == 3
    decision = world.shared.peek().decisions[-1]
    assert (decision.started, len(decision.launched)) == ([stopped], 2)
    assert world.shared.peek().launched[stopped].request_id == request_id
    world.reconcile()
    assert launches == [2]


def test_stopped_instances_do_not_count_for_the_maximum_and_started_ones_do(make_world, burst, launches):
    world = make_world(2)
    burst(world, MAXIMUM)
    for _ in range(3):
        world.reconcile()
    world.ask(10 * MAXIMUM * PER_INSTANCE)
    for _ in range(3):
        world.reconcile()
        assert len(world.active) == MAXIMUM
    assert launches == [MAXIMUM, MAXIMUM - 2]


@pytest.mark.parametrize(
    "code", ["InsufficientInstanceCapacity", "IncorrectInstanceState", "UnauthorizedOperation"]
)
def test_what_ec2_does_not_start_is_launched(world, stopped, launches, aws, on_call, code):
    on_call(aws.ec2, "StartInstances", raising(refusal(code, "StartInstances")))
    world.ask(1)
    for _ in range(2):
        world.reconcile()
    assert launches == [1]
    assert len(world.active) == 1
    assert "EC2 starts only 0 of 1 stopped instance" in world.reasons
    assert world.ids("stopped") == [stopped], "there may be capacity for it later"


def test_of_several_only_those_without_capacity_are_replaced(make_world, burst, launches, aws, on_call):
    world = make_world(2)
    burst(world, 2)
    for _ in range(2):
        world.reconcile()
    launches.clear()
    without = world.ids("stopped")[0]

    def refuse_one(params):
        if without in params["InstanceIds"]:
            raise refusal("InsufficientInstanceCapacity", "StartInstances")

    on_call(aws.ec2, "StartInstances", refuse_one)
    world.ask(2 * PER_INSTANCE)
    world.reconcile()
    assert launches == [1]
    assert len(world.active) == 2
    assert world.ids("stopped") == [without]


def test_many_starts_that_ec2_refuses_leave_time_for_the_launch(make_world, burst, launches, aws, on_call):
    world = make_world(MAXIMUM)
    burst(world, MAXIMUM)
    for _ in range(2):
        world.reconcile()
    assert len(world.ids("stopped")) == MAXIMUM
    launches.clear()

    def refuse(params):
        world.controllers[0].clock += 2.0
        raise refusal("InsufficientInstanceCapacity", "StartInstances")

    on_call(aws.ec2, "StartInstances", refuse)
    world.ask(MAXIMUM * PER_INSTANCE)
    world.reconcile()
    assert launches == [MAXIMUM]
    assert TOO_LATE not in world.why


def test_a_start_without_an_answer_is_not_doubled_by_a_launch(world, stopped, launches, aws, on_call):
    on_call(aws.ec2, "StartInstances", raising(ReadTimeoutError(endpoint_url="https://ec2.amazonaws.com")))
    world.ask(1)
    for _ in range(3):
        world.reconcile()
    assert launches == [], "it may be on its way"
    world.pass_seconds(LAUNCH_LAG_SECONDS + 1)
    for _ in range(2):
        world.reconcile()
    assert launches == [1]
    assert world.ids("terminated") == [stopped], "it did not come, and would not the next time"


def test_nothing_is_started_while_a_launch_without_an_answer_is_repeated(world, stopped, launches):
    """Its instances may be coming already, and would then be more than are needed."""
    with world.shared.hold(0) as lease:
        lease.state.unanswered = UnansweredLaunch(at=now(), count=1, request_id="abc")
    world.ask(1)
    world.reconcile()
    assert launches == [1]
    assert world.ids("stopped") == [stopped]


def test_a_start_that_ec2_does_not_show_yet_is_not_repeated(world, stopped, launches, states, aws, on_call):
    calls: list[object] = []
    on_call(aws.ec2, "StartInstances", calls.append)
    states[stopped] = ("stopped", "Client.UserInitiatedShutdown")
    world.ask(1)
    for _ in range(3):
        world.reconcile()
    assert (len(calls), launches) == (1, [])
    states.clear()
    world.reconcile()
    assert (len(calls), launches) == (1, [])
    assert world.active == [stopped]


def test_a_start_for_which_ec2_finds_no_capacity_later_is_replaced_at_once(world, stopped, launches, states):
    world.ask(1)
    states[stopped] = ("stopped", "Client.UserInitiatedShutdown")
    world.reconcile()
    states[stopped] = ("stopped", "Server.InsufficientInstanceCapacity")
    world.reconcile()
    states.clear()
    assert launches == [1]
    assert world.ids("terminated") == [stopped]
    assert world.shared.peek().not_ready == []


def test_an_instance_that_is_still_stopping_cannot_be_started_yet(world, burst, launches, states):
    (instance_id,) = burst(world)
    states[instance_id] = ("stopping", "Client.UserInitiatedShutdown")
    world.reconcile()
    world.ask(1)
    world.reconcile()
    assert launches == [1, 1]
    assert instance_id not in world.active


def test_a_started_instance_whose_worker_does_not_get_ready_is_replaced(world, stopped, launches):
    world.ask(1)
    world.reconcile()
    assert world.active == [stopped]
    world.pass_seconds(301)
    world.reconcile()
    assert world.ids("terminated") == [stopped]
    assert launches == [1]
