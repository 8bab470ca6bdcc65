"""Each thing that can be wrong before a first run is found, and told with the way to mend it."""

import json
from datetime import UTC, datetime, timedelta

import boto3
import pytest
from botocore.exceptions import ClientError, EndpointConnectionError
from moto import mock_aws

from cloud.settings import ControllerSettings
from controller.container import launch_plan
from deploy.doctor import account, fleet, model, storage
from deploy.doctor.__main__ import main
from deploy.doctor.findings import ok, unknown
from tests.support.aws_errors import refusal
from worker.artefact import ClassifierError

CONTROLLERS_INPUT, CONTROLLERS_OUTPUT, CONTROLLERS_STATE = storage.CONTROLLER
WORKERS_INPUT, WORKERS_OUTPUT, WORKERS_STATE = storage.WORKER
REGIONS = ["eu-central-1", "us-east-1", "us-east-2", "us-west-2"]


def wrongs(findings) -> list[str]:
    """What is wrong and how to fix it, a line each."""
    found = [findings] if hasattr(findings, "state") else list(findings)
    return [f"{finding.what} → {finding.fix}" for finding in found if finding.state == "wrong"]


def states(findings) -> set[str]:
    found = [findings] if hasattr(findings, "state") else list(findings)
    return {finding.state for finding in found}


# Region, credentials, clock


def test_a_region_is_needed_and_must_be_one():
    assert "set AWS_REGION" in wrongs(account.check_region(None, REGIONS, None))[0]
    [finding] = wrongs(account.check_region("us-eats-1", REGIONS, None))
    assert "'us-eats-1'" in finding
    assert "us-east-1" in finding
    assert wrongs(account.check_region("us-east-1", REGIONS, None)) == []
    assert wrongs(account.check_region("moon-1", REGIONS, "http://127.0.0.1:4566")) == []


class Sts:
    """STS with one answer."""

    def __init__(self, code="", date=None):
        headers = {"date": f"{date:%a, %d %b %Y %H:%M:%S GMT}"} if date else {}
        self.code, self.metadata = code, {"ResponseMetadata": {"HTTPHeaders": headers}}

    def get_caller_identity(self):
        if self.code:
            error = {"Error": {"Code": self.code, "Message": f"{self.code} says AWS"}}
            raise ClientError({**error, **self.metadata}, "GetCallerIdentity")
        return {"Arn": "arn:aws:iam::123456789012:user/somebody", **self.metadata}


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("InvalidClientTokenId", "does not know this access key"),
        ("ExpiredToken", "expired"),
        ("SignatureDoesNotMatch", "secret key"),
        ("OtherTrouble", "OtherTrouble says AWS"),
    ],
)
def test_credentials_that_aws_refuses_are_told_with_the_reason(code, words):
    [finding] = wrongs(account.check_credentials(True, Sts(code, datetime.now(UTC))))
    assert words in finding
    assert "aws configure" in finding


def test_without_credentials_nothing_is_asked():
    assert "no AWS credentials" in wrongs(account.check_credentials(False, None))[0]


def test_an_aws_that_cannot_be_reached_is_no_matter_of_credentials():
    class Unreachable:
        def get_caller_identity(self):
            raise EndpointConnectionError(endpoint_url="https://sts.example")

    assert "cannot be reached" in wrongs(account.check_credentials(True, Unreachable()))[0]


@pytest.mark.parametrize(("seconds", "words"), [(400, "ahead of"), (-400, "behind")])
@pytest.mark.parametrize("code", ["", "RequestExpired"])
def test_a_clock_that_is_wrong_is_seen_in_any_reply(seconds, words, code):
    now = datetime.now(UTC)
    found = wrongs(account.check_credentials(True, Sts(code, now), now + timedelta(seconds=seconds)))
    assert any(f"{words} AWS's" in finding and "timedatectl" in finding for finding in found)
    assert wrongs(account.check_credentials(True, Sts("", now), now + timedelta(seconds=20))) == []


# Access


def test_a_controller_that_would_not_start_without_tokens_is_told_of(settings):
    def examined(**changes):
        return account.check_access(ControllerSettings(**{**settings.model_dump(), **changes}))

    nobody = examined(allow_anonymous="off", api_tokens="")
    assert (nobody.state, "API_TOKENS" in nobody.what) == ("unknown", True)
    assert "parameter store" in nobody.fix, "where the doctor does not see them"
    batches = examined(allow_anonymous="on", api_tokens="", batch_sources="s3://photos")
    assert (batches.state, "BATCH_SOURCES" in batches.what) == ("unknown", True)
    for changes in ({"allow_anonymous": "on"}, {"api_tokens": "anna:0123456789abcdef"}):
        found = examined(**changes)
        assert (found.state, "0123456789abcdef" in found.what) == ("ok", False)


# Buckets


def test_buckets_that_are_as_they_should_be_are_left_as_they_are(aws):
    def keys(name: str) -> list[str]:
        return [item["Key"] for item in aws.s3.list_objects_v2(Bucket=name).get("Contents", [])]

    buckets = {
        "INPUT_BUCKET": "test-input",
        "OUTPUT_BUCKET": "test-output",
        "STATE_BUCKET": "test-output-state",
    }
    for use in (*storage.CONTROLLER, *storage.WORKER):
        assert states(storage.check_bucket(aws.s3, buckets[use.setting], use)) == {"ok"}
    assert [keys(name) for name in buckets.values()] == [[], [], []]


@pytest.mark.parametrize(
    "use", [CONTROLLERS_INPUT, CONTROLLERS_STATE, WORKERS_INPUT, WORKERS_OUTPUT, WORKERS_STATE]
)
def test_a_bucket_that_is_not_there_is_told_with_how_to_make_it(aws, use):
    [finding] = wrongs(storage.check_bucket(aws.s3, "nowhere", use))
    assert "there is no bucket nowhere" in finding
    assert "cloud.provision" in finding


def test_a_bucket_in_another_region_is_told_with_that_region(aws, on_call):
    def moved(params):
        headers = {"ResponseMetadata": {"HTTPHeaders": {"x-amz-bucket-region": "eu-west-1"}}}
        raise ClientError({"Error": {"Code": "301", "Message": "Moved"}, **headers}, "HeadBucket")

    on_call(aws.s3, "HeadBucket", moved)
    [finding] = wrongs(storage.check_bucket(aws.s3, "test-input", CONTROLLERS_INPUT))
    assert "set AWS_REGION to eu-west-1" in finding


def test_a_missing_list_permission_is_told_by_what_it_does(aws, deny):
    """S3 says 403 for an object that is not there to somebody who may not list the bucket."""
    deny(aws.s3, "HeadBucket", "403")
    deny(aws.s3, "GetObject")
    [finding] = wrongs(storage.check_bucket(aws.s3, "test-input", WORKERS_INPUT))
    assert "s3:ListBucket on arn:aws:s3:::test-input" in finding
    assert "403 instead of 404" in finding


@pytest.mark.parametrize(
    ("operation", "permission"),
    [
        ("GetObject", "s3:GetObject on arn:aws:s3:::test-output/*"),
        ("PutObject", "s3:PutObject on arn:aws:s3:::test-output/*"),
        ("DeleteObject", "s3:DeleteObject on arn:aws:s3:::test-output/*"),
    ],
)
def test_a_missing_permission_on_objects_is_named(aws, deny, operation, permission):
    deny(aws.s3, operation)
    [finding] = wrongs(storage.check_bucket(aws.s3, "test-output", CONTROLLERS_OUTPUT))
    assert permission in finding


# The queue


def test_a_queue_that_is_as_it_should_be_is_left_as_it_is(aws, settings, queue):
    queue.send([f"{'0' * 32}/0000-cat.jpg"])
    assert states(storage.check_queue(aws.sqs, settings, controller=True)) == {"ok"}
    assert states(storage.check_queue(aws.sqs, settings, controller=False)) == {"ok"}
    [message] = queue.receive(10, 0)
    assert message.receives == 1


def test_a_queue_that_is_not_there_is_told_with_how_to_make_it(clients, settings):
    [finding] = wrongs(storage.check_queue(clients.sqs, settings, controller=False))
    assert "no queue test-requests" in finding
    assert "cloud.provision" in finding


@pytest.mark.parametrize("operation", storage.REFUSED)
@pytest.mark.parametrize("controller", [True, False])
def test_a_missing_permission_on_the_queue_is_named(aws, settings, deny, operation, controller):
    deny(aws.sqs, operation, "AccessDeniedException")
    found = wrongs(storage.check_queue(aws.sqs, settings, controller))
    if controller and operation in storage.WORKER_ONLY:
        assert found == []
    else:
        permission = operation.removesuffix("Batch")
        assert f"sqs:{permission} on the queue test-requests is not allowed" in found[0]


@pytest.mark.parametrize("operation", ["GetQueueUrl", "GetQueueAttributes"])
def test_a_queue_that_may_not_be_looked_at_is_told(aws, settings, deny, operation):
    deny(aws.sqs, operation)
    [finding] = wrongs(storage.check_queue(aws.sqs, settings, controller=True))
    assert f"sqs:{operation}" in finding


@pytest.fixture
def change(aws):
    """Changes attributes of a queue."""

    def change(name, **attributes):
        url = aws.sqs.get_queue_url(QueueName=name)["QueueUrl"]
        aws.sqs.set_queue_attributes(QueueUrl=url, Attributes=attributes)

    return change


def test_another_visibility_timeout_than_the_workers_is_wrong(aws, settings, change):
    change("test-requests", VisibilityTimeout="5")
    [finding] = wrongs(storage.check_queue(aws.sqs, settings, controller=True))
    assert "is 5 s" in finding
    assert "set VISIBILITY_TIMEOUT=5" in finding


def test_a_queue_without_a_redrive_policy_is_wrong(aws, settings, change):
    change("test-requests", RedrivePolicy="")
    [finding] = wrongs(storage.check_queue(aws.sqs, settings, controller=True))
    assert "no redrive policy" in finding
    assert "test-requests-dead" in finding


def test_another_number_of_receives_than_the_workers_is_wrong(aws, settings, change):
    url = aws.sqs.get_queue_url(QueueName="test-requests-dead")["QueueUrl"]
    arn = aws.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    change("test-requests", RedrivePolicy=json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": 9}))
    [finding] = wrongs(storage.check_queue(aws.sqs, settings, controller=True))
    assert "after 9 receives" in finding
    assert "set MAX_RECEIVES=9" in finding


def test_dead_letters_that_are_gone_too_soon_are_wrong(aws, settings, change):
    change("test-requests-dead", MessageRetentionPeriod="345600")
    [finding] = wrongs(storage.check_queue(aws.sqs, settings, controller=True))
    assert "test-requests-dead keeps messages no longer" in finding


def test_a_dead_letter_queue_that_is_gone_is_wrong(aws, settings):
    aws.sqs.delete_queue(QueueUrl=aws.sqs.get_queue_url(QueueName="test-requests-dead")["QueueUrl"])
    [finding] = wrongs(storage.check_queue(aws.sqs, settings, controller=True))
    assert "test-requests-dead cannot be found" in finding


# AMI and launch


def nowhere(region):
    return boto3.client("ec2", region_name=region)


@pytest.fixture
def ami(aws):
    return aws.ec2.register_image(Name="image-classifier", RootDeviceName="/dev/xvda")["ImageId"]


def test_an_ami_that_is_there_is_right(aws, ami):
    assert states(fleet.check_ami(aws.ec2, ami, nowhere)) == {"ok"}


def test_an_ami_that_is_nowhere_is_told_with_how_to_make_one(aws, on_reply):
    on_reply(aws.ec2, "DescribeRegions", lambda reply: reply.update(Regions=[]))
    [finding] = wrongs(fleet.check_ami(aws.ec2, "ami-00000000", nowhere))
    assert "there is no ami-00000000 in us-east-1" in finding
    assert "deploy.make_ami" in finding


@mock_aws
def test_an_ami_of_another_region_is_told_with_that_region(aws, on_reply):
    there = boto3.client("ec2", region_name="eu-west-1")
    ami = there.register_image(Name="image-classifier", RootDeviceName="/dev/xvda")["ImageId"]
    regions = [{"RegionName": name} for name in ("us-east-1", "us-west-2", "eu-west-1")]
    on_reply(aws.ec2, "DescribeRegions", lambda reply: reply.update(Regions=regions))
    [finding] = wrongs(fleet.check_ami(aws.ec2, ami, nowhere))
    assert f"{ami} is in eu-west-1, not in us-east-1" in finding
    assert "copy-image --source-region eu-west-1" in finding


def test_an_ami_that_is_not_ready_is_wrong(aws, ami, on_reply):
    on_reply(aws.ec2, "DescribeImages", lambda reply: reply["Images"][0].update(State="pending"))
    assert "is pending" in wrongs(fleet.check_ami(aws.ec2, ami, nowhere))[0]


def test_what_the_controller_may_not_ask_is_no_fault(aws, deny):
    """Its role has no ec2:DescribeImages: the dry run of the launch finds a missing AMI, too."""
    deny(aws.ec2, "DescribeImages", "UnauthorizedOperation")
    assert states(fleet.check_ami(aws.ec2, "ami-1", nowhere)) == {"unknown"}


@pytest.fixture
def plan(aws, settings):
    return launch_plan(settings, "us-east-1")


def test_a_dry_run_launches_nothing(aws, settings, plan):
    assert states(fleet.check_launch(aws.ec2, plan, settings.state_bucket)) == {"ok"}
    assert aws.ec2.describe_instances()["Reservations"] == []


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("InvalidAMIID.NotFound", "deploy.make_ami"),
        ("InvalidGroup.NotFound", "SECURITY_GROUP_IDS"),
        ("InvalidSubnetID.NotFound", "SUBNET_IDS"),
        ("InvalidKeyPair.NotFound", "KEY_NAME"),
        ("InvalidLaunchTemplateName.NotFoundException", "LAUNCH_TEMPLATE"),
        ("Unsupported", "INSTANCE_TYPE"),
        ("InvalidParameterValue", "InvalidParameterValue says AWS"),
    ],
)
def test_what_ec2_would_not_launch_is_told_with_the_setting_that_is_wrong(
    aws, settings, plan, deny, code, words
):
    deny(aws.ec2, "RunInstances", code)
    [finding] = wrongs(fleet.check_launch(aws.ec2, plan, settings.state_bucket))
    assert words in finding


@pytest.mark.parametrize("sources", [(), ("s3://lab",)])
def test_with_batches_both_markets_are_tried(aws, settings, plan, sources):
    changed = settings.model_copy(update={"batch_sources": sources})
    said = [finding.what for finding in fleet.check_launches(aws.ec2, plan, changed)]
    assert [line.rpartition(", ")[2] for line in said] == ["on-demand", "spot"][: 1 + len(sources)]


def test_an_account_that_cannot_have_spot_instances_yet_is_told_how(aws, settings, plan, deny):
    deny(aws.ec2, "RunInstances", "AuthFailure.ServiceLinkedRoleCreationNotPermitted")
    [finding] = wrongs(fleet.check_launch(aws.ec2, plan, settings.state_bucket, spot=True))
    assert "create-service-linked-role" in finding


def test_a_launch_that_is_not_allowed_is_told(aws, settings, plan, deny):
    deny(aws.ec2, "RunInstances", "UnauthorizedOperation")
    [finding] = wrongs(fleet.check_launch(aws.ec2, plan, settings.state_bucket))
    assert "ec2:RunInstances" in finding


def test_a_role_that_may_not_be_passed_on_is_told(aws, settings, on_call):
    def refuse(params):
        raise refusal("UnauthorizedOperation" if "IamInstanceProfile" in params else "DryRunOperation")

    on_call(aws.ec2, "RunInstances", refuse)
    plan = launch_plan(settings.model_copy(update={"instance_profile": "worker"}), "us-east-1")
    [finding] = wrongs(fleet.check_launch(aws.ec2, plan, settings.state_bucket))
    assert "iam:PassRole on the role of the instance profile worker" in finding


@pytest.mark.parametrize("operation", ["TerminateInstances", "CreateTags"])
def test_workers_that_may_not_be_handled_are_wrong_when_there_is_one_to_ask_about(
    aws, settings, deny, operation
):
    deny(aws.ec2, operation, "UnauthorizedOperation")
    assert states(fleet.check_instances(aws.ec2, settings.state_bucket)) == {"unknown"}
    tags = [{"Key": "fleet", "Value": settings.state_bucket}]
    aws.ec2.run_instances(
        ImageId="ami-12c6146b",
        MinCount=1,
        MaxCount=1,
        TagSpecifications=[{"ResourceType": "instance", "Tags": tags}],
    )
    [finding] = wrongs(fleet.check_instances(aws.ec2, settings.state_bucket))
    assert f"ec2:{operation}" in finding


@pytest.mark.parametrize("operation", ["StopInstances", "StartInstances"])
def test_with_a_warm_pool_workers_must_be_stopped_and_started(aws, settings, deny, operation):
    tags = [{"Key": "fleet", "Value": settings.state_bucket}]
    [launched] = aws.ec2.run_instances(
        ImageId="ami-12c6146b",
        MinCount=1,
        MaxCount=1,
        TagSpecifications=[{"ResourceType": "instance", "Tags": tags}],
    )["Instances"]
    assert wrongs(fleet.check_instances(aws.ec2, settings.state_bucket, warm_pool=True)) == []
    deny(aws.ec2, operation, "UnauthorizedOperation")
    [finding] = wrongs(fleet.check_instances(aws.ec2, settings.state_bucket, warm_pool=True))
    assert f"ec2:{operation} on the worker {launched['InstanceId']}" in finding
    assert wrongs(fleet.check_instances(aws.ec2, settings.state_bucket)) == [], "without a pool it needs none"
    [found] = aws.ec2.describe_instances()["Reservations"][0]["Instances"]
    assert found["State"]["Name"] == "running", "it is asked in a dry run"


def test_workers_that_may_not_be_listed_are_wrong(aws, settings, deny):
    deny(aws.ec2, "DescribeInstances", "UnauthorizedOperation")
    [finding] = wrongs(fleet.check_instances(aws.ec2, settings.state_bucket))
    assert "ec2:DescribeInstances" in finding


# Network


def test_a_region_without_a_default_vpc_is_wrong(aws, on_reply):
    assert states(fleet.check_network(aws.ec2)) == {"ok"}
    on_reply(aws.ec2, "DescribeVpcs", lambda reply: reply.update(Vpcs=[]))
    [finding] = wrongs(fleet.check_network(aws.ec2))
    assert "aws ec2 create-default-vpc" in finding


def test_an_account_is_examined_before_there_is_anything(aws, monkeypatch, capsys):
    for name in ("INPUT_BUCKET", "OUTPUT_BUCKET", "AMI_ID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setattr("sys.argv", ["doctor", "account"])
    main()
    said = capsys.readouterr().out
    assert "default VPC: vpc-" in said
    assert "quota" in said
    assert "INPUT_BUCKET" not in said


# Quota


class Quotas:
    """Service Quotas, which moto lacks, with one answer."""

    def __init__(self, vcpus=None, code=""):
        self.vcpus, self.code, self.asked = vcpus, code, []

    def get_service_quota(self, ServiceCode, QuotaCode):
        self.asked.append((ServiceCode, QuotaCode))
        if self.code:
            raise refusal(self.code, "GetServiceQuota")
        return {"Quota": {"Value": float(self.vcpus)}}


def quota(aws, settings, quotas, **update):
    return list(fleet.check_quota(aws.ec2, quotas, settings.model_copy(update=update)))


def test_a_quota_below_the_maximum_is_wrong(aws, settings):
    quotas = Quotas(vcpus=5)
    [finding] = wrongs(quota(aws, settings, quotas, instance_type=("c6i.large",), max_instances=10))
    assert "5 vCPUs on-demand, but 10 c6i.large (MAX_INSTANCES) need 20" in finding
    assert "set MAX_INSTANCES=2" in finding
    assert "--quota-code L-1216C47A --desired-value 20" in finding
    assert states(quota(aws, settings, Quotas(vcpus=20), instance_type=("c6i.large",), max_instances=10)) == {
        "ok"
    }


def test_a_quota_below_one_instance_calls_for_more(aws, settings):
    [finding] = wrongs(quota(aws, settings, Quotas(vcpus=1), instance_type=("c6i.large",), max_instances=10))
    assert "MAX_INSTANCES=0" not in finding
    assert "ask for more: `aws service-quotas" in finding


def test_spot_has_a_quota_of_its_own(aws, settings):
    quotas = Quotas(vcpus=100)
    quota(aws, settings, quotas, instance_type=("g4dn.xlarge",), market="spot")
    assert sorted(quotas.asked) == [("ec2", "L-3819A6DF"), ("ec2", "L-DB2E81BA")]


def test_a_quota_that_may_not_be_asked_is_no_fault(aws, settings):
    assert states(quota(aws, settings, Quotas(code="AccessDenied"), instance_type=("c6i.large",))) == {
        "unknown"
    }


def test_an_instance_type_that_does_not_exist_is_wrong(aws, settings):
    [finding] = wrongs(quota(aws, settings, Quotas(vcpus=100), instance_type=("c99.large",)))
    assert "INSTANCE_TYPE" in finding


# What AWS does not answer


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
    found = [fleet.check_ami(aws.ec2, ami, nowhere), fleet.check_launch(aws.ec2, plan, settings.state_bucket)]
    found += fleet.check_instances(aws.ec2, settings.state_bucket)
    assert "unknown" in states(found)
    assert wrongs(found) == []


# The model


class Slow:
    """A classifier whose batch takes so long; time passes in `clock` only."""

    model, engine, precision, batch = "resnet152 (imagenet)", "openvino", "int8", 5

    def __init__(self, seconds):
        self.seconds, self.time, self.batches = seconds, 0.0, []

    def prepare(self, image):
        return image

    def classify(self, tensors):
        self.batches.append(len(tensors))
        self.time += self.seconds
        return [[("tabby", 1.0)] for _ in tensors]


def test_a_model_that_is_too_slow_for_the_visibility_timeout_is_wrong():
    slow = Slow(seconds=30)
    [finding] = wrongs(model.check_speed(slow, 60, clock=lambda: slow.time))
    assert "takes 30.0 s" in finding
    assert "set VISIBILITY_TIMEOUT to 91 or more" in finding
    assert set(slow.batches) == {5}
    fast = model.check_speed(slow, 100, clock=lambda: slow.time)
    assert (fast.state, fast.what) == (
        "ok",
        "model: resnet152 (imagenet), int8 with openvino, 30.0 s for 5 images",
    )


def test_a_model_without_weights_is_wrong():
    def load():
        raise ClassifierError("The weights /nowhere cannot be read.")

    [finding] = wrongs(model.check_model(load, 60))
    assert "/nowhere cannot be read" in finding


# The command


def test_the_command_goes_no_further_without_a_region(settings_environment, capsys):
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE"):
        settings_environment.delenv(name, raising=False)
    settings_environment.setenv("AWS_CONFIG_FILE", "/nowhere")
    settings_environment.setattr("sys.argv", ["doctor"])
    assert main() == 1
    printed = capsys.readouterr().out
    assert printed.startswith("WRONG    no region is set\n         → set AWS_REGION")
    assert printed.endswith("1 problem found for the controller.\n")


def test_the_command_says_how_much_it_does_not_know(monkeypatch, capsys):
    found = [ok("the region"), unknown("the quota", "not allowed")]
    monkeypatch.setattr("deploy.doctor.__main__.examine", lambda tier, session: iter(found))
    monkeypatch.setattr("sys.argv", ["doctor"])
    assert main() == 0
    assert capsys.readouterr().out.endswith(
        "No problems found for the controller, but 1 could not be looked for.\n"
    )


def test_the_command_names_settings_that_are_missing(clients, settings_environment, capsys):
    settings_environment.setenv("AWS_REGION", "us-east-1")
    settings_environment.delenv("AWS_ENDPOINT_URL", raising=False)
    settings_environment.setattr("sys.argv", ["doctor", "worker"])
    assert main() == 1
    printed = capsys.readouterr().out
    assert "INPUT_BUCKET (" in printed
    assert "OUTPUT_BUCKET (" in printed
    assert printed.endswith("2 problems found for the worker.\n")
