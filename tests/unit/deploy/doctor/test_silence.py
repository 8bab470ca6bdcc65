"""What AWS does not answer is taken neither for right nor for wrong."""

import pytest
from botocore.exceptions import EndpointConnectionError

from deploy.doctor import fleet, storage
from tests.support.findings import other_region, states, wrongs

CONTROLLERS_INPUT, CONTROLLERS_OUTPUT, CONTROLLERS_STATE = storage.CONTROLLER


@pytest.fixture
def silence(on_call, deny):
    """`silence(client, operation, how)`: the call shows nothing, because AWS is too busy or out of reach."""

    def silence(client, operation, how):
        if how == "throttled":
            return deny(client, operation, "ThrottlingException")

        def fail(params):
            raise EndpointConnectionError(endpoint_url="https://aws.example")

        return on_call(client, operation, fail)

    return silence


@pytest.mark.parametrize("how", ["throttled", "unreachable"])
@pytest.mark.parametrize(
    ("service", "operation"),
    [
        *(("s3", operation) for operation in ("HeadBucket", "GetObject", "PutObject", "DeleteObject")),
        *(("sqs", operation) for operation in (*storage.REFUSED, "GetQueueUrl", "GetQueueAttributes")),
    ],
)
def test_what_shows_nothing_of_storage_is_not_taken_for_right_or_wrong(
    aws, settings, silence, service, operation, how
):
    silence(getattr(aws, service), operation, how)
    found = storage.check_bucket(aws.s3, "test-output", CONTROLLERS_OUTPUT)
    found += storage.check_queue(aws.sqs, settings, controller=True)
    found += storage.check_queue(aws.sqs, settings, controller=False)
    assert "unknown" in states(found)
    assert wrongs(found) == []


@pytest.mark.parametrize("how", ["throttled", "unreachable"])
@pytest.mark.parametrize(
    "operation", ["DescribeImages", "RunInstances", "DescribeInstances", "TerminateInstances", "CreateTags"]
)
def test_what_shows_nothing_of_the_fleet_is_not_taken_for_right_or_wrong(
    aws, settings, ami, plan, silence, operation, how
):
    silence(aws.ec2, operation, how)
    found = [
        fleet.check_ami(aws.ec2, ami, other_region),
        fleet.check_launch(aws.ec2, plan, settings.state_bucket),
    ]
    found += fleet.check_instances(aws.ec2, settings.state_bucket)
    assert "unknown" in states(found)
    assert wrongs(found) == []
