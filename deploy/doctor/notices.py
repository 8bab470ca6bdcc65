"""Checks that the topic of NOTIFY_TOPIC can be told, without telling it anything.

A message that SNS refuses shows whether publishing is allowed, provided that SNS checks permissions before
messages.
"""

from collections.abc import Iterator

from cloud.clients import Client, S3Client
from cloud.settings import ControllerSettings
from deploy.doctor.findings import Finding, attempt, denied, ok, unknown, wrong
from deploy.doctor.storage import BucketUse, check_bucket

NOTED = BucketUse("STATE_BUCKET", write=True, delete=True, prefix="notices/")
# It is too long for a topic with the default MaximumMessageSize, and not JSON in any case.
NO_MESSAGE: dict[str, str] = {"Message": "x" * (256 * 1024 + 1), "MessageStructure": "json"}
REFUSED = {"InvalidParameter", "InvalidParameterValue"}


def check_notices(s3: S3Client, sns: Client, settings: ControllerSettings) -> Iterator[Finding]:
    """`sns` is a client of the topic's region."""
    yield from (f for f in check_bucket(s3, settings.state_bucket, NOTED) if f.state != "ok")
    yield check_topic(sns, settings.notify_topic)


def check_topic(sns: Client, arn: str) -> Finding:
    seen = attempt(sns.get_topic_attributes, TopicArn=arn)
    told = attempt(sns.publish, TopicArn=arn, **NO_MESSAGE)
    if "NotFound" in (seen.code, told.code):
        return wrong(
            f"NOTIFY_TOPIC: there is no topic {arn}",
            f"`aws sns create-topic --name {arn.rpartition(':')[2]}`, or correct NOTIFY_TOPIC",
        )
    if told.denied:
        return denied("sns:Publish", arn, " (if it is another account's, its policy must allow it as well)")
    if told.code not in REFUSED:
        return unknown(f"NOTIFY_TOPIC: {arn}", told.message or told.code)
    if seen.denied:
        return ok(f"NOTIFY_TOPIC: {arn} may be published to, if it exists: sns:GetTopicAttributes would show")
    return ok(f"NOTIFY_TOPIC: {arn}")
