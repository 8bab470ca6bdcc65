"""SCALING=rate with several processes, on the AWS of the tests."""

from dataclasses import replace

import pytest

from cloud.clock import now
from cloud.worker_reports import WorkerReport
from controller.autoscaling.fleet_history import FleetHistory, Sent, sent_in
from controller.autoscaling.fleet_state import IMAGES_TO_LEARN_FROM, FleetState
from controller.autoscaling.scaling import PAID_SECONDS
from tests.support.launch_plan import plan
from tests.support.world import Controller, World


@pytest.fixture
def world(aws, queue, inputs, outputs, state) -> World:
    return World(aws, queue, inputs, outputs, state)


def by_rate(controller: Controller) -> Controller:
    controller.autoscaler.policy = replace(controller.autoscaler.policy, scaling="rate")
    return controller


def boots_take(world: World, seconds: float) -> None:
    with world.shared.hold(0) as lease:
        lease.state.boot_seconds = seconds


def test_instances_stay_while_a_boot_takes_whichever_process_runs(world, work):
    first, other = by_rate(world.controllers[0]), by_rate(world.controller())
    request_id = world.ask(25)
    first.reconcile()
    world.ready(*world.active)
    first.reconcile()
    assert len(world.active) == 3
    work()
    world.close(request_id)
    boots_take(world, 200)
    assert other.reconcile(), "it looks again soon"
    world.pass_seconds(PAID_SECONDS + 1)
    other.reconcile()
    assert len(world.active) == 3
    assert "3 instances stay while that may pay" in world.why
    world.pass_seconds(200 - PAID_SECONDS)
    assert by_rate(world.controller()).reconcile(), "their ends are to be seen"
    assert world.active == []
    assert "3 instances were not called for in the time that a boot takes" in world.why


def test_what_comes_meanwhile_is_done_by_those_that_stay(world, work):
    controller = by_rate(world.controllers[0])
    request_id = world.ask(5)
    controller.reconcile()
    world.ready(*world.active)
    before = world.active
    work()
    world.close(request_id)
    controller.reconcile()
    world.ask(7)
    controller.reconcile()
    assert world.active == before
    assert "7 images wait, and 0 arrive a second: that calls for 1 instance" in world.why


def test_a_worker_that_had_little_to_do_does_not_make_the_others_seem_slow() -> None:
    state = FleetState()
    state.note_speed(IMAGES_TO_LEARN_FROM - 1, 0.1)
    assert state.full_speed is None, "too few images"
    state.note_speed(10_000, 100.0)
    state.note_speed(1_000, 100.0)  # one at a time, and waiting for AWS
    assert state.full_speed == pytest.approx(91)
    state.note_speed(10_000, 90.0)
    assert state.full_speed == pytest.approx(10_000 / 90)
    for _ in range(50):
        state.note_speed(2_000, 100.0)
    assert state.full_speed == pytest.approx(20, rel=0.05), "workers that are slower now"


def test_the_speed_of_a_worker_with_enough_to_do_is_learned_when_it_ends_and_used(world, work):
    controller = by_rate(world.controllers[0])
    request_id = world.ask(25)
    controller.reconcile()
    for instance in world.active:
        report = WorkerReport(instance_id=instance, model="m", ready_at=now(), seen_at=now(), images=900)
        world.reports.put(report.model_copy(update={"busy_seconds": 9.0}))
    work()
    world.close(request_id)
    controller.reconcile()
    world.pass_seconds(PAID_SECONDS + 1)
    assert controller.reconcile(), "their ends are to be seen"
    assert not controller.reconcile()
    assert world.shared.peek().full_speed == pytest.approx(100)
    boots_take(world, 40)
    world.ask(45)
    controller.reconcile()
    assert len(world.active) == 1, "one does them in half a second"


def works(world: World, images_per_second: float, *instance_ids: str) -> None:
    """Lets workers report that they have done so many images a second."""
    for instance_id in instance_ids:
        report = WorkerReport(instance_id=instance_id, model="m", ready_at=now(), seen_at=now(), images=900)
        world.reports.put(report.model_copy(update={"busy_seconds": 900 / images_per_second}))


def test_with_other_settings_the_speed_of_a_worker_is_learned_anew(world):
    """With another MODEL or INSTANCE_TYPE it may be a tenth, and workers that are always busy do not end."""
    by_rate(world.controllers[0])
    world.ask(25)
    world.reconcile()
    before = world.active
    works(world, 100.0, *before)
    world.reconcile()
    assert world.shared.peek().full_speed == pytest.approx(100)
    world.fleet.plan = plan(instance_types=["c7i.micro"])
    world.reconcile()
    assert world.shared.peek().full_speed is None, "the old workers have the old speed"
    world.fleet.terminate(before)
    world.reconcile()
    assert world.shared.peek().full_speed is None, "also when they end"
    assert world.active
    works(world, 10.0, *world.active)
    world.reconcile()
    assert world.shared.peek().full_speed == pytest.approx(10)


def test_what_was_sent_is_in_the_history_once(world):
    history = FleetHistory(world.state)
    world.ask(5)
    with world.shared.hold(0) as lease:
        lease.state.note_sent(1, 3, now=600.0)
        lease.state.note_sent(1, 2, now=659.0)
        lease.state.note_sent(1, 9, now=660.0)
    world.reconcile()
    assert sent_in(history.read()) == {10: Sent(2, 5), 11: Sent(1, 9)}
    assert world.shared.peek().sent == {}
    world.ready(*world.active)
    world.reconcile()
    assert len(history.read()) == 2
    assert sent_in(history.read()) == {10: Sent(2, 5), 11: Sent(1, 9)}
