"""What is wrong with the AMI, launches, the handling of workers or the network, and how to mend it."""

import boto3
import pytest
from moto import mock_aws

from controller.container import launch_plan
from deploy.doctor import fleet
from deploy.doctor.__main__ import main
from tests.support.aws_errors import refusal
from tests.support.findings import other_region, states, wrongs


def test_an_ami_that_is_there_is_right(aws, ami):
    assert states(fleet.check_ami(aws.ec2, ami, other_region)) == {"ok"}


def test_an_ami_that_is_nowhere_is_told_with_how_to_make_one(aws, on_reply):
    on_reply(aws.ec2, "DescribeRegions", lambda reply: reply.update(Regions=[]))
    [finding] = wrongs(fleet.check_ami(aws.ec2, "ami-00000000", other_region))
    assert "there is no ami-00000000 in us-east-1" in finding
    assert "deploy.make_ami" in finding


@mock_aws
def test_an_ami_of_another_region_is_told_with_that_region(aws, on_reply):
    there = boto3.client("ec2", region_name="eu-west-1")
    ami = there.register_image(Name="image-classifier", RootDeviceName="/dev/xvda")["ImageId"]
    regions = [{"RegionName": name} for name in ("us-east-1", "us-west-2", "eu-west-1")]
    on_reply(aws.ec2, "DescribeRegions", lambda reply: reply.update(Regions=regions))
    [finding] = wrongs(fleet.check_ami(aws.ec2, ami, other_region))
    assert f"{ami} is in eu-west-1, not in us-east-1" in finding
    assert "copy-image --source-region eu-west-1" in finding


def test_an_ami_that_is_not_ready_is_wrong(aws, ami, on_reply):
    on_reply(aws.ec2, "DescribeImages", lambda reply: reply["Images"][0].update(State="pending"))
    assert "is pending" in wrongs(fleet.check_ami(aws.ec2, ami, other_region))[0]


def test_what_the_controller_may_not_ask_is_no_fault(aws, deny):
    """Its role has no ec2:DescribeImages: the dry run of the launch finds a missing AMI, too."""
    deny(aws.ec2, "DescribeImages", "UnauthorizedOperation")
    assert states(fleet.check_ami(aws.ec2, "ami-1", other_region)) == {"unknown"}


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
