"""What stopped instances cost, and what they cost the controller."""

from collections import Counter

from controller.autoscaling.autoscaler import LONGEST_IDLE_SECONDS, MESSAGES_SECONDS
from controller.autoscaling.fleet_state import TERMINATE_AGAIN
from controller.autoscaling.planner import IDLE_SECONDS
from controller.autoscaling.warm_pool import LONGEST_STOPPED
from tests.support.world import PER_INSTANCE


def test_a_controller_with_nothing_but_stopped_instances_is_idle(world, stopped, aws, on_call):
    autoscaler = world.controllers[0].autoscaler
    assert autoscaler.reconcile() == IDLE_SECONDS
    calls: Counter[str] = Counter()
    for client in aws:
        for operation in client.meta.service_model.operation_names:
            on_call(client, operation, lambda params, operation=operation: calls.update([operation]))
    pauses = [autoscaler.look() for _ in range(6)]
    assert pauses == [60, 120, *[MESSAGES_SECONDS] * 4]
    assert calls.keys() == {"GetQueueAttributes", "DescribeInstances", "ListObjectsV2"}
    assert autoscaler._pause == LONGEST_IDLE_SECONDS


def test_an_idle_controller_still_terminates_an_instance_after_a_day(world, stopped, monkeypatch):
    autoscaler = world.controllers[0].autoscaler
    autoscaler.reconcile()
    world.pass_seconds(LONGEST_STOPPED.total_seconds() + 1)
    autoscaler._at_rest = {stopped: autoscaler._at_rest[stopped] - world.passed}
    autoscaler.look()
    assert world.ids("terminated") == [stopped]


def test_an_idle_controller_looks_at_an_instance_that_another_one_has_stopped(make_world, burst):
    world = make_world(1)
    idle = world.controller().autoscaler
    idle.reconcile()
    burst(world)
    world.reconcile()
    assert idle.look() <= IDLE_SECONDS
    (instance_id,) = world.ids("stopped")
    assert instance_id in idle._at_rest


def test_a_stopped_instance_that_ec2_does_not_let_be_terminated_keeps_no_controller_busy(world, stopped, aws):
    aws.ec2.modify_instance_attribute(InstanceId=stopped, DisableApiTermination={"Value": True})
    world.pass_seconds(LONGEST_STOPPED.total_seconds() + 1)
    autoscaler = world.controllers[0].autoscaler
    autoscaler.reconcile()
    assert autoscaler.reconcile() == IDLE_SECONDS
    assert autoscaler.look() == 2 * IDLE_SECONDS
    assert world.ids("stopped") == [stopped]


def test_a_stopped_instance_is_terminated_once_ec2_lets_it_be(world, stopped, aws):
    aws.ec2.modify_instance_attribute(InstanceId=stopped, DisableApiTermination={"Value": True})
    world.pass_seconds(LONGEST_STOPPED.total_seconds() + 1)
    autoscaler = world.controllers[0].autoscaler
    autoscaler.reconcile()
    autoscaler.reconcile()
    aws.ec2.modify_instance_attribute(InstanceId=stopped, DisableApiTermination={"Value": False})
    world.pass_seconds(TERMINATE_AGAIN.total_seconds() + 1)
    autoscaler._at_rest = {stopped: autoscaler._at_rest[stopped] - world.passed}
    autoscaler.look()
    assert world.ids("terminated") == [stopped]


def test_each_start_is_billed_as_at_least_a_minute_and_the_disk_meanwhile(world, stopped, burst):
    assert 60 <= world.shared.peek().ended_seconds < 90
    world.pass_seconds(3600)
    burst(world)
    for _ in range(2):
        world.reconcile()
    state = world.shared.peek()
    assert 120 <= state.ended_seconds < 180
    assert 3600 <= state.stopped_seconds < 3660
    assert list(state.stopped) == [stopped]


def test_what_a_worker_did_before_its_stop_is_counted_once(world, burst):
    """The report of its next life begins at 0."""
    for _ in range(2):
        burst(world)
        (instance_id,) = world.active
        report = world.reports.get(instance_id)
        world.reports.put(report.model_copy(update={"images": 7}))
        for _ in range(3):
            world.reconcile()
    assert world.shared.peek().ended_images == 14


def test_names_stay_unique_beside_stopped_instances(world, stopped):
    world.ask(3 * PER_INSTANCE)
    world.reconcile()
    names = [i.name for i in world.fleet.instances() if i.active]
    assert sorted(names) == ["worker-1", "worker-2", "worker-3"]
