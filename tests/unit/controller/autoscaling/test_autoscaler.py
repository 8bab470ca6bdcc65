import logging
from collections import Counter
from datetime import timedelta
from threading import Event, Thread

import pytest

from cloud.clock import now
from cloud.errors import CloudError
from cloud.image_id import ImageId
from cloud.prediction import Prediction
from cloud.worker_reports import WorkerReport
from controller.autoscaling.autoscaler import LONGEST_IDLE_SECONDS, SWEEP_AFTER, TOO_LATE, Budget
from controller.autoscaling.fleet_history import FleetHistory
from controller.autoscaling.fleet_state import LEASE_SECONDS
from controller.autoscaling.instance_ledger import CAPACITY_AGAIN_SECONDS
from controller.autoscaling.planner import BUSY_SECONDS, IDLE_SECONDS
from controller.autoscaling.scaling import HOLD_SECONDS, PAID_SECONDS
from controller.image_requests.recovery import ABANDONED_AFTER, OVERTAKEN_AFTER, RESEND_AFTER, WATCH_FOR
from tests.support.aws_errors import refusal
from tests.support.clocks import set_host_clock
from tests.support.submissions import bodies
from tests.support.world import BOOT_TIMEOUT, MAXIMUM, PER_INSTANCE, World


@pytest.fixture
def world(aws, queue, inputs, outputs, state) -> World:
    return World(aws, queue, inputs, outputs, state)


# Scale-in


def test_when_all_is_answered_all_are_terminated(world, work):
    request_id = world.ask(25)
    world.reconcile()
    work()
    world.close(request_id)
    assert world.reconcile(), "their ends are to be seen"
    assert world.active == []
    assert not world.reconcile()
    assert world.why == "nothing waits and nothing runs"


def test_quiet_is_believed_when_seen_twice(world, work, counts):
    request_id = world.ask(5)
    world.reconcile()
    work()
    world.close(request_id)
    counts[:] = [0, 3, 0]
    assert world.reconcile()
    assert world.why == "3 images call for 1 instance: one for each 10, at most 5"
    assert len(world.active) == 1
    world.reconcile()
    assert world.active == []


def test_a_request_that_is_answered_between_the_two_counts_keeps_the_fleet(world, work, on_call, aws):
    """Requests of one image that follow each other closely leave the queue empty most of the time."""
    first = world.ask(1)
    world.reconcile()
    work()
    world.close(first)
    controller = world.controllers[0]
    counted = []

    def answer_another(params):
        counted.append(1)
        if len(counted) == 2:
            controller.requests["answered already"] = 0

    on_call(aws.sqs, "GetQueueAttributes", answer_another)
    controller.autoscaler.observer.queue.counts()
    world.reconcile()
    assert len(world.active) == 1
    assert world.why == "new work has come, so that nothing is terminated"
    world.reconcile()
    assert world.active == []


@pytest.mark.parametrize("where", ["in flight", "delayed"])
def test_a_message_that_is_not_visible_keeps_the_fleet(world, aws, queue, work, where):
    request_id = world.ask(5)
    world.reconcile()
    work()
    world.close(request_id)
    aws.sqs.send_message(QueueUrl=queue.url, MessageBody="x", DelaySeconds=60 if where == "delayed" else 0)
    queue.receive(1, 0)
    assert world.reconcile()
    assert len(world.active) == 1


def test_what_another_open_request_was_launched_for_stays(world, work):
    other = world.controller()
    first = world.ask(10)
    world.reconcile()
    second = world.ask(10, other)
    other.reconcile()
    work()
    world.close(first)
    world.outputs.delete(f"{second}/0003-cat.jpg")  # as if its message had been lost on the way
    world.reconcile()
    assert {i.request_id for i in world.fleet.instances() if i.active} == {second}


def test_no_controller_terminates_what_anothers_request_needs(world, counts):
    """The second found the first one's instance and launched none; SQS does not count its images yet."""
    mine, other = world.controllers[0], world.controller()
    first = world.ask(4)
    world.reconcile()
    second = world.ask(4, other)
    other.reconcile()
    (instance,) = world.active
    for n in range(4):
        world.outputs.write(f"{first}/{n:04d}-cat.jpg", b"{}")
    world.close(first, mine)
    counts.append(0)
    world.reconcile()
    assert world.active == [instance]
    for n in range(4):
        world.outputs.write(f"{second}/{n:04d}-cat.jpg", b"{}")
    world.close(second, other)
    world.reconcile()
    assert world.active == []


def test_of_what_an_answered_request_leaves_only_as_many_stay_as_others_need(world, counts):
    other = world.controller()
    first = world.ask(40)
    world.reconcile()
    second = world.ask(4, other)
    other.reconcile()
    world.close(first)
    for n in range(40):
        world.outputs.write(f"{first}/{n:04d}-cat.jpg", b"{}")
    counts.append(0)
    world.reconcile()
    assert len(world.active) == 1
    assert [second.startswith(marker.after) for marker in world.markers] == [True]


def test_a_controller_that_starts_reaps_what_nobody_needs(world, work):
    request_id = world.ask(25)
    world.reconcile()
    work()
    world.close(request_id)
    fresh = world.controller()
    fresh.reconcile()
    assert world.active == []


def test_a_request_whose_controller_died_is_served_by_another(world, work, outputs):
    request_id = world.ask(5, send=False)
    world.controllers[0].requests.clear()
    world.pass_seconds(RESEND_AFTER.total_seconds() + 1)
    survivor = world.controller()
    survivor.reconcile()
    world.pass_seconds(WATCH_FOR.total_seconds())
    survivor.reconcile()
    survivor.reconcile()
    assert len(world.active) == 1
    work()
    survivor.reconcile()
    assert len(outputs.answered(request_id)) == 5
    assert world.active == []
    world.pass_seconds(ABANDONED_AFTER.total_seconds() + 1)
    survivor.reconcile()
    assert world.markers == []


def test_what_is_above_the_maximum_is_terminated_the_newest_first(world, aws):
    world.fleet.launch(MAXIMUM + 2, "", "t" * 32)
    oldest = world.active[:MAXIMUM]
    world.ask(100)
    world.reconcile()
    assert world.active == oldest
    assert "2 instances more than the maximum" in world.reasons


def test_an_instance_that_ec2_does_not_let_go_stops_nothing_else(world, aws, work, launches):
    request_id = world.ask(25)
    world.reconcile()
    protected = world.active[1]
    aws.ec2.modify_instance_attribute(InstanceId=protected, DisableApiTermination={"Value": True})
    world.pass_seconds(BOOT_TIMEOUT + 1)
    world.reconcile()
    assert len(world.active) == 3, "two are replaced"
    assert "EC2 lets only 2 of 3 instances be terminated" in world.reasons
    for _ in range(3):
        world.reconcile()
    assert len(world.shared.peek().not_ready) == 2
    work()
    world.close(request_id)
    world.reconcile()
    assert world.active == [protected]


def test_capacity_that_ec2_takes_back_at_once_is_no_tight_loop(world, launches, aws, on_reply):
    """RunInstances succeeds, and the instance goes from pending to terminated."""

    def take_back(reply):
        for reservation in reply["Reservations"]:
            for instance in reservation["Instances"]:
                instance["State"] = {"Code": 48, "Name": "terminated"}
                instance["StateReason"] = {"Code": "Server.InsufficientInstanceCapacity", "Message": "none"}

    on_reply(aws.ec2, "DescribeInstances", take_back)
    world.ask(5)
    for _ in range(4):
        world.reconcile()
    assert launches == [1]
    assert "the next try to launch is at" in world.why
    world.pass_seconds(CAPACITY_AGAIN_SECONDS + 1)
    world.reconcile()
    assert launches == [1, 1]


def test_dead_letters_become_answers(world, queue, outputs, settings):
    request_id = world.ask(1)
    world.reconcile()
    for _ in range(settings.max_receives):
        queue.give_back(queue.receive(10, 0))
    queue.receive(10, 0)
    world.reconcile()
    assert outputs.get_prediction(f"{request_id}/0000-cat.jpg").error.code == "gave_up"


def test_what_a_dead_process_has_not_sent_is_sent_while_the_queue_stays_busy(world, aws, on_reply):
    """Else an upload whose process died would wait as long as others keep the queue busy."""
    lost = world.ask(3, world.controller(), send=False)

    def stored_earlier(reply):
        for item in reply.get("Contents", []):
            if item["Key"].startswith(lost):
                item["LastModified"] -= OVERTAKEN_AFTER + timedelta(seconds=5)

    on_reply(aws.s3, "ListObjectsV2", stored_earlier)
    for _ in range(3):
        request_id = world.ask(2)
        world.outputs.put_prediction(Prediction.failed(ImageId(f"{request_id}/0000-cat.jpg"), "broken", "…"))
        world.reconcile()
        world.controllers[0].autoscaler._sweep.join(10)
        world.pass_seconds(SWEEP_AFTER.total_seconds() + 1)
    assert sorted(body for body in bodies(world.queue) if body.startswith(lost)) == [
        f"{lost}/{n:04d}-cat.jpg" for n in range(3)
    ]


def test_a_run_that_outlives_its_lease_terminates_nothing(world, work, on_reply, aws):
    request_id = world.ask(5)
    world.reconcile()
    work()
    world.close(request_id)
    controller = world.controllers[0]

    def be_slow(reply):
        controller.clock += LEASE_SECONDS

    on_reply(aws.ec2, "DescribeInstances", be_slow)
    world.reconcile()
    assert len(world.active) == 1
    assert TOO_LATE in world.why


def test_an_instance_whose_end_could_not_be_saved_does_not_count_as_one_that_failed_to_start(
    world, work, on_call, aws, s3_clock
):
    request_id = world.ask(5)
    world.reconcile()
    world.ready(*world.active)
    work()
    world.close(request_id)
    world.reconcile()
    writes = []

    def refuse_the_end_of_the_run(params):
        writes.append(params["Key"])
        if writes.count("fleet/state") == 2:
            raise refusal("SlowDown", "PutObject")

    on_call(aws.s3, "PutObject", refuse_the_end_of_the_run)
    with pytest.raises(CloudError, match="SlowDown"):
        world.reconcile()
    s3_clock.ahead = LEASE_SECONDS + 2
    world.reconcile()
    assert world.shared.peek().not_ready == []
    assert list(world.reports.seen()) == []


@pytest.mark.parametrize("ahead", [-180, 180])
def test_a_host_whose_clock_is_wrong_terminates_no_worker(world, monkeypatch, ahead):
    world.ask(5)
    set_host_clock(monkeypatch, ahead)
    for _ in range(3):
        world.reconcile()
        (instance_id,) = world.active
        world.ready(instance_id)
    assert world.active == [instance_id]
    assert "stopped reporting" not in "".join(world.reasons)


# What is noted, and the loop around it


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
    calls = counted(aws, on_call)
    pauses = [autoscaler.look() for _ in range(6)]
    assert pauses == [60, 120, 240, LONGEST_IDLE_SECONDS, LONGEST_IDLE_SECONDS, LONGEST_IDLE_SECONDS]
    assert calls == {"GetQueueAttributes": 6, "DescribeInstances": 6, "ListObjectsV2": 6}
    assert 2 * 3 * 3600 / LONGEST_IDLE_SECONDS < 60, "calls an hour of two processes"


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


def test_a_process_that_nothing_woke_leaves_the_run_to_another_that_has_just_run(
    world, aws, on_call, s3_clock
):
    world.ask(5)
    one, other = world.controllers[0].autoscaler, world.controller().autoscaler
    other.reconcile()
    one.reconcile()
    calls = counted(aws, on_call)
    assert other.look() == BUSY_SECONDS
    assert calls == {"GetObject": 1}
    s3_clock.ahead = BUSY_SECONDS + 1
    other.look()
    assert calls["PutObject"] > 0


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
