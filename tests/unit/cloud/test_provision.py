import json

import boto3
import pytest
from moto import mock_aws

from cloud import provision as module
from cloud.errors import CloudError
from cloud.provision import provision
from tests.support.aws_errors import refusal


def attributes(sqs, name):
    url = sqs.get_queue_url(QueueName=name)["QueueUrl"]
    return sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]


def test_it_makes_two_private_buckets(clients, settings):
    provision(clients.s3, clients.sqs, settings)
    for name in ("test-input", "test-output"):
        block = clients.s3.get_public_access_block(Bucket=name)["PublicAccessBlockConfiguration"]
        assert block == {
            "BlockPublicAcls": True,
            "IgnorePublicAcls": True,
            "BlockPublicPolicy": True,
            "RestrictPublicBuckets": True,
        }


def test_what_is_in_the_buckets_is_encrypted_and_forgotten_after_a_month(clients, settings):
    provision(clients.s3, clients.sqs, settings)
    for name in ("test-input", "test-output"):
        [encryption] = clients.s3.get_bucket_encryption(Bucket=name)["ServerSideEncryptionConfiguration"][
            "Rules"
        ]
        assert encryption["ApplyServerSideEncryptionByDefault"]["SSEAlgorithm"] == "AES256"
        [rule] = clients.s3.get_bucket_lifecycle_configuration(Bucket=name)["Rules"]
        assert (rule["Status"], rule["Filter"]["Prefix"], rule["Expiration"]["Days"]) == ("Enabled", "", 30)


def test_it_makes_the_queue_with_its_dead_letter_queue(clients, settings):
    provision(clients.s3, clients.sqs, settings)
    made, dead = attributes(clients.sqs, "test-requests"), attributes(clients.sqs, "test-requests-dead")
    assert json.loads(made["RedrivePolicy"]) == {
        "deadLetterTargetArn": dead["QueueArn"],
        "maxReceiveCount": settings.max_receives,
    }
    assert made["VisibilityTimeout"] == str(settings.visibility_timeout)
    assert dead["MessageRetentionPeriod"] == str(14 * 24 * 3600)


def test_dead_letters_outlive_the_messages_that_they_were(clients, settings):
    """SQS counts a dead letter's age from when it was first sent."""
    provision(clients.s3, clients.sqs, settings)
    kept = {
        name: int(attributes(clients.sqs, name)["MessageRetentionPeriod"])
        for name in ("test-requests", "test-requests-dead")
    }
    assert kept["test-requests-dead"] > kept["test-requests"]


def test_running_it_again_changes_nothing_and_loses_nothing(clients, settings):
    provision(clients.s3, clients.sqs, settings)
    clients.s3.put_object(Bucket="test-input", Key="photo", Body=b"x")
    url = clients.sqs.get_queue_url(QueueName="test-requests")["QueueUrl"]
    clients.sqs.send_message(QueueUrl=url, MessageBody="waiting")
    before = attributes(clients.sqs, "test-requests")
    provision(clients.s3, clients.sqs, settings)
    after = attributes(clients.sqs, "test-requests")
    assert {**after, "LastModifiedTimestamp": ""} == {**before, "LastModifiedTimestamp": ""}
    assert clients.s3.get_object(Bucket="test-input", Key="photo")["Body"].read() == b"x"


def test_running_it_again_brings_a_queue_to_new_settings(clients, settings):
    provision(clients.s3, clients.sqs, settings)
    provision(
        clients.s3, clients.sqs, settings.model_copy(update={"visibility_timeout": 99, "max_receives": 7})
    )
    now = attributes(clients.sqs, "test-requests")
    assert now["VisibilityTimeout"] == "99"
    assert json.loads(now["RedrivePolicy"])["maxReceiveCount"] == 7


@mock_aws
def test_in_another_region_than_the_first_too(settings):
    s3, sqs = boto3.client("s3", region_name="eu-central-1"), boto3.client("sqs", region_name="eu-central-1")
    provision(s3, sqs, settings)
    provision(s3, sqs, settings)
    assert s3.get_bucket_location(Bucket="test-input")["LocationConstraint"] == "eu-central-1"


def test_a_bucket_of_somebody_else_is_refused_by_name(clients, settings, on_call):
    def taken(params):
        raise clients.s3.exceptions.BucketAlreadyExists(
            refusal("BucketAlreadyExists").response, "CreateBucket"
        )

    def forbidden(params):
        raise refusal("403", "HeadBucket")

    on_call(clients.s3, "CreateBucket", taken)
    on_call(clients.s3, "HeadBucket", forbidden)
    with pytest.raises(CloudError, match="could not make the bucket test-input"):
        provision(clients.s3, clients.sqs, settings)


def test_the_command_says_what_is_ready(clients, settings_environment, capsys):
    settings_environment.setenv("INPUT_BUCKET", "mine-in")
    settings_environment.setenv("OUTPUT_BUCKET", "mine-out")
    settings_environment.setenv("AWS_REGION", "us-east-1")
    settings_environment.delenv("AWS_ENDPOINT_URL", raising=False)
    assert module.main() == 0
    said = capsys.readouterr().out
    assert said == "ready: buckets mine-in, mine-out, mine-out-state; queue image-requests\n"
    clients.s3.head_bucket(Bucket="mine-in")


def test_the_command_says_which_setting_is_missing(settings_environment, capsys):
    settings_environment.setenv("INPUT_BUCKET", "mine-in")
    assert module.main() == 1
    assert capsys.readouterr().err.startswith("OUTPUT_BUCKET (")


def test_whatever_does_not_come_by_tls_is_refused(aws, settings):
    for bucket in settings.buckets:
        [statement] = json.loads(aws.s3.get_bucket_policy(Bucket=bucket)["Policy"])["Statement"]
        assert (statement["Effect"], statement["Principal"], statement["Action"]) == ("Deny", "*", "s3:*")
        assert statement["Resource"] == [f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/*"]
        assert statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}


def test_with_sources_there_is_a_queue_of_slices_without_dead_letters(clients, settings):
    provision(clients.s3, clients.sqs, settings)
    assert len(clients.sqs.list_queues()["QueueUrls"]) == 2
    provision(clients.s3, clients.sqs, settings.model_copy(update={"batch_sources": ("s3://lab",)}))
    url = clients.sqs.get_queue_url(QueueName="test-requests-batches")["QueueUrl"]
    found = clients.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    assert found["MessageRetentionPeriod"] == str(14 * 86400)
    assert found["VisibilityTimeout"] == str(settings.visibility_timeout)
    assert "RedrivePolicy" not in found
