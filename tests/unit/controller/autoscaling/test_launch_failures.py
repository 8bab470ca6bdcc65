"""What becomes of the images when EC2 launches nothing."""

import pytest
from botocore.exceptions import ReadTimeoutError
from botocore.parsers import ResponseParserError

from controller.autoscaling.instance_ledger import CAPACITY_AGAIN_SECONDS, LAUNCH_LAG_SECONDS
from tests.support.aws_errors import refusal


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


@pytest.mark.parametrize(
    "lost", [ReadTimeoutError(endpoint_url="https://ec2.amazonaws.com"), ResponseParserError("invalid XML")]
)
def test_a_launch_whose_reply_was_lost_is_not_made_twice(world, launches, aws, on_reply, hidden, lost):
    """EC2 may have launched them, and DescribeInstances shows them only later."""

    def lose(reply):
        raise lost

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


def test_a_controller_whose_new_policy_does_not_fit_its_old_settings_fails_no_image(
    world, aws, on_call, outputs
):
    """`terraform apply` changes both, but a controller has its new settings only when it is restarted."""
    forbidden = [True]

    def refuse(params):
        if forbidden:
            raise refusal("UnauthorizedOperation")

    on_call(aws.ec2, "RunInstances", refuse)
    request_id = world.ask(5)
    for _ in range(24):
        world.reconcile()
        world.pass_seconds(10)
    assert outputs.answered(request_id) == []
    forbidden.clear()
    world.pass_seconds(60)
    world.reconcile()
    assert len(world.active) == 1


def test_a_permission_that_is_missing_for_minutes_fails_with_its_name(world, aws, on_call, outputs):
    def refuse(params):
        raise refusal("UnauthorizedOperation")

    on_call(aws.ec2, "RunInstances", refuse)
    request_id = world.ask(2)
    for _ in range(45):
        world.reconcile()
        world.pass_seconds(10)
    assert len(outputs.answered(request_id)) == 2
    error = outputs.get_prediction(f"{request_id}/0000-cat.jpg").error
    assert error.code == "no_workers"
    assert error.message.startswith("Workers cannot be launched. Check the controller's permissions")


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
