"""The calls of all controller processes get into the fleet's state, and hardly any call is made for that."""

from threading import Event

import pytest

from cloud.call_counts import WORTH_BOOKING
from cloud.errors import CloudError
from cloud.prices import MILLION_CALLS, CallKind
from controller.autoscaling.planner import BUSY_SECONDS
from controller.autoscaling.shared_state import LEASE_SECONDS
from tests.support.aws_errors import refusal
from tests.support.world import Controller, World


@pytest.fixture
def world(aws, queue, inputs, outputs, state) -> World:
    return World(aws, queue, inputs, outputs, state)


def call(controller: Controller, kind: CallKind, count: int = 1) -> None:
    for _ in range(count):
        controller.calls.add(kind)


def booked(world: World, kind: CallKind) -> int:
    return world.shared.peek().calls[kind]


def test_a_run_books_the_calls_of_its_process_once(world):
    (one,) = world.controllers
    call(one, CallKind.S3_GET, 5)
    one.reconcile()
    one.reconcile()
    call(one, CallKind.S3_GET, 2)
    one.reconcile()
    assert booked(world, CallKind.S3_GET) == 7


def test_the_calls_of_two_processes_add_up(world):
    for controller in (one := world.controllers[0], world.controller(), one):
        call(controller, CallKind.SQS, 10)
        controller.reconcile()
    assert booked(world, CallKind.SQS) == 30


def test_a_run_that_is_not_saved_leaves_its_calls_to_the_next(world, s3_clock):
    slow, other = world.controllers[0], world.controller()
    call(slow, CallKind.SQS, 4)
    observe = slow.autoscaler.observer.observe

    def outlive_the_lease(state):
        s3_clock.ahead = LEASE_SECONDS + 2
        other.reconcile()
        return observe(state)

    slow.autoscaler.observer.observe = outlive_the_lease
    slow.autoscaler.reconcile()
    assert booked(world, CallKind.SQS) == 0
    slow.autoscaler.observer.observe = observe
    slow.autoscaler.reconcile()
    assert booked(world, CallKind.SQS) == 4


def test_a_run_that_fails_books_its_calls_once(world, aws, on_call):
    def refuse(params):
        raise refusal("InternalError", "CreateTags")

    (one,) = world.controllers
    call(one, CallKind.SQS, 4)
    world.ask(5)
    on_call(aws.ec2, "CreateTags", refuse)
    for _ in range(2):
        with pytest.raises(CloudError, match="could not name"):
            one.autoscaler.reconcile()
    assert booked(world, CallKind.SQS) == 4


@pytest.mark.parametrize("busy", [True, False])
def test_a_process_without_work_books_its_calls_only_when_they_have_cost_something(world, busy):
    """Somebody watches the page of the fleet, say, which the other process need not know."""
    if busy:
        world.ask(5)
    looks, works = world.controllers[0], world.controller()
    looks.reconcile()
    works.reconcile()
    call(looks, CallKind.SQS)
    looks.autoscaler.look()
    assert booked(world, CallKind.SQS) == 0
    call(looks, CallKind.SQS, enough := round(WORTH_BOOKING / MILLION_CALLS[CallKind.SQS] * 1_000_000))
    pause = looks.autoscaler.look()
    assert booked(world, CallKind.SQS) == enough + 1
    assert (pause == BUSY_SECONDS) is busy
    decisions = len(world.shared.peek().decisions)
    looks.autoscaler.look()
    assert len(world.shared.peek().decisions) == decisions


def test_a_process_that_ends_books_its_last_calls(world):
    (one,) = world.controllers
    one.reconcile()
    call(one, CallKind.S3_GET, 3)
    stop = Event()
    stop.set()
    one.autoscaler.run(stop)
    assert booked(world, CallKind.S3_GET) == 3
    assert world.shared.peek().holder is None


def test_a_process_that_ends_does_not_wait_long_for_another(world, caplog):
    call(world.controllers[0], CallKind.S3_GET, 3)
    stop = Event()
    stop.set()
    with world.shared.hold(0):
        world.controllers[0].autoscaler.run(stop)
    assert "the last calls of this process are not in the fleet's bill" in caplog.text
