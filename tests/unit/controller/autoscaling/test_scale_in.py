"""When instances are terminated and when not, and what a run mends meanwhile."""

from datetime import timedelta

import pytest

from cloud.errors import CloudError
from cloud.image_id import ImageId
from cloud.prediction import Prediction
from controller.autoscaling.autoscaler import SWEEP_AFTER, TOO_LATE
from controller.autoscaling.fleet_state import NOT_TRIED_AGAIN, TERMINATE_AGAIN
from controller.autoscaling.instance_ledger import CAPACITY_AGAIN_SECONDS
from controller.autoscaling.shared_state import ACT_BEFORE_SECONDS, LEASE_SECONDS
from controller.image_requests.recovery import ABANDONED_AFTER, OVERTAKEN_AFTER, RESEND_AFTER, WATCH_FOR
from tests.support.aws_errors import refusal
from tests.support.clocks import set_host_clock
from tests.support.submissions import bodies
from tests.support.threads import join_threads
from tests.support.world import BOOT_TIMEOUT, MAXIMUM, PER_INSTANCE


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


def test_what_cannot_be_noted_for_the_topic_keeps_no_instance(world, work):
    """The role of a controller may lack the permission for notices, while all else is permitted."""
    world.ask(5, world.controller())  # whose process has died
    world.reconcile()
    work()

    def refuse(marker):
        raise CloudError("notices/ may not be written")

    recovery = world.controllers[0].autoscaler.recovery
    recovery.take_over = refuse
    world.pass_seconds(ABANDONED_AFTER.total_seconds() + 1)
    world.reconcile()
    assert world.active == []
    assert len(world.markers) == 1, "it is still to be told"
    recovery.take_over = lambda marker: None
    world.reconcile()
    assert world.markers == []


def test_a_dead_letter_queue_that_somebody_has_deleted_keeps_no_instance(world, queue, aws, work):
    """SQS lets it be deleted although the redrive policy still names it."""
    queue.dead_letters()
    aws.sqs.delete_queue(QueueUrl=aws.sqs.get_queue_url(QueueName=f"{queue.name}-dead")["QueueUrl"])
    world.ask(5, world.controller())  # whose process has died
    world.reconcile()
    work()
    world.pass_seconds(ABANDONED_AFTER.total_seconds() + 1)
    world.reconcile()
    assert (world.active, world.markers) == ([], [])


def test_what_is_above_the_maximum_is_terminated_the_newest_first(world, aws):
    world.fleet.launch(MAXIMUM + 2, "", "t" * 32)
    oldest = world.active[:MAXIMUM]
    world.ask(100)
    world.reconcile()
    assert world.active == oldest
    assert "2 instances more than the maximum" in world.reasons


def test_an_instance_that_ec2_does_not_let_go_stops_nothing_else(world, aws, work, launches):
    request_id = world.ask(15)
    world.reconcile()
    protected = world.active[1]
    aws.ec2.modify_instance_attribute(InstanceId=protected, DisableApiTermination={"Value": True})
    world.pass_seconds(BOOT_TIMEOUT + 1)
    world.reconcile()
    assert len(world.active) == 3, "both are replaced"
    assert "EC2 lets only 1 of 2 instances be terminated" in world.reasons
    for _ in range(3):
        world.reconcile()
    assert len(world.shared.peek().not_ready) == 2
    work()
    world.close(request_id)
    world.reconcile()
    assert world.active == [protected]


def test_ec2_is_asked_now_and_then_to_terminate_what_it_has_not_let_go(world, aws, launches, on_call):
    """Whoever has protected the instance may let it go later, also while images wait."""
    world.ask(1)
    world.reconcile()
    protected, *_ = world.active
    aws.ec2.modify_instance_attribute(InstanceId=protected, DisableApiTermination={"Value": True})
    world.pass_seconds(BOOT_TIMEOUT + 1)
    calls = []
    on_call(aws.ec2, "TerminateInstances", calls.append)
    for _ in range(3):
        world.reconcile()
    assert len(calls) == 1
    aws.ec2.modify_instance_attribute(InstanceId=protected, DisableApiTermination={"Value": False})
    world.pass_seconds(TERMINATE_AGAIN.total_seconds())
    world.reconcile()
    assert protected not in world.active


def test_one_instance_among_many_that_ec2_does_not_let_go_costs_few_calls(world, aws, on_call):
    """EC2 allows two such calls a second, and the run must end before its lease does."""
    launched = world.fleet.launch(32, "", "t" * 32)
    aws.ec2.modify_instance_attribute(InstanceId=launched[7], DisableApiTermination={"Value": True})
    calls = []
    on_call(aws.ec2, "TerminateInstances", calls.append)
    assert set(world.fleet.terminate(launched).changed) == {*launched} - {launched[7]}
    assert len(calls) <= 11


def test_many_instances_that_ec2_does_not_let_go_leave_time_to_note_that(world, aws, on_call):
    """Else each run would try the same again after its lease has ended, and never launch others."""
    controller = world.controllers[0]
    world.ask(MAXIMUM * PER_INSTANCE)
    world.reconcile()
    world.pass_seconds(BOOT_TIMEOUT + 1)
    taken_at, calls = controller.clock, []

    def refuse(params):
        calls.append(controller.clock - taken_at)
        controller.clock += 3.0
        raise refusal("OperationNotPermitted", "TerminateInstances")

    on_call(aws.ec2, "TerminateInstances", refuse)
    controller.autoscaler.reconcile()
    assert max(calls) < ACT_BEFORE_SECONDS
    assert all(launched.protected_until for launched in world.shared.peek().launched.values())


def test_an_instance_for_which_a_run_had_no_time_is_tried_again_soon(world, aws, on_call):
    """Others that EC2 refuses took that time. The instance costs money for as long as it is not tried."""
    controller = world.controllers[0]
    world.ask(MAXIMUM * PER_INSTANCE)
    world.reconcile()
    protected, *others = world.active
    aws.ec2.modify_instance_attribute(InstanceId=protected, DisableApiTermination={"Value": True})
    world.pass_seconds(BOOT_TIMEOUT + 1)
    calls = []

    def take_long(params):
        calls.append(params)
        controller.clock += 3.0 if len(calls) < 4 else 0.1

    on_call(aws.ec2, "TerminateInstances", take_long)
    controller.autoscaler.reconcile()
    assert set(others) & set(world.active), "the run had time for all"
    world.pass_seconds(NOT_TRIED_AGAIN.total_seconds())
    controller.autoscaler.reconcile()
    assert not set(others) & set(world.active)
    assert len(calls) == 4, "what EC2 has refused is not tried again so soon"


def test_an_instance_that_ec2_does_not_know_everywhere_yet_is_tried_again_soon(world, aws, work, on_call):
    """DescribeInstances shows a new instance, while another part of EC2 says that there is none."""
    request_id = world.ask(1)
    world.reconcile()
    work()
    world.close(request_id)
    known = []

    def refuse(params):
        if not known:
            raise refusal("InvalidInstanceID.NotFound", "TerminateInstances")

    on_call(aws.ec2, "TerminateInstances", refuse)
    world.reconcile()
    assert len(world.active) == 1
    known.append(1)
    world.pass_seconds(NOT_TRIED_AGAIN.total_seconds())
    world.reconcile()
    assert world.active == []


def test_terminations_that_are_forbidden_hold_up_no_launch(world, aws, launches, on_call):
    """Else images would wait, and nobody would be told why."""

    def refuse(params):
        raise refusal("UnauthorizedOperation", "TerminateInstances")

    on_call(aws.ec2, "TerminateInstances", refuse)
    world.ask(1)
    world.reconcile()
    world.pass_seconds(BOOT_TIMEOUT + 1)
    world.reconcile()
    assert launches == [1, 1]
    assert "EC2 lets only 0 of 1 instances be terminated" in world.reasons


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
        image_id = ImageId(f"{request_id}/0000-cat.jpg")
        world.outputs.put_prediction(Prediction.classified(image_id, [("cat", 0.9)], instance_id="i-1"))
        world.reconcile()
        join_threads("sweep")
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


def test_booting_instances_whose_termination_ec2_does_not_confirm_do_not_count_as_failures(
    world, work, aws, on_reply
):
    """Else the next request would be answered failed, although nothing is wrong with the workers."""
    lost = [1]

    def lose_the_first_reply(reply):
        if lost:
            lost.pop()
            raise refusal("InternalError", "TerminateInstances")

    request_id = world.ask(3 * PER_INSTANCE)
    world.reconcile()
    work()
    world.close(request_id)
    on_reply(aws.ec2, "TerminateInstances", lose_the_first_reply)
    with pytest.raises(CloudError, match="InternalError"):
        world.reconcile()
    assert world.active == []
    world.reconcile()
    world.ask(1)
    world.reconcile()
    assert len(world.active) == 1


def test_booting_instances_that_a_process_terminated_before_it_died_do_not_count_as_failures(
    world, work, aws, on_call, s3_clock
):
    request_id = world.ask(3 * PER_INSTANCE)
    world.reconcile()
    work()
    world.close(request_id)
    terminated = []

    def refuse_the_end_of_the_run(params):
        if params["Key"] == "fleet/state" and terminated:
            raise refusal("SlowDown", "PutObject")

    on_call(aws.ec2, "TerminateInstances", terminated.append)
    on_call(aws.s3, "PutObject", refuse_the_end_of_the_run)
    with pytest.raises(CloudError, match="SlowDown"):
        world.reconcile()
    assert world.active == []
    terminated.clear()
    s3_clock.ahead = LEASE_SECONDS + 2
    world.reconcile()
    assert world.shared.peek().not_ready == []


def test_instances_that_were_never_ready_count_although_ec2_does_not_confirm_their_termination(
    world, aws, on_reply
):
    def lose_the_reply(reply):
        raise refusal("InternalError", "TerminateInstances")

    world.ask(2 * PER_INSTANCE)
    world.reconcile()
    late = world.active
    world.pass_seconds(BOOT_TIMEOUT + 1)
    on_reply(aws.ec2, "TerminateInstances", lose_the_reply)
    with pytest.raises(CloudError, match="InternalError"):
        world.reconcile()
    world.reconcile()
    assert world.shared.peek().not_ready == late


def test_a_clock_that_is_set_between_two_runs_terminates_no_worker(world, monkeypatch):
    world.ask(5)
    world.reconcile()
    world.ready(*world.active)
    world.reconcile()
    kept = world.active
    set_host_clock(monkeypatch, ahead=3600)
    world.reconcile()
    assert world.active == kept


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
