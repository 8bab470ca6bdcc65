"""What AWS charges: the list prices of one region, in dollars, and the price that each call has.

Look here before you rely on a sum: https://aws.amazon.com/s3/pricing/ (S3 Standard),
https://aws.amazon.com/sqs/pricing/ and https://aws.amazon.com/sns/pricing/ (both after the first million a
month), and https://aws.amazon.com/ec2/pricing/on-demand/
"""

from collections.abc import Mapping
from enum import StrEnum
from functools import cache

REGION = "us-east-1"
AS_OF = "November 2026"

INSTANCE_TYPE = "c7i.large"
INSTANCE_HOUR = 0.08925

DISK_GB = 16
"""The size of a worker's disk: the default of deploy/make_ami.py."""
DISK_GB_MONTH = 0.08
"""gp3 (https://aws.amazon.com/ebs/pricing/, where a month has 730 hours)."""
DISK_SECOND = DISK_GB * DISK_GB_MONTH / (730 * 3600)


class CallKind(StrEnum):
    """The calls that AWS charges, by what they cost."""

    S3_PUT = "s3_put"
    """PUT, COPY, POST and LIST."""
    S3_GET = "s3_get"
    """GET, HEAD and all others but DELETE, which is free."""
    SQS = "sqs"
    """Every call of SQS. None of this system has more than the 64 KB for which SQS charges one call."""
    SNS = "sns"
    """Every call of SNS. What subscribers cost is not among them."""


MILLION_CALLS = {CallKind.S3_PUT: 5.0, CallKind.S3_GET: 0.4, CallKind.SQS: 0.4, CallKind.SNS: 0.5}

PUT_OR_LIST = ("Put", "Copy", "Create", "Upload", "Complete", "List")
DELETE = ("Delete", "Abort")


@cache
def kind_of(service: str, operation: str) -> CallKind | None:
    """Returns the kind of a call such as `("s3", "PutObject")`, or None if it is free, as those of EC2."""
    if service == "sqs":
        return CallKind.SQS
    if service == "sns":
        return CallKind.SNS
    if service != "s3" or operation.startswith(DELETE):
        return None
    return CallKind.S3_PUT if operation.startswith(PUT_OR_LIST) else CallKind.S3_GET


def dollars_for(calls: Mapping[str, int]) -> float:
    """Returns what so many calls cost. The keys are the values of CallKind."""
    return sum(MILLION_CALLS[kind] * calls.get(kind, 0) for kind in CallKind) / 1_000_000
