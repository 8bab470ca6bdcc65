"""What is terminated in the warm pool."""

import pytest

from cloud.errors import CloudError
from controller.autoscaling.warm_pool import LONGEST_STOPPED
from tests.support.aws_errors import raising, refusal
from tests.support.launch_plan import plan


def test_an_instance_that_was_stopped_for_a_day_is_terminated(world, stopped):
    world.pass_seconds(LONGEST_STOPPED.total_seconds() - 60)
    world.reconcile()
    assert world.ids("stopped") == [stopped]
    world.pass_seconds(61)
    world.reconcile()
    assert world.ids("terminated") == [stopped]
    assert "1 stopped instance is too old, too many, or not what would be launched now" in world.reasons


def test_a_day_counts_from_the_last_stop(world, stopped, burst):
    world.pass_seconds(LONGEST_STOPPED.total_seconds() - 60)
    assert burst(world) == [stopped]
    world.reconcile()
    world.pass_seconds(LONGEST_STOPPED.total_seconds() - 60)
    world.reconcile()
    assert world.ids("stopped") == [stopped]


@pytest.mark.parametrize(
    "change",
    [
        {"ami_id": "ami-0123456789abcdef0"},
        {"instance_types": ["c7i.xlarge"]},
        {"user_data": "#!/bin/bash\necho other settings\n"},
    ],
)
def test_an_instance_of_other_settings_is_neither_kept_nor_started(world, stopped, launches, change):
    world.fleet.plan = plan(**change)
    world.ask(1)
    world.reconcile()
    assert world.ids("terminated") == [stopped]
    assert launches == [1]


def test_an_outage_of_terminations_in_the_pool_holds_up_no_launch(world, stopped, launches, aws, on_call):
    world.fleet.plan = plan(ami_id="ami-0123456789abcdef0")
    on_call(aws.ec2, "TerminateInstances", raising(refusal("InternalError", "TerminateInstances")))
    world.ask(1)
    with pytest.raises(CloudError, match="could not terminate"):
        world.reconcile()
    assert launches == [1]


def test_an_instance_of_other_settings_that_still_runs_is_terminated_in_the_end(world, burst):
    (instance_id,) = burst(world)
    world.fleet.plan = plan(user_data="#!/bin/bash\necho other settings\n")
    world.reconcile()
    assert world.ids("terminated") == [instance_id]


def test_a_smaller_pool_terminates_the_surplus_and_none_terminates_all(make_world, burst):
    world = make_world(2)
    burst(world, 2)
    for size in (2, 1, 0):
        world.warm_pool = size
        controller = world.controller()
        for _ in range(2):
            controller.reconcile()
        assert len(world.ids("stopped")) == size


def test_an_instance_that_somebody_else_has_stopped_is_observed(world, burst, aws):
    (instance_id,) = burst(world)
    aws.ec2.stop_instances(InstanceIds=[instance_id])
    world.reconcile()
    assert world.ids("stopped") == [instance_id]
    assert world.shared.peek().not_ready == []
    assert instance_id in world.shared.peek().stopped


def test_an_instance_whose_history_is_unknown_is_terminated(world, aws):
    """The state was lost, for example. It may hang in its first boot."""
    (instance_id,) = world.fleet.launch(1, "", "t" * 32)
    aws.ec2.stop_instances(InstanceIds=[instance_id])
    for _ in range(2):
        world.reconcile()
    assert world.ids("terminated") == [instance_id]
