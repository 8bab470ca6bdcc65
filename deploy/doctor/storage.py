"""Checks that the buckets and the queue exist and are configured correctly, and that this role may use them.

The checks change nothing. They read and delete objects that do not exist, and write an object with the digest
of another content, which S3 does not store. SQS is called with arguments that it refuses. This shows whether
the calls are allowed, provided that AWS checks permissions before arguments and contents.
"""

import json
import secrets
from base64 import b64encode
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import md5
from typing import Any

from botocore import xform_name

from cloud.clients import S3Client, SQSClient
from cloud.settings import WorkerSettings
from deploy.doctor.findings import Finding, Reply, attempt, denied, ok, unknown, wrong

WRONG_DIGEST = b64encode(md5(b"of another content", usedforsecurity=False).digest()).decode()
NOT_STORED = "BadDigest"  # S3's error code for an allowed write whose content does not have the given digest

PROVISION = "run `python -m cloud.provision` or `terraform apply`"

REFUSED: dict[str, dict[str, Any]] = {  # arguments with which the operations do nothing
    "SendMessageBatch": {"Entries": []},  # needs the permission sqs:SendMessage
    "ReceiveMessage": {"MaxNumberOfMessages": 0},
    "DeleteMessage": {"ReceiptHandle": "doctor"},
    "ChangeMessageVisibility": {"ReceiptHandle": "doctor", "VisibilityTimeout": 0},
}
WORKER_ONLY = {"ChangeMessageVisibility"}


@dataclass(frozen=True)
class BucketUse:
    """How the controller or a worker uses a bucket."""

    setting: str
    list: bool = False
    read: bool = False
    write: bool = False
    delete: bool = False
    prefix: str = ""
    """The prefix of the keys that it reads, writes and deletes."""


CONTROLLER = (
    BucketUse("INPUT_BUCKET", list=True, read=True, write=True, delete=True),
    BucketUse("OUTPUT_BUCKET", list=True, read=True, write=True, delete=True),
    BucketUse("STATE_BUCKET", list=True, read=True, write=True, delete=True, prefix="open/"),
)
WORKER = (
    BucketUse("INPUT_BUCKET", list=True, read=True),
    BucketUse("OUTPUT_BUCKET", write=True),
    BucketUse("STATE_BUCKET", write=True, prefix="workers/"),
)


def check_bucket(s3: S3Client, name: str, use: BucketUse) -> list[Finding]:
    arn, key = f"arn:aws:s3:::{name}", f"{use.prefix}doctor-{secrets.token_hex(8)}"
    listed = attempt(s3.head_bucket, Bucket=name) if use.list else None
    if listed and (missing := find_missing(listed, name, use.setting)):
        return [missing]
    found = []
    if listed and listed.denied:
        why = " (or the bucket is another account's): S3 answers 403 instead of 404 if an object is missing"
        found.append(denied("s3:ListBucket", arn, why))
    if use.read:
        read = attempt(s3.get_object, Bucket=name, Key=key)
        if read.denied and listed and listed.denied:
            found.append(unknown(f"s3:GetObject on {arn}/{use.prefix}*", "this needs s3:ListBucket"))
        else:
            found += read.unless_allowed("s3:GetObject", f"{arn}/{use.prefix}*")
    if use.write:
        written = attempt(
            s3.put_object, Bucket=name, Key=key, Body=b"", IfNoneMatch="*", ContentMD5=WRONG_DIGEST
        )
        missing = find_missing(written, name, use.setting)
        if missing and written.code != NOT_STORED:
            return [missing]
        if written.denied:
            found.append(denied("s3:PutObject", f"{arn}/{use.prefix}*"))
    if use.delete:
        deleted = attempt(s3.delete_object, Bucket=name, Key=key)
        found += deleted.unless_allowed("s3:DeleteObject", f"{arn}/{use.prefix}*")
    return found or [ok(f"{use.setting}: {name}")]


def find_missing(reply: Reply, name: str, setting: str) -> Finding | None:
    """Returns a finding if the reply says that the bucket is missing or elsewhere, or is an unknown error."""
    if reply.code in ("404", "NoSuchBucket"):
        return wrong(
            f"{setting}: there is no bucket {name}", f"{PROVISION}, or set {setting} to the right bucket"
        )
    if reply.code in ("301", "PermanentRedirect"):
        headers = reply.content.get("ResponseMetadata", {}).get("HTTPHeaders", {})
        region = headers.get("x-amz-bucket-region", "another region")
        return wrong(f"{setting}: the bucket {name} is in {region}", f"set AWS_REGION to {region}")
    if reply.code and not reply.denied:
        return unknown(f"{setting}: the bucket {name}", reply.message or reply.code)
    return None


def check_queue(sqs: SQSClient, settings: WorkerSettings, controller: bool) -> list[Finding]:
    name = settings.request_queue
    url = attempt(sqs.get_queue_url, QueueName=name)
    if not_allowed := url.unless_allowed("sqs:GetQueueUrl", f"the queue {name}"):
        return not_allowed
    if url.code:
        return [wrong(f"REQUEST_QUEUE: there is no queue {name} ({url.message})", PROVISION)]
    queue = url.content["QueueUrl"]
    actions = [action for action in REFUSED if not (controller and action in WORKER_ONLY)]
    found = [*check_queue_calls(sqs, queue, name, actions)]
    if controller:
        found += check_attributes(sqs, queue, settings)
    return found or [ok(f"REQUEST_QUEUE: {name}")]


def check_queue_calls(sqs: SQSClient, url: str, name: str, actions: Iterable[str]) -> Iterator[Finding]:
    for action in actions:
        reply = attempt(getattr(sqs, xform_name(action)), QueueUrl=url, **REFUSED[action])
        yield from reply.unless_allowed(f"sqs:{action.removesuffix('Batch')}", f"the queue {name}")


def check_attributes(sqs: SQSClient, url: str, settings: WorkerSettings) -> Iterator[Finding]:
    name = settings.request_queue
    reply = attempt(sqs.get_queue_attributes, QueueUrl=url, AttributeNames=["All"])
    if reply.code:
        yield reply.failure("sqs:GetQueueAttributes", f"the queue {name}")
        return
    attributes = reply.content["Attributes"]
    timeout = int(attributes["VisibilityTimeout"])
    if timeout != settings.visibility_timeout:
        yield wrong(
            f"the visibility timeout of {name} is {timeout} s, but VISIBILITY_TIMEOUT is"
            f" {settings.visibility_timeout}",
            f"set VISIBILITY_TIMEOUT={timeout}, or {PROVISION}",
        )
    if "RedrivePolicy" not in attributes:
        yield wrong(
            f"{name} has no redrive policy, so an image that crashes workers would be tried again for days",
            f"it needs {name}-dead as its dead-letter queue: {PROVISION}",
        )
        return
    policy = json.loads(attributes["RedrivePolicy"])
    if int(policy["maxReceiveCount"]) != settings.max_receives:
        yield wrong(
            f"{name} gives up on a message after {policy['maxReceiveCount']} receives, but MAX_RECEIVES is"
            f" {settings.max_receives}",
            f"set MAX_RECEIVES={policy['maxReceiveCount']}, or {PROVISION}",
        )
    yield from check_dead_letters(sqs, policy, int(attributes["MessageRetentionPeriod"]))


def check_dead_letters(sqs: SQSClient, policy: dict[str, str], kept: int) -> Iterator[Finding]:
    """Checks the dead-letter queue. `kept` is how long the request queue keeps a message, in seconds."""
    name = policy["deadLetterTargetArn"].rpartition(":")[2]
    url = attempt(sqs.get_queue_url, QueueName=name)
    if url.undecided:
        yield unknown(f"the dead-letter queue {name}", url.message or url.code)
        return
    if url.code:
        yield wrong(f"the dead-letter queue {name} cannot be found: {url.message or url.code}", PROVISION)
        return
    queue = url.content["QueueUrl"]
    yield from check_queue_calls(sqs, queue, name, ["ReceiveMessage", "DeleteMessage"])
    reply = attempt(sqs.get_queue_attributes, QueueUrl=queue, AttributeNames=["MessageRetentionPeriod"])
    if reply.code:
        yield reply.failure("sqs:GetQueueAttributes", f"the queue {name}")
    elif int(reply.content["Attributes"]["MessageRetentionPeriod"]) <= kept:
        yield wrong(
            f"{name} keeps messages no longer than the request queue. SQS counts their age from when they"
            " were first sent, so it would delete some before their images are answered",
            PROVISION,
        )
