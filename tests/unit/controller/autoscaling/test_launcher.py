import re
from contextlib import suppress
from threading import Thread

import pytest
from botocore.exceptions import ReadTimeoutError
from moto.ec2.exceptions import EC2ClientError
from moto.ec2.responses import EC2Response

from cloud.clock import now
from cloud.errors import CloudError
from cloud.image_id import ImageId
from cloud.prediction import Prediction
from controller.autoscaling.fleet_state import GIVEN_UP_SECONDS, LEASE_SECONDS, Busy
from controller.autoscaling.instance_ledger import CAPACITY_AGAIN_SECONDS, LAUNCH_LAG_SECONDS
from controller.autoscaling.launch_walk import BEST_CHOICE_AGAIN_SECONDS
from controller.autoscaling.planner import MAX_NOT_READY
from tests.support.aws_errors import refusal
from tests.support.launch_plan import plan
from tests.support.world import BOOT_TIMEOUT, MAXIMUM, AtomicBucket, Controller, World


@pytest.fixture
def world(aws, queue, inputs, outputs, state) -> World:
    return World(aws, queue, inputs, outputs, state)


# Scale-out


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

    class Dead(AtomicBucket):
        def write(self, key, body, **more):
            if launches:
                raise CloudError("this process is no more")
            return super().write(key, body, **more)

    state = Dead(aws.s3, world.state.name)
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


# Launches that fail


def test_no_capacity_is_tried_again_later_and_never_in_a_tight_loop(world, aws, on_call):
    tries = []

    def refuse(params):
        tries.append(1)
        raise refusal("InsufficientInstanceCapacity")

    on_call(aws.ec2, "RunInstances", refuse)
    world.ask(5)
    for _ in range(4):
        assert world.reconcile()
    assert len(tries) == 1
    assert "the next try to launch is at" in world.why
    assert "AWS says InsufficientInstanceCapacity" in world.shared.peek().no_capacity
    for n in range(2, 8):
        world.pass_seconds(CAPACITY_AGAIN_SECONDS + 1)
        world.reconcile()
        assert len(tries) == n, "waiting for capacity is not giving up"
    assert world.queue.counts().visible == 5


def test_capacity_that_comes_back_is_used(world, aws, on_call):
    tries = []

    def refuse(params):
        tries.append(1)
        if len(tries) == 1:
            raise refusal("InsufficientInstanceCapacity")

    on_call(aws.ec2, "RunInstances", refuse)
    world.ask(5)
    world.reconcile()
    world.pass_seconds(CAPACITY_AGAIN_SECONDS + 1)
    world.reconcile()
    assert len(world.active) == 1
    assert world.shared.peek().no_launch_before is None
    assert world.shared.peek().no_capacity == ""


def test_images_are_not_given_up_while_a_worker_is_there_to_take_them(world, aws, on_call, outputs):
    refused = []

    def refuse(params):
        refused.append(1)
        raise refusal("UnauthorizedOperation")

    world.ask(10)
    world.reconcile()
    world.ready(*world.active)
    on_call(aws.ec2, "RunInstances", refuse)
    request_id = world.ask(30)
    for _ in range(9):
        world.reconcile()
        world.pass_seconds(100)
    assert len(refused) > 3, "permission may come back"
    assert outputs.answered(request_id) == []


def test_a_launch_whose_reply_was_lost_is_not_made_twice(world, launches, aws, on_reply, hidden):
    """EC2 may have launched them, and DescribeInstances shows them only later."""

    def lose(reply):
        raise ReadTimeoutError(endpoint_url="https://ec2.amazonaws.com")

    on_reply(aws.ec2, "RunInstances", lose)
    hidden.add("all")
    world.ask(25)
    world.reconcile()
    assert "launch refused: AWS gave no usable answer" in world.why
    world.reconcile()
    hidden.clear()
    world.pass_seconds(LAUNCH_LAG_SECONDS + 1)
    world.reconcile()
    assert launches == [3]
    assert len(world.active) == 3
    assert world.names == ["worker-1", "worker-2", "worker-3"]


def test_a_fallback_to_other_types_ends_before_the_lease_does(world, aws, on_call):
    """Else the next holder would launch beside it."""
    world.fleet.plan = plan(instance_types=["a.big", "b.big", "c.big"])
    tries = []

    def refuse_slowly(params):
        tries.append(params["InstanceType"])
        world.controllers[0].clock += 5
        raise refusal("InsufficientInstanceCapacity")

    on_call(aws.ec2, "RunInstances", refuse_slowly)
    world.ask(5)
    world.reconcile()
    assert tries == ["a.big", "b.big"], "the second began 5 s into the lease, a third would have at 10 s"


# Boot failures


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


# Faults of EC2 that pass


@pytest.mark.parametrize(
    "code", ["InternalError", "Unavailable", "ServiceUnavailable", "RequestLimitExceeded", "Throttling"]
)
def test_an_outage_of_ec2_fails_no_image_for_minutes(world, aws, on_call, outputs, code):
    tries, out = [], [True]

    def refuse(params):
        tries.append(1)
        if out:
            raise refusal(code)

    on_call(aws.ec2, "RunInstances", refuse)
    request_id = world.ask(5)
    for _ in range(24):
        world.reconcile()
        world.pass_seconds(10)
    assert outputs.answered(request_id) == [], "four minutes are not enough to give up"
    assert 5 < len(tries) < 15, "the pauses grow"
    out.clear()
    world.pass_seconds(60)
    world.reconcile()
    assert len(world.active) == 1
    assert world.shared.peek().launch_failures == 0


def test_an_outage_that_does_not_end_is_told_after_minutes(world, aws, on_call, outputs):
    def refuse(params):
        raise refusal("InternalError")

    on_call(aws.ec2, "RunInstances", refuse)
    request_id = world.ask(1)
    passed = 0
    while not outputs.answered(request_id) and passed < 1000:
        world.reconcile()
        world.pass_seconds(10)
        passed += 10
    assert 300 <= passed < 420
    error = outputs.get_prediction(f"{request_id}/0000-cat.jpg").error
    assert error.message.startswith("Workers could not be launched for 5 minutes: ")
    assert error.message.endswith("AWS says InternalError.")


def test_an_outage_that_is_long_over_does_not_count_towards_the_next_one(world, aws, on_call, outputs):
    def refuse(params):
        raise refusal("InternalError")

    on_call(aws.ec2, "RunInstances", refuse)
    world.ask(1)
    world.reconcile()
    world.pass_seconds(3600)
    request_id = world.ask(1)
    for _ in range(10):
        world.reconcile()
        world.pass_seconds(10)
    assert outputs.answered(request_id) == []


@pytest.mark.parametrize(
    ("code", "setting"),
    [
        ("InvalidAMIID.NotFound", "AMI_ID"),
        ("InvalidAMIID.Malformed", "AMI_ID"),
        ("InvalidSubnetID.NotFound", "SUBNET_IDS"),
        ("InvalidGroup.NotFound", "SECURITY_GROUP_IDS"),
        ("InvalidKeyPair.NotFound", "KEY_NAME"),
        ("InvalidLaunchTemplateName.NotFoundException", "LAUNCH_TEMPLATE"),
        ("UnauthorizedOperation", "the controller's permissions"),
    ],
)
def test_what_cannot_mend_itself_fails_at_once_and_names_the_setting(
    world, aws, on_call, outputs, code, setting, caplog
):
    tries = []

    def refuse(params):
        tries.append(1)
        raise refusal(code)

    on_call(aws.ec2, "RunInstances", refuse)
    request_id = world.ask(12)
    world.reconcile()
    world.reconcile()
    assert len(tries) == 1
    assert len(outputs.answered(request_id)) == 12
    error = outputs.get_prediction(f"{request_id}/0003-cat.jpg").error
    assert error.code == "no_workers"
    assert error.message.startswith(f"Workers cannot be launched. Check {setting}")
    assert error.message.endswith(f"AWS says {code}.")
    assert f"{code} says AWS" in caplog.text
    assert world.queue.counts().backlog == 0


def test_a_quota_of_nothing_fails_at_once(world, aws, on_call, outputs):
    def refuse(params):
        error = refusal("VcpuLimitExceeded")
        error.response["Error"]["Message"] = (
            "You have requested more vCPU capacity than your current vCPU limit of 0 allows"
        )
        raise type(error)(error.response, "RunInstances")

    on_call(aws.ec2, "RunInstances", refuse)
    request_id = world.ask(1)
    world.reconcile()
    world.reconcile()
    error = outputs.get_prediction(f"{request_id}/0000-cat.jpg").error
    assert error.message.startswith("Workers cannot be launched. Check INSTANCE_TYPE")
    assert "ask AWS for a quota" in error.message


# The walk through the choices of a launch


def test_the_choices_are_gone_through_over_several_looks(world, aws, on_call):
    """On-demand comes last, and a look has time for a few of the 18 choices of spot before it."""
    types, subnets = ["a.big", "b.big", "c.big"], [f"subnet-{n}" for n in range(6)]
    world.fleet.plan = plan(market="spot", instance_types=types, subnet_ids=subnets)
    asked = []

    def refuse_spot(params):
        world.controllers[0].clock += 1.0
        asked.append((bool(params.get("InstanceMarketOptions")), params["InstanceType"], params["SubnetId"]))
        if asked[-1][0]:
            raise refusal("InsufficientInstanceCapacity")
        del params["SubnetId"]  # which moto does not have

    on_call(aws.ec2, "RunInstances", refuse_spot)
    world.ask(5)
    for _ in range(4):
        world.reconcile()
    assert len(world.active) == 1
    assert len(asked) == len(set(asked)) == 19, "none is tried twice"


def test_throttling_ends_the_walk_where_it_is(world, aws, on_call):
    world.fleet.plan = plan(instance_types=["a.big", "b.big", "c.big"])
    tried = []

    def refuse(params):
        tried.append(params["InstanceType"])
        if len(tried) == 1:
            raise refusal("InsufficientInstanceCapacity")
        if len(tried) == 2:
            raise refusal("RequestLimitExceeded")

    on_call(aws.ec2, "RunInstances", refuse)
    world.ask(5)
    world.reconcile()
    world.reconcile()
    assert tried == ["a.big", "b.big"]
    world.pass_seconds(3)
    world.reconcile()
    assert tried == ["a.big", "b.big", "b.big"]
    assert len(world.active) == 1


def test_the_best_choice_is_tried_again_after_a_while(world, aws, on_call):
    world.fleet.plan = plan(instance_types=["a.big", "b.big"])
    tried, out = [], [True]

    def refuse(params):
        tried.append(params["InstanceType"])
        if out and params["InstanceType"] == "a.big":
            raise refusal("InsufficientInstanceCapacity")

    on_call(aws.ec2, "RunInstances", refuse)
    for _ in range(2):
        world.ask(10)
        world.reconcile()
    assert tried == ["a.big", "b.big", "b.big"], "what has just had no capacity is not asked for again"
    out.clear()
    world.pass_seconds(BEST_CHOICE_AGAIN_SECONDS + 1)
    world.ready(*world.active)
    world.ask(10)
    world.reconcile()
    assert tried[3:] == ["a.big"]


def test_when_no_choice_has_capacity_the_next_walk_begins_with_the_best(world, aws, on_call):
    world.fleet.plan = plan(instance_types=["a.big", "b.big"])
    tried = []

    def refuse(params):
        tried.append(params["InstanceType"])
        raise refusal("InsufficientInstanceCapacity")

    on_call(aws.ec2, "RunInstances", refuse)
    world.ask(5)
    for _ in range(2):
        world.reconcile()
        world.reconcile()
        world.pass_seconds(CAPACITY_AGAIN_SECONDS + 1)
    assert tried == ["a.big", "b.big", "a.big", "b.big"]


# Client tokens


@pytest.fixture
def once_per_token(aws, monkeypatch):
    """EC2 launches once for each client token, and refuses the token with other parameters; moto does not."""
    replies, run = {}, EC2Response.run_instances

    def run_once(self):
        asked = dict(self.params)
        token = asked.pop("ClientToken")
        before, reply = replies.get(token, (asked, None))
        if asked != before:
            raise EC2ClientError("IdempotentParameterMismatch", "other parameters")
        replies[token] = asked, reply or run(self)
        return replies[token][1]

    monkeypatch.setattr(EC2Response, "run_instances", run_once)


def test_a_launch_whose_reply_was_lost_is_repeated_as_it_was(
    world, aws, once_per_token, on_call, on_reply, hidden
):
    """The instances are known a moment later, though DescribeInstances does not show them."""
    asked, lost = [], []

    def lose(reply):
        if not lost:
            lost.append(1)
            raise ReadTimeoutError(endpoint_url="https://ec2.amazonaws.com")

    on_call(aws.ec2, "RunInstances", lambda params: asked.append(dict(params)))
    on_reply(aws.ec2, "RunInstances", lose)
    hidden.add("all")
    world.ask(25)
    world.reconcile()
    world.ask(20)
    world.pass_seconds(3)
    world.reconcile()
    assert [params["MaxCount"] for params in asked] == [3, 3]
    assert asked[0]["ClientToken"] == asked[1]["ClientToken"]
    assert len(world.shared.peek().launched) == 3
    world.reconcile()
    assert asked[2]["MaxCount"] == 2, "what was asked for meanwhile is a launch of its own"
    assert asked[2]["ClientToken"] != asked[1]["ClientToken"]
    hidden.clear()
    assert len(world.active) == 5


def test_the_lost_launch_of_a_process_that_died_is_not_made_again(
    world, aws, once_per_token, on_reply, hidden, s3_clock
):
    """Its state was never written, and DescribeInstances does not show what it launched."""

    class Dead(AtomicBucket):
        def write(self, key, body, **more):
            if died:
                raise CloudError("this process is no more")
            return super().write(key, body, **more)

    died = []
    state = Dead(aws.s3, world.state.name)
    dying = Controller(world.queue, world.fleet, state, world.inputs, world.outputs)
    world.ask(25, dying)
    on_reply(aws.ec2, "RunInstances", lambda reply: died.append(1))
    hidden.add("all")
    with pytest.raises(CloudError, match="no more"):
        dying.reconcile()
    world.controllers[0].requests |= dying.requests
    s3_clock.ahead = LEASE_SECONDS + 2
    world.ask(10)
    world.reconcile()
    world.reconcile()
    hidden.clear()
    assert len(world.active) == 3, "the token was used with another number of instances"
    world.pass_seconds(LAUNCH_LAG_SECONDS + 1)
    world.reconcile()
    assert len(world.active) == 4


def test_a_launch_by_a_process_whose_lease_has_ended_is_harmless(
    world, aws, once_per_token, on_call, s3_clock
):
    other, paused = world.controller(), []

    def pause(params):
        if not paused:
            paused.append(1)
            s3_clock.ahead = LEASE_SECONDS + 2
            other.reconcile()

    on_call(aws.ec2, "RunInstances", pause)
    world.ask(25)
    other.requests |= world.controllers[0].requests
    world.reconcile()
    assert len(world.active) == 3


def test_a_launch_that_was_repeated_after_its_instances_have_ended_is_made_anew(
    world, aws, once_per_token, on_call
):
    tokens = []

    def refuse(params):
        tokens.append(params["ClientToken"])
        if len(tokens) == 1:
            raise refusal("IdempotentInstanceTerminated")

    on_call(aws.ec2, "RunInstances", refuse)
    world.ask(5)
    world.reconcile()
    world.reconcile()
    assert len(set(tokens)) == 2
    assert len(world.active) == 1
