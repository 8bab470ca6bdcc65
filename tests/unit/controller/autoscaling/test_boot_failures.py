"""Instances that never get ready are replaced, and given up after a few."""

import re
from datetime import timedelta

import pytest

from cloud import clock
from cloud.clock import now
from cloud.image_id import ImageId
from cloud.prediction import Prediction
from controller.autoscaling.fleet_state import GIVEN_UP_SECONDS
from controller.autoscaling.planner import MAX_NOT_READY
from tests.support.launch_plan import plan
from tests.support.world import BOOT_TIMEOUT, MAXIMUM


def test_an_instance_that_is_never_ready_is_replaced(world, launches):
    world.ask(5)
    world.reconcile()
    first = world.active
    world.pass_seconds(BOOT_TIMEOUT + 1)
    world.reconcile()
    assert len(world.active) == 1
    assert world.active != first
    assert world.names == ["worker-1"]
    assert "1 instance was not ready within the boot timeout" in world.reasons


def test_an_instance_that_is_ready_is_not_replaced(world, launches):
    world.ask(5)
    world.reconcile()
    world.ready(*world.active)
    world.pass_seconds(10 * BOOT_TIMEOUT)
    world.reconcile()
    assert launches == [1]


def test_an_ami_that_never_boots_is_given_up_and_the_images_get_the_reason(world, launches, outputs, queue):
    request_id = world.ask(12)
    for _ in range(10):
        world.reconcile()
        world.pass_seconds(BOOT_TIMEOUT + 1)
        if outputs.answered(request_id):
            break
    assert sum(launches) <= MAX_NOT_READY + 2
    error = outputs.get_prediction(f"{request_id}/0003-cat.jpg").error
    assert error.code == "no_workers"
    assert error.message.startswith("Workers fail to start: ")
    assert "get-console-output" in error.message
    assert len(outputs.answered(request_id)) == 12
    assert queue.counts().backlog == 0
    world.close(request_id)
    world.reconcile()
    assert world.active == []


def test_user_data_that_fails_at_once_is_given_up_too(world, launches, outputs):
    request_id = world.ask(1)
    for _ in range(10):
        world.reconcile()
        if outputs.answered(request_id):
            break
        world.fleet.terminate(world.active)  # as `shutdown -h now` does
    assert len(launches) == MAX_NOT_READY
    assert "Workers fail to start" in outputs.get_prediction(f"{request_id}/0000-cat.jpg").error.message


def test_launches_end_though_the_failures_are_staggered(world, launches, outputs):
    """Some are overdue while others still boot: these are waited for, and not joined by new ones."""
    first = world.ask(10)
    world.reconcile()
    for _ in range(MAXIMUM - 1):
        world.pass_seconds(BOOT_TIMEOUT / MAXIMUM)
        world.ask(10)
        world.reconcile()
    assert sum(launches) == MAXIMUM
    for _ in range(4 * MAXIMUM):
        world.pass_seconds(BOOT_TIMEOUT / MAXIMUM)
        world.reconcile()
        if outputs.answered(first):
            break
    assert outputs.answered(first)
    assert sum(launches) < MAXIMUM + MAX_NOT_READY


def give_up(world, outputs) -> str:
    """Asks for an image, for which no worker gets ready. Returns the reason that it is answered with."""
    request_id = world.ask(1)
    for _ in range(10):
        world.reconcile()
        if answered := outputs.answered(request_id):
            world.close(request_id)
            return outputs.get_prediction(answered[0]).error.message
        world.pass_seconds(BOOT_TIMEOUT + 1)
    raise AssertionError("the fleet was not given up")


def test_after_giving_up_images_get_the_reason_at_once_until_the_next_try(world, launches, outputs):
    give_up(world, outputs)
    launches.clear()
    reason = give_up(world, outputs)
    assert reason.startswith("Workers fail to start: 3 in a row never got ready.")
    assert re.search(r"The next try is at \d\d:\d\d:\d\d UTC", reason)
    assert launches == []
    world.pass_seconds(GIVEN_UP_SECONDS)
    world.ask(1)
    world.reconcile()
    assert launches == [1]


def test_each_time_in_succession_the_next_try_is_later(world, launches, outputs):
    for rounds in range(1, 5):
        give_up(world, outputs)
        given_up = world.shared.peek().given_up
        assert given_up.rounds == rounds
        pause = (given_up.until - now()).total_seconds()
        assert pause == pytest.approx(GIVEN_UP_SECONDS * 2 ** (rounds - 1), abs=5)
        world.pass_seconds(pause)


def test_images_that_are_being_answered_when_the_next_try_is_due_do_not_put_it_off(
    world, launches, outputs, aws, on_call, monkeypatch
):
    """To take their messages back takes a while. Before, whoever retried often enough got no try at all."""
    give_up(world, outputs)
    launches.clear()
    world.pass_seconds(GIVEN_UP_SECONDS - 2)
    world.close(world.ask(1))
    later = timedelta(seconds=4)
    on_call(
        aws.sqs, "ReceiveMessage", lambda params: monkeypatch.setattr(clock.clock, "_ahead_of_host", later)
    )
    world.reconcile()
    assert world.shared.peek().given_up.rounds == 1
    world.pass_seconds(4)
    world.ask(1)
    world.reconcile()
    assert launches == [1]


def test_a_message_that_stays_does_not_launch_instances_for_ever(
    world, launches, outputs, queue, aws, on_call, on_reply
):
    """SQS answers a receive that does not wait from some of its servers alone, and so may miss messages."""
    waits = []
    on_call(aws.sqs, "ReceiveMessage", lambda params: waits.append(params["WaitTimeSeconds"]))
    on_reply(aws.sqs, "ReceiveMessage", lambda reply: waits[-1] or reply.pop("Messages", None))
    request_id = world.ask(1)
    outputs.put_prediction(Prediction.failed(ImageId(f"{request_id}/0000-cat.jpg"), "broken", "…"))
    world.close(request_id)
    for _ in range(60):
        world.reconcile()
        if world.active:
            world.fleet.terminate(world.active)
        world.pass_seconds(2)
    assert len(launches) <= MAX_NOT_READY
    assert queue.counts().backlog == 0


def test_a_message_of_an_answered_image_is_not_sent_again_when_no_worker_comes(world, outputs, queue):
    request_id = world.ask(2)
    outputs.put_prediction(Prediction.failed(ImageId(f"{request_id}/0000-cat.jpg"), "broken", "…"))
    world.controllers[0].autoscaler.recovery.fail_all("Workers fail to start.")
    assert queue.counts().backlog == 0


def test_with_other_settings_the_next_try_is_at_once(world, launches, outputs):
    give_up(world, outputs)
    launches.clear()
    world.fleet.plan = plan(instance_types=["c7i.xlarge"])
    world.ask(1)
    world.reconcile()
    assert world.shared.peek().given_up is None
    assert launches == [1]


def test_a_worker_that_gets_ready_ends_the_pauses(world, launches, outputs):
    give_up(world, outputs)
    world.pass_seconds(GIVEN_UP_SECONDS)
    world.ask(1)
    world.reconcile()
    world.ready(*world.active)
    world.reconcile()
    assert world.shared.peek().given_up is None
