"""What the autoscaler notes, and the loop around its runs."""

import logging
from collections import Counter
from contextlib import suppress
from threading import Event, Thread

import pytest

from cloud.clock import now
from cloud.errors import CloudError
from cloud.worker_reports import WorkerReport
from controller.autoscaling.autoscaler import LONGEST_IDLE_SECONDS, MESSAGES_SECONDS, Budget
from controller.autoscaling.fleet_history import FleetHistory
from controller.autoscaling.planner import BUSY_SECONDS, IDLE_SECONDS
from controller.autoscaling.scaling import HOLD_SECONDS, PAID_SECONDS
from controller.autoscaling.shared_state import LEASE_SECONDS
from tests.support.aws_errors import refusal
from tests.support.threads import join_threads
from tests.support.world import MAXIMUM, PER_INSTANCE


def test_each_look_says_what_it_saw_and_did_and_why(world, caplog):
    caplog.set_level(logging.INFO, "controller.autoscaling.autoscaler")
    world.ask(25)
    world.reconcile()
    (decision,) = world.shared.peek().decisions
    assert decision.seen == {
        "visible": 25,
        "in_flight": 0,
        "delayed": 0,
        "just_sent": 25,
        "pending": 0,
        "running": 0,
        "stopped": 0,
    }
    assert (decision.wanted, len(decision.launched), decision.terminated) == (3, 3, [])
    assert decision.why[0] == "25 images call for 3 instances: one for each 10, at most 5"
    assert decision.why[1].startswith("the request that waits longest is ")
    (record,) = [r for r in caplog.records if r.message == "autoscaled"]
    assert record.decision["launched"] == decision.launched


def test_a_look_that_fails_is_noted_too(world, aws, on_call):
    def refuse(params):
        raise refusal("InternalError", "CreateTags")

    on_call(aws.ec2, "CreateTags", refuse)
    world.ask(5)
    with pytest.raises(CloudError, match="could not name"):
        world.reconcile()
    state = world.shared.peek()
    assert set(state.launched) == set(world.active) == set(state.decisions[-1].launched)
    assert state.holder is None


def test_a_report_that_nobody_can_read_stops_no_run(world, state):
    world.ask(5)
    world.reconcile()
    (instance_id,) = world.active
    state.write(f"workers/{instance_id}", b"{}", StorageClass="GLACIER")
    world.ask(25)
    world.reconcile()
    assert len(world.active) > 1


def test_the_books_of_the_money_are_kept(world, work):
    request_id = world.ask(15)
    world.reconcile()
    for instance_id in world.active:
        report = WorkerReport(instance_id=instance_id, model="m", ready_at=now(), seen_at=now(), images=7)
        world.reports.put(report)
    world.pass_seconds(100)
    work()
    world.close(request_id)
    world.reconcile()
    world.reconcile()
    state = world.shared.peek()
    assert 200 <= state.ended_seconds < 230
    assert state.ended_images == 14
    assert state.launched == {}


def test_the_loop_goes_on_whatever_a_look_raises(world, caplog):
    runs, stop, done = [], Event(), Event()
    autoscaler = world.controllers[0].autoscaler

    def reconcile():
        runs.append(1)
        if len(runs) == 1:
            raise CloudError("S3 is down")
        if len(runs) == 2:
            raise ValueError("a bug")
        stop.set()
        done.set()
        return IDLE_SECONDS

    autoscaler.reconcile = reconcile
    thread = Thread(target=autoscaler.run, args=[stop])
    thread.start()
    while not done.wait(0.01):
        autoscaler.wake.set()
    autoscaler.wake.set()
    thread.join(10)
    assert not thread.is_alive()
    assert "the autoscaler's run failed: S3 is down" in caplog.text
    assert "ValueError: a bug" in caplog.text


def test_an_idle_fleet_costs_few_calls(world, aws, on_call):
    world.reconcile()
    calls = Counter()
    for client in aws:
        on_call(client, "*", lambda params, name=client.meta.service_model.service_name: calls.update([name]))
    world.reconcile()
    assert calls["ec2"] == 1
    assert calls["sqs"] == 1
    assert calls["s3"] <= 4


def counted(aws, on_call) -> Counter[str]:
    """The number of further calls, by operation."""
    calls: Counter[str] = Counter()
    for client in aws:
        for operation in client.meta.service_model.operation_names:
            on_call(client, operation, lambda params, operation=operation: calls.update([operation]))
    return calls


def test_an_idle_fleet_is_looked_at_ever_more_seldom_without_a_write(world, aws, on_call):
    autoscaler = world.controllers[0].autoscaler
    autoscaler.reconcile()
    while autoscaler._pause < LONGEST_IDLE_SECONDS:
        assert autoscaler.look() <= MESSAGES_SECONDS
    calls, seconds = counted(aws, on_call), 0.0
    while seconds < 3600:
        seconds += autoscaler.look()
    assert calls.keys() == {"GetQueueAttributes", "DescribeInstances", "ListObjectsV2"}
    assert calls["ListObjectsV2"] == 3600 / LONGEST_IDLE_SECONDS
    assert 2 * calls.total() < 60, "those of two processes in an hour"


def test_messages_that_a_dead_host_left_are_seen_soon_however_long_the_fleet_was_idle(world, launches):
    autoscaler = world.controllers[0].autoscaler
    autoscaler.reconcile()
    while autoscaler._pause < LONGEST_IDLE_SECONDS:
        autoscaler.look()
    seconds = autoscaler.look()
    world.ask(5, world.controller())
    assert seconds <= MESSAGES_SECONDS
    assert autoscaler.look() == BUSY_SECONDS
    assert launches == [1]


@pytest.mark.parametrize("what", ["message", "instance", "marker"])
def test_a_look_that_sees_something_is_followed_by_a_run(world, what):
    autoscaler = world.controllers[0].autoscaler
    autoscaler.reconcile()
    if what == "message":
        world.queue.send(["2" * 32 + "/0000-cat.jpg"])
    elif what == "instance":
        world.fleet.launch(1, "", "t" * 32)
    else:
        world.ask(3, world.controller(), send=False)
    assert autoscaler.look() < IDLE_SECONDS
    assert len(world.shared.peek().decisions) == 2


def test_a_process_that_nothing_woke_leaves_the_run_to_another_that_has_just_run(world, aws, on_call):
    world.ask(5)
    one, other = world.controllers[0].autoscaler, world.controller().autoscaler
    other.reconcile()
    one.reconcile()
    join_threads("sweep")
    calls = counted(aws, on_call)
    assert other.look() == BUSY_SECONDS
    assert calls == {"GetObject": 1}
    world.pass_seconds(BUSY_SECONDS + 1)
    calls.clear()
    other.look()
    assert calls["RunInstances"] == 0
    assert calls["DescribeInstances"] > 0


def test_what_a_run_that_failed_has_launched_is_looked_after_however_idle_the_fleet_was(
    world, work, aws, on_call
):
    autoscaler = world.controllers[0].autoscaler
    autoscaler.reconcile()
    while autoscaler._pause < LONGEST_IDLE_SECONDS:
        autoscaler.look()
    request_id, fails = world.ask(5), [True]

    def refuse(params):
        if fails:
            raise refusal("InvalidInstanceID.NotFound", "CreateTags")

    on_call(aws.ec2, "CreateTags", refuse)
    with pytest.raises(CloudError):
        autoscaler.reconcile()
    fails.clear()
    work()
    world.close(request_id)
    autoscaler.look()
    assert world.active == []


def test_a_run_of_a_host_whose_clock_was_ahead_is_not_waited_for(world, launches):
    one = world.controllers[0].autoscaler
    world.ask(5)
    one.reconcile()
    world.ask(10, world.controller())
    world.pass_seconds(-3600)
    one.look()
    assert launches == [1, 1]


@pytest.mark.parametrize("trouble", ["error", "slowness"])
def test_a_process_leaves_no_run_to_another_that_cannot_act(world, work, monkeypatch, trouble):
    """It may be on another host, from which EC2 cannot be reached."""
    request_id = world.ask(5)
    one, other = world.controllers[0].autoscaler, world.controller()
    one.reconcile()
    world.pass_seconds(BUSY_SECONDS + 1)
    work()
    world.close(request_id)
    observe = other.autoscaler.observer.observe

    def fail(state):
        if trouble == "error":
            raise CloudError("EC2 cannot be reached")
        other.clock += LEASE_SECONDS
        return observe(state)

    monkeypatch.setattr(other.autoscaler.observer, "observe", fail)
    with suppress(CloudError):
        other.autoscaler.reconcile()
    one.look()
    assert world.active == []


def test_a_trickle_does_not_keep_the_fleet_of_a_burst(world):
    """Every worker gets an image now and then, so none is idle for long; but one would do."""
    burst = world.ask(5 * PER_INSTANCE)
    world.reconcile()
    world.ready(*world.active)
    with world.shared.hold(0) as lease:
        lease.state.ended_images, lease.state.ended_busy_seconds = 1000, 200.0
    while messages := world.queue.receive(10, 0):
        world.queue.delete(messages)
    world.close(burst)
    world.ask(1)
    world.reconcile()
    assert len(world.active) == MAXIMUM, "the burst was a moment ago"
    world.pass_seconds(PAID_SECONDS + HOLD_SECONDS)
    world.reconcile()
    assert len(world.active) == 1
    assert "more than the load has called for" in world.why


def test_the_first_burst_does_not_keep_its_fleet_while_images_keep_coming(world):
    """No worker has ended yet, so only those at work can tell how fast one is."""
    burst = world.ask(5 * PER_INSTANCE)
    world.reconcile()
    for instance_id in world.active:
        report = WorkerReport(instance_id=instance_id, model="m", ready_at=now(), seen_at=now())
        world.reports.put(report.model_copy(update={"images": 200, "busy_seconds": 40.0}))
    world.reconcile()
    while messages := world.queue.receive(10, 0):
        world.queue.delete(messages)
    world.close(burst)
    world.ask(1)
    world.pass_seconds(PAID_SECONDS + HOLD_SECONDS)
    world.reconcile()
    assert len(world.active) == 1


def test_the_history_follows_a_burst_from_nothing_to_nothing(world, work):
    history = FleetHistory(world.state)
    world.reconcile()
    assert history.read() == []
    request_id = world.ask(25)
    world.reconcile()
    world.reconcile()  # the same again, at once
    world.ready(*(i.instance_id for i in world.fleet.instances()))
    world.reconcile()
    work()
    world.close(request_id)
    world.reconcile()
    world.reconcile()
    kept = history.read()
    assert [(s.visible, s.starting, s.ready) for s in kept] == [(25, 3, 0), (25, 0, 3), (0, 0, 0)]
    assert kept[-1].idle


def test_a_history_that_cannot_be_written_hinders_no_look(world, monkeypatch, caplog):
    def fail(sample):
        raise CloudError("could not write the history")

    monkeypatch.setattr(world.controllers[0].autoscaler.history, "add", fail)
    world.ask(5)
    world.reconcile()
    assert len(world.fleet.instances()) == 1
    assert "could not write the history" in caplog.text
    assert world.shared.peek().sampled is None


def test_runs_take_no_more_than_their_share_of_the_processor():
    clock, used = [0.0], 0.0
    budget = Budget(0.04, 0.1, lambda: clock[0])
    pauses = []
    for _ in range(1000):
        clock[0] += 0.02
        used += 0.02
        pauses.append(budget.pause(used))
        clock[0] += pauses[-1]
    assert pauses[:4] == [0.0] * 4, "the first runs after a quiet time follow each other"
    assert used / clock[0] == pytest.approx(0.04, rel=0.02)
