"""Batches on the AWS of the tests: their instances come, stay and go, and useless launches pause."""

from dataclasses import replace

import pytest

from cloud.clock import now
from cloud.errors import CloudError
from cloud.worker_reports import WorkerReport
from controller.autoscaling.autoscaler import LONGEST_IDLE_SECONDS
from controller.autoscaling.fleet_state import GIVEN_UP_SECONDS, IMAGES_TO_LEARN_FROM, OpenBatches
from controller.autoscaling.planner import BUSY_SECONDS, IDLE_SECONDS, MAX_NOT_READY
from controller.batches.load import BatchLoad
from tests.support.aws_errors import refusal
from tests.support.world import BOOT_TIMEOUT

LARGE = BatchLoad(1_000_000, False, None, None)


@pytest.fixture(params=["queue", "rate"])
def controller(request, world):
    """The controller of the world, with each SCALING."""
    found = world.controllers[0]
    found.autoscaler.policy = replace(found.autoscaler.policy, scaling=request.param)
    return found


def speed_is(world, images_per_second: float) -> None:
    with world.shared.hold(0) as lease:
        lease.state.full_speed, lease.state.boot_seconds = images_per_second, 60.0


def end_all(world) -> None:
    """The instances end by themselves, as `shutdown -h now` does."""
    if world.active:
        world.fleet.terminate(world.active)


def test_instances_come_for_a_batch_stay_through_it_and_are_gone_when_it_is_over(world, controller):
    speed_is(world, 10.0)
    controller.batches = [LARGE]
    world.reconcile()
    world.ready(*world.active)
    assert len(world.active) == 4, "80% of 5"
    for _ in range(3):
        world.pass_seconds(1000)
        world.ready(*world.active)
        assert world.reconcile()
    assert len(world.active) == 4
    assert "1,000,000 images of a batch are left: that calls for 4 instances" in world.why
    controller.batches = []
    world.pass_seconds(1000)
    world.ready(*world.active)
    assert world.reconcile(), "their ends are to be seen"
    assert world.active == []
    assert not world.reconcile()


def test_requests_that_come_during_a_batch_are_answered_by_its_instances(world, controller, work):
    speed_is(world, 10.0)
    controller.batches = [replace(LARGE, images=10)]
    world.reconcile()
    world.ready(*world.active)
    first = world.active
    request_id = world.ask(5)
    world.reconcile()
    assert world.active == first, "one does both"
    work()
    world.close(request_id)
    world.reconcile()
    assert world.active == first, "the batch still needs it"


def test_the_speed_of_a_worker_is_learned_while_it_works_on_the_first_batch(world, controller):
    controller.batches = [LARGE]
    world.reconcile()
    (instance_id,) = world.active
    report = WorkerReport(instance_id=instance_id, model="m", ready_at=now(), seen_at=now(), images=10)
    world.reports.put(report)
    world.reconcile()
    assert len(world.active) == 1, "ten images tell nothing"
    done = {"images": IMAGES_TO_LEARN_FROM, "busy_seconds": IMAGES_TO_LEARN_FROM / 20}
    world.reports.put(report.model_copy(update=done))
    world.reconcile()
    assert world.shared.peek().full_speed == 20.0
    assert len(world.active) == 4


def test_instances_that_never_get_ready_are_not_launched_for_ever_for_a_batch(world, controller, launches):
    controller.batches = [LARGE]
    for _ in range(10):
        world.reconcile()
        end_all(world)
    assert launches == [1] * MAX_NOT_READY
    assert "Workers fail to start: 3 in a row never got ready." in world.why
    assert "The next try is at" in world.why
    for rounds in range(1, 4):
        given_up = world.shared.peek().given_up
        assert given_up.rounds == rounds
        launches.clear()
        world.pass_seconds(GIVEN_UP_SECONDS * 2 ** (rounds - 1))
        for _ in range(6):
            world.reconcile()
            end_all(world)
        assert launches == [1] * MAX_NOT_READY, "one round of tries after each pause"


def test_a_batch_outlives_an_ami_that_does_not_boot_for_a_while(world, controller, launches):
    controller.batches = [LARGE]
    for _ in range(MAX_NOT_READY + 1):
        world.reconcile()
        world.pass_seconds(BOOT_TIMEOUT + 1)
    world.reconcile()
    world.pass_seconds(GIVEN_UP_SECONDS)
    world.reconcile()
    world.ready(*world.active)
    world.reconcile()
    assert world.shared.peek().given_up is None
    assert len(world.active) == 1


def test_without_capacity_a_batch_waits_for_the_next_try(world, controller, aws, on_call):
    full = [True]

    def refuse(params):
        if full:
            raise refusal("InsufficientInstanceCapacity", "RunInstances")

    on_call(aws.ec2, "RunInstances", refuse)
    controller.batches = [LARGE]
    world.reconcile()
    assert world.active == []
    full.clear()
    world.reconcile()
    assert "the next try to launch is at" in world.why
    world.pass_seconds(60)
    world.reconcile()
    assert len(world.active) == 1
    assert world.shared.peek().given_up is None


def markets(world) -> list[str]:
    return sorted(i.market for i in world.fleet.instances() if i.active)


def test_a_batch_has_the_market_that_it_asks_for_and_requests_have_their_own(world, controller):
    speed_is(world, 10.0)
    controller.batches = [replace(LARGE, spot=True)]
    world.ask(1)
    for _ in range(3):
        world.reconcile()
    assert markets(world) == ["on-demand", "spot", "spot", "spot"]
    gone = next(i.instance_id for i in world.fleet.instances() if i.market == "spot")
    world.fleet.terminate([gone])
    for _ in range(2):
        world.reconcile()
    assert markets(world) == ["on-demand", "spot", "spot", "spot"]


def test_without_spot_capacity_a_batch_has_on_demand_instances(world, controller, aws, on_call):
    """An account that has no role for spot instances counts as one without capacity: requests go on."""
    asked = []

    def refuse_spot(params):
        asked.append(bool(params.get("InstanceMarketOptions")))
        if asked[-1]:
            raise refusal("AuthFailure.ServiceLinkedRoleCreationNotPermitted", "RunInstances")

    on_call(aws.ec2, "RunInstances", refuse_spot)
    controller.batches = [replace(LARGE, spot=True)]
    world.reconcile()
    assert (asked, markets(world)) == ([True, False], ["on-demand"])
    state = world.shared.peek()
    assert (state.walk.next, state.spot_walk.next, state.cannot_launch) == (0, 1, "")
    world.ask(50)
    world.reconcile()
    assert asked == [True, False, False]
    assert set(markets(world)) == {"on-demand"}


def test_a_launch_whose_answer_was_lost_is_repeated_in_its_market(world, controller, aws, on_call):
    asked = []

    def lose_the_first(params):
        asked.append((bool(params.get("InstanceMarketOptions")), params["ClientToken"]))
        if len(asked) == 1:
            raise refusal("InternalError", "RunInstances")

    on_call(aws.ec2, "RunInstances", lose_the_first)
    controller.batches = [replace(LARGE, spot=True)]
    world.reconcile()
    controller.batches = [LARGE]
    world.pass_seconds(10)
    world.reconcile()
    assert len(asked) == 2
    assert asked[0] == asked[1]


def test_the_state_tells_how_much_of_the_batches_is_left(world, controller):
    controller.batches = [replace(LARGE, images=700), replace(LARGE, images=0, listing=True)]
    world.reconcile()
    assert world.shared.peek().batches == OpenBatches(open=2, images_left=700, listing=True)
    controller.batches = []
    world.reconcile()
    assert world.shared.peek().batches == OpenBatches()


def test_batches_that_cannot_be_read_hold_up_no_request(world, controller):
    speed_is(world, 10.0)
    controller.batches = [LARGE]
    world.reconcile()
    world.ready(*world.active)
    observer = controller.autoscaler.observer

    def fail():
        raise CloudError("s3://state/batches/b/batch.json is broken")

    observer.batches = fail
    world.reconcile()
    assert len(world.active) == 4, "what they asked for last holds"
    assert not observer.sees_no_messages()
    other = world.controller()
    other.autoscaler.observer.batches = fail
    request_id = world.ask(50, other)
    other.reconcile()
    assert len(world.active) == 5
    world.close(request_id, other)


def test_an_idle_fleet_sees_a_batch_that_another_process_has_opened(world, launches):
    controller = world.controllers[0]
    autoscaler = controller.autoscaler
    autoscaler.reconcile()
    while autoscaler._pause < LONGEST_IDLE_SECONDS:
        assert autoscaler.look() >= IDLE_SECONDS
    controller.batches = [LARGE]
    assert autoscaler.look() == BUSY_SECONDS
    assert launches == [1]
