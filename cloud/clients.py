import os
from typing import Any, NamedTuple, TypeAlias

import boto3
from botocore.config import Config

Client: TypeAlias = Any  # boto3 makes the methods of its clients at run time


class Clients(NamedTuple):
    """boto3's low-level clients. They are thread-safe, but must not cross a fork."""

    s3: Client
    sqs: Client
    ec2: Client


def make_clients() -> Clients:
    """For the roots. Endpoint and credentials are found by boto3. Every call ends.

    EC2's calls are not retried, and end before the lease under which they are made does
    (controller/fleet_state.py); who looks at the fleet looks again anyway.
    """
    session = boto3.session.Session(region_name=os.environ.get("AWS_REGION"))  # boto3 itself does not read it
    patient = Config(
        retries={"mode": "standard", "total_max_attempts": 4},
        connect_timeout=5,
        read_timeout=30,
        max_pool_connections=64,
    )
    brief = Config(retries={"total_max_attempts": 1}, connect_timeout=3, read_timeout=8)
    return Clients(
        s3=session.client("s3", config=patient),
        sqs=session.client("sqs", config=patient),
        ec2=session.client("ec2", config=brief),
    )
