"""How many instances are launched, whoever looks and however often."""

from contextlib import suppress
from threading import Thread

import pytest

from cloud.errors import CloudError
from controller.autoscaling.instance_ledger import LAUNCH_LAG_SECONDS
from controller.autoscaling.shared_state import LEASE_SECONDS, Busy
from tests.support.world import BOOT_TIMEOUT, MAXIMUM, Controller, FailingBucket


def test_a_request_gets_the_instances_that_it_needs_however_often_one_looks(world, launches):
    request_id = world.ask(25)
    for _ in range(4):
        assert world.reconcile()
    assert launches == [3], "one call for all"
    assert world.names == ["worker-1", "worker-2", "worker-3"]
    assert {i.request_id for i in world.fleet.instances()} == {request_id}


def test_no_look_ever_launches_more_than_the_maximum(world, launches):
    for _ in range(3):
        world.ask(40)
        world.reconcile()
    assert len(world.active) == MAXIMUM
    assert sum(launches) == MAXIMUM


def test_a_second_request_gets_only_what_the_first_does_not_leave_it(world, launches):
    world.ask(10)
    world.reconcile()
    world.ask(10)
    world.reconcile()
    assert launches == [1, 1]


def test_booting_instances_count(world, launches, aws, on_reply):
    def boot(reply):
        for reservation in reply["Reservations"]:
            for instance in reservation["Instances"]:
                instance["State"] = {"Code": 0, "Name": "pending"}

    on_reply(aws.ec2, "DescribeInstances", boot)
    world.ask(25)
    world.reconcile()
    world.reconcile()
    assert launches == [3]
    assert world.shared.peek().decisions[-1].seen["pending"] == 3


def test_instances_that_describe_instances_does_not_show_yet_count(world, launches, hidden):
    world.ask(45)
    hidden.add("all")
    for _ in range(3):
        world.reconcile()
    assert launches == [5]
    hidden.clear()
    world.reconcile()
    assert launches == [5]


def test_an_instance_that_never_shows_up_is_replaced_in_the_end(world, launches, hidden):
    world.ask(1)
    world.reconcile()
    hidden.update(world.active)
    world.pass_seconds(LAUNCH_LAG_SECONDS + 1)
    world.reconcile()
    assert launches == [1, 1]


def test_a_worker_that_reports_is_there_though_ec2_does_not_show_it_for_a_while(world, launches, hidden):
    world.ask(5)
    world.reconcile()
    worker = world.active
    world.ready(*worker)
    world.reconcile()
    world.pass_seconds(BOOT_TIMEOUT + 1)
    hidden.update(worker)
    world.reconcile()
    hidden.clear()
    world.reconcile()
    assert launches == [1]
    assert world.active == worker
    assert world.shared.peek().launched[worker[0]].ready


def test_what_was_just_sent_counts_though_sqs_does_not_count_it_yet(world, launches, counts):
    counts.append(0)
    world.ask(25)
    world.reconcile()
    assert launches == [3]


def test_images_in_a_workers_hands_still_need_it(world, queue):
    world.ask(10)
    world.reconcile()
    queue.receive(10, 0)
    world.controllers[0].requests.clear()
    assert world.reconcile()
    assert len(world.active) == 1


def test_ec2_may_launch_fewer_and_a_later_look_asks_for_the_rest(world, aws, on_call):
    on_call(aws.ec2, "RunInstances", lambda params: params.update(MinCount=1, MaxCount=1))
    world.ask(25)
    world.reconcile()
    assert len(world.active) == 1
    world.reconcile()
    world.reconcile()
    world.reconcile()
    assert len(world.active) == 3


def test_ten_controllers_that_look_at_once_launch_as_many_as_one(world, launches):
    controllers = [world.controller() for _ in range(10)]
    for controller in controllers:
        world.ask(4, controller)
    errors = []

    def look_twice(controller):
        looks = 0
        try:
            while looks < 2:
                with suppress(Busy):  # on a slow machine: it looks again, as it would
                    controller.reconcile()
                    looks += 1
        except Exception as error:
            errors.append(error)

    threads = [Thread(target=look_twice, args=[controller]) for controller in controllers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert errors == []
    assert len(world.active) == 4
    assert sum(launches) == 4
    assert world.names == [f"worker-{n}" for n in range(1, 5)]


def test_a_controller_that_died_between_launch_and_note_costs_no_second_launch(
    world, launches, aws, on_reply, s3_clock
):
    def die(reply):
        raise KeyboardInterrupt

    state = FailingBucket(aws.s3, world.state.name, launches, "this process is no more")
    dying = Controller(world.queue, world.fleet, state, world.inputs, world.outputs)
    world.ask(25, dying)
    on_reply(aws.ec2, "RunInstances", die)
    with pytest.raises(CloudError, match="no more"):
        dying.reconcile()
    assert world.names == ["worker"] * 3, "neither noted nor numbered"
    world.controllers[0].requests |= dying.requests
    s3_clock.ahead = LEASE_SECONDS + 2
    world.reconcile()
    assert launches == [3]
    assert world.names == ["worker-1", "worker-2", "worker-3"]


def test_a_look_that_took_long_leaves_the_launch_to_the_next_one(world, launches, aws, on_call):
    controller, slow = world.controllers[0], [11.0]

    def stall(params):
        controller.clock += slow.pop() if slow else 0

    on_call(aws.ec2, "DescribeInstances", stall)
    world.ask(5)
    world.reconcile()
    assert launches == []
    assert "took too long to act safely" in world.why
    world.reconcile()
    assert launches == [1]
