import os
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, NoRegionError

from cloud.metrics import count_calls
from cloud.settings import SettingsError

if TYPE_CHECKING:
    from types_boto3_ec2 import EC2Client
    from types_boto3_s3 import S3Client
    from types_boto3_sqs import SQSClient
else:  # boto3 makes the methods of its clients at run time, and a host has no types
    EC2Client = S3Client = SQSClient = Any

Client: TypeAlias = Any  # of a service that is called once or twice


class Clients(NamedTuple):
    """boto3's low-level clients. They are thread-safe, but must not cross a fork."""

    s3: S3Client
    sqs: SQSClient
    ec2: EC2Client


PATIENT = Config(
    retries={"mode": "standard", "total_max_attempts": 4},
    connect_timeout=5,
    read_timeout=30,
    max_pool_connections=64,
)
# EC2's calls are not retried, and end before the lease under which they are made does
# (controller/autoscaling/fleet_state.py); who looks at the fleet looks again anyway.
BRIEF = Config(retries={"total_max_attempts": 1}, connect_timeout=3, read_timeout=8)


def make_clients() -> Clients:
    """For the roots; every call ends. Region, endpoint and credentials are found by boto3.

    SettingsError when region or endpoint make no sense.
    """
    try:
        session = boto3.session.Session(region_name=os.environ.get("AWS_REGION"))  # boto3 does not read it
        count_calls(session.events)
        return Clients(
            s3=session.client("s3", config=PATIENT),
            sqs=session.client("sqs", config=PATIENT),
            ec2=session.client("ec2", config=BRIEF),
        )
    except NoRegionError:
        raise SettingsError("AWS_REGION (AWS region of buckets, queue and instances) is not set") from None
    except (BotoCoreError, ValueError) as error:  # ValueError: an AWS_ENDPOINT_URL that is no URL
        raise SettingsError(f"boto3 cannot be used as it is set up: {error}") from None
