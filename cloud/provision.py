"""Creates the three private buckets, and the request queue with its dead-letter queue.

If BATCH_SOURCES is set, it also creates the queue of slices.

    python -m cloud.provision

may be run at any time, against AWS or a local endpoint. Buckets and queues that exist already get the same
settings, and nothing is deleted. deploy/terraform creates the same resources, and all others that are needed
on AWS.
"""

import json
import sys
from typing import Any

from cloud.batches.store import queue_name
from cloud.clients import S3Client, SQSClient, make_worker_clients
from cloud.errors import CloudError, NotFound, calling
from cloud.settings import SettingsError, WorkerSettings

DEAD_LETTER_SECONDS = 14 * 24 * 3600  # how long SQS keeps a dead letter; the maximum
MESSAGE_SECONDS = 4 * 24 * 3600  # how long SQS keeps a message; the default
BATCH_SECONDS = 14 * 24 * 3600  # how long SQS keeps the message of a slice; the maximum
OBJECT_DAYS = 30  # the age at which S3 deletes an object
MAX_MESSAGE_BYTES = 262144  # the default of Terraform


def provision(s3: S3Client, sqs: SQSClient, settings: WorkerSettings) -> None:
    """Creates or updates everything. Raises CloudError when AWS fails."""
    for bucket in settings.buckets:
        make_private_bucket(s3, bucket)
    dead_letters = make_queue(
        sqs, dead_letter_queue(settings.request_queue), MessageRetentionPeriod=DEAD_LETTER_SECONDS
    )
    make_queue(
        sqs,
        settings.request_queue,
        MessageRetentionPeriod=MESSAGE_SECONDS,
        VisibilityTimeout=settings.visibility_timeout,
        RedrivePolicy=json.dumps(
            {"deadLetterTargetArn": queue_arn(sqs, dead_letters), "maxReceiveCount": settings.max_receives}
        ),
    )
    if settings.batch_sources:
        make_queue(
            sqs,
            queue_name(settings.request_queue),
            MessageRetentionPeriod=BATCH_SECONDS,
            VisibilityTimeout=settings.visibility_timeout,
        )


def dead_letter_queue(request_queue: str) -> str:
    """Returns the name of the dead-letter queue."""
    return f"{request_queue}-dead"


def make_private_bucket(s3: S3Client, name: str) -> None:
    """Creates the bucket unless it exists. Blocks public access, and lets old objects expire."""
    with calling(f"make the bucket {name}"):
        region = s3.meta.region_name
        try:
            where: dict[str, Any] = {"CreateBucketConfiguration": {"LocationConstraint": region}}
            s3.create_bucket(Bucket=name, **({} if region == "us-east-1" else where))
        except (s3.exceptions.BucketAlreadyOwnedByYou, s3.exceptions.BucketAlreadyExists):
            s3.head_bucket(Bucket=name)
        s3.put_public_access_block(
            Bucket=name,
            PublicAccessBlockConfiguration={
                "BlockPublicAcls": True,
                "IgnorePublicAcls": True,
                "BlockPublicPolicy": True,
                "RestrictPublicBuckets": True,
            },
        )
        arn = f"arn:aws:s3:::{name}"
        s3.put_bucket_policy(Bucket=name, Policy=json.dumps(only_with_tls("s3", [arn, f"{arn}/*"])))
        s3.put_bucket_encryption(
            Bucket=name,
            ServerSideEncryptionConfiguration={
                "Rules": [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}]
            },
        )
        expiration_rule: Any = {
            "ID": "forget",
            "Status": "Enabled",
            "Filter": {"Prefix": ""},
            "Expiration": {"Days": OBJECT_DAYS},
            "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 1},
        }
        s3.put_bucket_lifecycle_configuration(
            Bucket=name, LifecycleConfiguration={"Rules": [expiration_rule]}
        )


def only_with_tls(service: str, resource: str | list[str]) -> dict[str, Any]:
    """Returns the policy of a bucket or a queue that refuses whatever does not come by TLS.

    `resource` are the ARNs of what it is about.
    """
    statement = {
        "Sid": "OnlyWithTls",
        "Effect": "Deny",
        "Principal": "*",
        "Action": f"{service}:*",
        "Resource": resource,
        "Condition": {"Bool": {"aws:SecureTransport": "false"}},
    }
    return {"Version": "2012-10-17", "Statement": [statement]}


def make_queue(sqs: SQSClient, name: str, **attributes: str | int) -> str:
    """Creates the queue unless it exists, and sets its attributes. Returns its URL."""
    common = {"MaximumMessageSize": MAX_MESSAGE_BYTES, "SqsManagedSseEnabled": "true"}
    text: dict[Any, str] = {key: str(value) for key, value in (common | attributes).items()}
    try:
        with calling(f"find the queue {name}"):
            url = sqs.get_queue_url(QueueName=name)["QueueUrl"]
    except NotFound:
        with calling(f"make the queue {name}"):
            url = sqs.create_queue(QueueName=name, Attributes=text)["QueueUrl"]
    arn = queue_arn(sqs, url)
    with calling(f"set the attributes of the queue {name}"):
        policy = json.dumps(only_with_tls("sqs", arn))
        sqs.set_queue_attributes(QueueUrl=url, Attributes=text | {"Policy": policy})
    return url


def queue_arn(sqs: SQSClient, url: str) -> str:
    with calling(f"read the ARN of {url}"):
        return sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]


def main() -> int:
    try:
        settings = WorkerSettings.from_environment()
        clients = make_worker_clients()
        provision(clients.s3, clients.sqs, settings)
    except (SettingsError, CloudError) as error:
        print(error, file=sys.stderr)
        return 1
    print(f"ready: buckets {', '.join(settings.buckets)}; queue {settings.request_queue}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
