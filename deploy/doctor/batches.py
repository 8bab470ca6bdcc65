"""Checks that batches can read their sources, note what they do, and use the queue of slices.

The checks change nothing, like those of `storage.py`. Of each source, they list one object and read its first
byte.
"""

from collections.abc import Iterator

from cloud.batches.store import BATCHES, OPEN, queue_name
from cloud.clients import Clients, S3Client, SQSClient
from cloud.s3_url import bucket_and_key_of
from cloud.settings import WorkerSettings
from deploy.doctor.findings import Finding, Reply, attempt, denied, ok, unknown, wrong
from deploy.doctor.storage import PROVISION, REFUSED, BucketUse, check_bucket, check_queue_calls

CONTROLLER = (
    BucketUse("STATE_BUCKET", write=True, prefix=BATCHES),
    BucketUse("STATE_BUCKET", write=True, delete=True, prefix=OPEN),
)
WORKER = (BucketUse("STATE_BUCKET", list=True, read=True, prefix=BATCHES),)
READABLE = {"", "InvalidRange", "InvalidObjectState"}
"""The codes of a GET that is allowed: an empty object has no first byte, and an archive must be restored."""
ANOTHERS = " (if the bucket is another account's, its policy must allow it as well)"


def check_batches(clients: Clients, settings: WorkerSettings, *, controller: bool) -> Iterator[Finding]:
    for source in settings.batch_sources:
        yield check_source(clients.s3, source)
    for use in CONTROLLER if controller else WORKER:
        found = check_bucket(clients.s3, settings.state_bucket, use)
        yield from (finding for finding in found if finding.state != "ok")
    yield from check_slices(clients.sqs, settings, controller)


def check_source(s3: S3Client, source: str) -> Finding:
    """Checks that the source can be listed, and that its first object can be read."""
    bucket, prefix = bucket_and_key_of(source)
    listed = attempt(s3.list_objects_v2, Bucket=bucket, Prefix=prefix, MaxKeys=1)
    if listed.code == "NoSuchBucket":
        return wrong(f"BATCH_SOURCES: there is no bucket {bucket}", "correct its name in BATCH_SOURCES")
    if listed.denied:
        return denied("s3:ListBucket", f"arn:aws:s3:::{bucket}", ANOTHERS)
    if listed.code:
        return unknown(f"BATCH_SOURCES: {source}", listed.message or listed.code)
    objects = listed.content.get("Contents", [])
    if not objects:
        return ok(f"BATCH_SOURCES: {source} can be listed, and has no objects yet")
    key = objects[0]["Key"]
    read = attempt(s3.get_object, Bucket=bucket, Key=key, Range="bytes=0-0")
    if read.code in READABLE:
        return ok(f"BATCH_SOURCES: {source}")
    return cannot_read(read, source, f"arn:aws:s3:::{bucket}/{key}")


def cannot_read(reply: Reply, source: str, arn: str) -> Finding:
    if "kms" in f"{reply.code} {reply.message}".lower():
        return wrong(
            f"{arn} is encrypted with a key that this role may not use: {reply.message}",
            "allow kms:Decrypt for the key, both in a policy of this role and in the policy of the key",
        )
    if reply.denied:
        return denied("s3:GetObject", arn, ANOTHERS)
    return unknown(f"BATCH_SOURCES: {source}", reply.message or reply.code)


def check_slices(sqs: SQSClient, settings: WorkerSettings, controller: bool) -> Iterator[Finding]:
    """Checks the queue of slices."""
    name = queue_name(settings.request_queue)
    url = attempt(sqs.get_queue_url, QueueName=name)
    if not_allowed := url.unless_allowed("sqs:GetQueueUrl", f"the queue {name}"):
        yield from not_allowed
        return
    if url.code:
        yield wrong(f"BATCH_SOURCES is set, but there is no queue {name} ({url.message})", PROVISION)
        return
    queue = url.content["QueueUrl"]
    found = [*check_queue_calls(sqs, queue, name, ["SendMessageBatch"] if controller else REFUSED)]
    if controller:
        found += check_attributes(sqs, queue, name)
    yield from found or [ok(f"queue of slices: {name}")]


def check_attributes(sqs: SQSClient, url: str, name: str) -> Iterator[Finding]:
    reply = attempt(sqs.get_queue_attributes, QueueUrl=url, AttributeNames=["All"])
    if reply.code:
        yield reply.failure("sqs:GetQueueAttributes", f"the queue {name}")
    elif "RedrivePolicy" in reply.content["Attributes"]:
        yield wrong(
            f"{name} has a dead-letter queue, in which slices would end without an answer to their images",
            f"remove its redrive policy: `aws sqs set-queue-attributes --queue-url {url} --attributes"
            " RedrivePolicy=`",
        )
