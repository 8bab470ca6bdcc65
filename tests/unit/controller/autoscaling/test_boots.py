from datetime import timedelta

import pytest

from cloud.boot_times import BootTimes
from cloud.clock import now
from cloud.worker_reports import WorkerReport
from controller.autoscaling.boots import BOOTS_KEPT, Boot, Call, boot_of, medians
from controller.autoscaling.fleet_state import FleetState
from tests.support.samples import NOON
from tests.support.world import World


def at(seconds: float):
    return NOON + timedelta(seconds=seconds)


def report(kernel: float | None, process: float = 0, ready: float = 0) -> WorkerReport:
    boot = None if kernel is None else BootTimes(kernel_at=at(kernel), process_at=at(process))
    return WorkerReport(instance_id="i-1", model="m", ready_at=at(ready), seen_at=at(ready), boot=boot)


CALL = Call(sent_at=at(0), called_at=at(0.4), answered_at=at(1.4))


def test_the_five_stages_follow_each_other_and_add_up():
    boot = boot_of(report(6.4, 15.4, 16), at(1.4), CALL, started=False)
    assert boot == Boot(
        instance_id="i-1", ready_at=at(16), detect=0.4, api=1, pending=5, boot=9, model=0.6, total=16
    )


def test_a_start_is_told_from_a_launch():
    assert boot_of(report(6.4, 15.4, 16), at(1.4), CALL, started=True).started


def test_of_a_launch_that_somebody_else_made_only_the_rest_is_known():
    boot = boot_of(report(6.4, 15.4, 16), at(1.4), None, started=False)
    assert (boot.detect, boot.api, boot.pending, boot.total) == (None, None, 5, None)


def test_a_second_instance_was_not_detected_from_the_first_message():
    boot = boot_of(report(6, 15, 16), at(2), Call(called_at=at(1), answered_at=at(2)), started=False)
    assert (boot.detect, boot.api, boot.total) == (None, 1, None)


def test_clocks_that_disagree_by_a_second_make_no_negative_time():
    boot = boot_of(report(0.4, 9, 10), at(1.4), CALL, started=False)
    assert (boot.pending, boot.boot) == (0, pytest.approx(8.6))


def test_a_worker_that_does_not_tell_has_no_stages():
    assert boot_of(report(None, ready=16), at(1.4), CALL, started=False) is None


def test_the_median_of_each_stage_is_that_of_the_boots_that_know_it():
    one = Boot(instance_id="a", ready_at=NOON, api=1, pending=5, boot=9, model=1)
    two = one.model_copy(update={"api": None, "pending": 7.0})
    start = one.model_copy(update={"started": True, "pending": 1.0})
    assert medians([one, two, start], started=False) == {"api": 1, "pending": 6, "boot": 9, "model": 1}
    assert medians([one, two, start], started=True)["pending"] == 1
    assert medians([], started=False) == {}


def test_only_the_last_boots_are_kept():
    state = FleetState()
    for n in range(BOOTS_KEPT + 5):
        state.note_stages(Boot(instance_id=f"i-{n}", ready_at=NOON, pending=1, boot=1, model=1))
    assert [b.instance_id for b in state.boots] == [f"i-{n}" for n in range(5, BOOTS_KEPT + 5)]


@pytest.fixture
def world(aws, queue, inputs, outputs, state) -> World:
    return World(aws, queue, inputs, outputs, state)


def ready(world: World, instance_id: str, boot_seconds: float) -> None:
    ready_at = now() + timedelta(seconds=boot_seconds)
    times = BootTimes(kernel_at=ready_at - timedelta(seconds=3), process_at=ready_at - timedelta(seconds=1))
    world.reports.put(
        WorkerReport(instance_id=instance_id, model="m", ready_at=ready_at, seen_at=now(), boot=times)
    )


def test_the_autoscaler_measures_from_the_message_to_the_ready_worker(world):
    world.ask(5)
    world.controllers[0].sent_at = sent_at = now() - timedelta(seconds=2)
    world.reconcile()
    launched_within = (now() - sent_at).total_seconds()
    (instance_id,) = world.active
    ready(world, instance_id, 8)
    for _ in range(2):
        world.reconcile()
    (boot,) = world.shared.peek().boots
    assert boot.instance_id == instance_id
    assert 2 <= boot.detect < launched_within
    assert 0 <= boot.api < launched_within - boot.detect
    assert 5 <= boot.pending < 5 + launched_within
    assert (boot.boot, boot.model) == (2, 1)
    assert boot.total == pytest.approx(boot.detect + boot.api + boot.pending + 3, abs=0.01)


def test_what_is_launched_beside_others_has_no_time_of_detection(world):
    world.ask(5)
    world.controllers[0].sent_at = now()
    world.reconcile()
    first = set(world.active)
    world.ask(10)
    world.reconcile()
    (second,) = set(world.active) - first
    ready(world, second, 8)
    world.reconcile()
    (boot,) = world.shared.peek().boots
    assert (boot.instance_id, boot.detect) == (second, None)
    assert boot.api is not None
