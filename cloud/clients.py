"""Creates the boto3 clients of S3, SQS, EC2 and SNS."""

import http.client
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from email.utils import parsedate_to_datetime
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import boto3
import botocore.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, NoRegionError
from botocore.handlers import add_expect_header
from botocore.utils import parse_timestamp

from cloud.call_counts import call_counts
from cloud.clock import clock
from cloud.errors import RACED
from cloud.metrics import count_calls
from cloud.settings import SettingsError

if TYPE_CHECKING:
    from types_boto3_ec2 import EC2Client
    from types_boto3_s3 import S3Client
    from types_boto3_sqs import SQSClient
else:  # the package with these types is installed only where mypy runs
    EC2Client = S3Client = SQSClient = Any

Client: TypeAlias = Any  # the client of a service that is called in too few places to install its types


class WorkerClients(NamedTuple):
    """The low-level boto3 clients of a worker. Threads may share them, but forked processes may not."""

    s3: S3Client
    sqs: SQSClient


class Clients(NamedTuple):
    """Low-level boto3 clients. Threads may share them, but forked processes may not."""

    s3: S3Client
    sqs: SQSClient
    ec2: EC2Client


TRIES = 4
READ_TIMEOUT = 30
"""Seconds that a call waits for its reply, and then tries again. Of a worker's calls, it is the most."""
RACED_SECONDS = 0.05  # the pause before a raced write is repeated, which doubles each time
WITH_RETRIES = Config(
    retries={"mode": "standard", "total_max_attempts": TRIES},
    connect_timeout=5,
    read_timeout=READ_TIMEOUT,
    max_pool_connections=96,
)
# A call of EC2 must end before the lease under which it is made (controller/autoscaling/shared_state.py). The
# autoscaler's next run makes up for a call that failed.
WITHOUT_RETRIES = Config(retries={"total_max_attempts": 1}, connect_timeout=3, read_timeout=8)
MOST_HEADERS = 2000
"""Of a reply. Python would read no reply with more than 100, and whoever writes an object of S3 can give it a
thousand, with 2 KB of metadata.
"""


def make_clients() -> Clients:
    """Returns clients whose calls all have timeouts. boto3 finds the region, endpoint and credentials.

    Raises SettingsError when the region is missing, or when the region or the endpoint is malformed.
    """
    with a_session() as session:
        return Clients(
            s3=s3_client(session, WITH_RETRIES),
            sqs=session.client("sqs", config=WITH_RETRIES),
            ec2=session.client("ec2", config=WITHOUT_RETRIES),
        )


def make_worker_clients(read_timeout: float = READ_TIMEOUT) -> WorkerClients:
    """Does what make_clients does, but without the client of EC2, which takes time and memory.

    Each try of a call waits for its reply for `read_timeout` seconds.
    """
    config = WITH_RETRIES.merge(Config(read_timeout=read_timeout))
    with a_session() as session:
        return WorkerClients(s3=s3_client(session, config), sqs=session.client("sqs", config=config))


def s3_for(*sources: str) -> S3Client | None:
    """Returns a client of S3 if one of the sources is in S3 (`s3://…`), and None otherwise.

    Nobody therefore needs a region of AWS for sources that are here. Raises SettingsError as make_clients
    does.
    """
    in_s3 = any(source.startswith("s3://") for source in sources)
    return make_worker_clients().s3 if in_s3 else None


def sns_client(region: str) -> Client:
    """Returns a client of SNS. Raises SettingsError as make_clients does."""
    with a_session() as session:
        return session.client("sns", region_name=region, config=WITH_RETRIES)


def s3_client(session: boto3.session.Session, config: Config) -> S3Client:
    """Returns a client of S3 that repeats raced writes, and sends the body of a PUT with its header.

    By default, boto3 sends the header alone (`Expect: 100-continue`) and waits for S3's consent. That costs a
    round trip, and the reply is read byte by byte, with a turn of the interpreter's lock for each.

    The client reads objects with any headers: a worker that was taken over may have chosen them.
    """
    http.client._MAXHEADERS = MOST_HEADERS  # type: ignore[attr-defined]
    client = session.client("s3", config=config)
    events: Any = client.meta.events  # its types have no handlers that return something
    events.unregister("before-call.s3", add_expect_header)
    events.register("needs-retry.s3.PutObject", pause_if_raced)
    events.register_first("before-parse.s3.*", forget_expires)  # before boto3 looks at it
    return client


def forget_expires(response_dict: dict[str, Any], **_: Any) -> None:
    """Removes the header `Expires` from a reply, which nobody needs.

    It may be any text, and boto3 raises exceptions of its own for some that it cannot take for a time.
    """
    response_dict["headers"].pop("Expires", None)


def pause_if_raced(attempts: int, response: tuple[Any, dict[str, Any]] | None, **_: Any) -> float | None:
    """Returns the seconds after which botocore repeats a conditional write that raced another one.

    Returns None if the write did not race, or if it has been tried often enough.
    """
    raced = response is not None and response[1].get("Error", {}).get("Code") == RACED
    return RACED_SECONDS * 2**attempts if raced and attempts < TRIES else None


@contextmanager
def a_session() -> Iterator[boto3.session.Session]:
    """Yields a session whose calls are counted and tell the time of AWS.

    Turns errors of the block into SettingsError.
    """
    try:
        core = botocore.session.get_session()
        core.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=timestamp)
        region = os.environ.get("AWS_REGION")  # boto3 does not read it
        session = boto3.session.Session(region_name=region, botocore_session=core)
        count_calls(session.events)
        call_counts.follow(session.events)
        clock.follow(session.events)
        session.events.register("before-sign", partial(look_for_credentials, core))
        yield session
    except NoRegionError:
        raise SettingsError("AWS_REGION (AWS region of buckets, queue and instances) is not set") from None
    except (BotoCoreError, ValueError) as error:  # ValueError: AWS_ENDPOINT_URL is not a URL
        raise SettingsError(f"boto3 cannot be used as it is set up: {error}") from None


def look_for_credentials(core: Any, request_signer: Any, **_: Any) -> None:
    """Gives the client its credentials before a call if there were none when it was made.

    The metadata service of an instance may not have them yet, or not answer once. boto3 would look for them
    never again, so a controller would run on without being able to call AWS.
    """
    if request_signer._credentials is None:
        request_signer._credentials = core.get_credentials()


def timestamp(value: Any) -> datetime:
    """Parses a time in a reply of AWS: Unix time, ISO 8601 or the format of HTTP's headers.

    botocore's own parser guesses the format, which takes a tenth of the time of a call. Raises ValueError
    when the value is none of these.
    """
    if isinstance(value, str):
        for parse in (datetime.fromisoformat, parsedate_to_datetime):
            try:
                parsed = parse(value)
            except ValueError:
                continue
            if parsed.tzinfo:
                return parsed
    other: datetime = parse_timestamp(value)
    return other
