"""Checks the region, the credentials and the clock, and who may use the controller."""

import difflib
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from cloud.clients import Client
from cloud.settings import ControllerSettings, SettingsError
from deploy.doctor.findings import Finding, Reply, attempt, ok, unknown, wrong

# Seconds. AWS refuses requests if the clock is wrong by more than 5 minutes (S3: 15 minutes).
MAX_SKEW = 60

LOG_IN = "log in (`aws sso login` or `aws configure`); an EC2 instance needs an instance profile instead"
REFUSALS = {
    "InvalidClientTokenId": "AWS does not know this access key",
    "UnrecognizedClientException": "AWS does not know this access key",
    "ExpiredToken": "these credentials have expired",
    "ExpiredTokenException": "these credentials have expired",
    "SignatureDoesNotMatch": "the secret key does not belong to the access key, or the clock is wrong",
    "RequestExpired": "the request was signed too long ago: the clock is wrong",
}


def check_region(region: str | None, known: list[str], endpoint: str | None) -> Finding:
    """Checks that the region is one of those that are known.

    `endpoint` is AWS_ENDPOINT_URL. If it is set, any region is accepted.
    """
    if not region:
        return wrong(
            "no region is set", "set AWS_REGION to the region of buckets, queue and AMI, such as us-east-1"
        )
    if endpoint or region in known:
        return ok(f"region: {region}" + (f", at {endpoint}" if endpoint else ""))
    like = difflib.get_close_matches(region, known, 3)
    return wrong(
        f"AWS_REGION is {region!r}, which is not a region of AWS",
        f"set it to a region, such as {', '.join(like or known[:3])}",
    )


def check_credentials(has_any: bool, sts: Client, now: datetime | None = None) -> list[Finding]:
    """Checks that AWS accepts the credentials, and that this machine's clock agrees with AWS's.

    `has_any` says whether boto3 has found any credentials.
    """
    if not has_any:
        return [wrong("there are no AWS credentials", LOG_IN)]
    reply = attempt(sts.get_caller_identity)
    return [check_identity(reply), check_clock(reply, now or datetime.now(UTC))]


def check_identity(reply: Reply) -> Finding:
    if not reply.code:
        return ok(f"credentials: those of {reply.content['Arn']}")
    if reply.code in REFUSALS:
        return wrong(REFUSALS[reply.code], LOG_IN)
    if reply.content:
        return wrong(f"AWS refuses these credentials: {reply.message}", LOG_IN)
    return wrong(
        f"AWS cannot be reached: {reply.message}", "check the network, the proxy and AWS_ENDPOINT_URL"
    )


def check_clock(reply: Reply, now: datetime) -> Finding:
    headers: dict[str, Any] = reply.content.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    if "date" not in headers:
        return unknown("the clock", "the reply has no date")
    ahead = (now - parsedate_to_datetime(headers["date"])).total_seconds()
    if abs(ahead) <= MAX_SKEW:
        return ok("clock: correct")
    return wrong(
        f"this machine's clock is {abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} AWS's; from 5"
        " minutes on, AWS refuses requests",
        "set the clock by the network: `sudo timedatectl set-ntp true`",
    )


def check_access(settings: ControllerSettings) -> Finding:
    """Checks that the controller starts, which it does only if the settings say who may use it."""
    try:
        settings.check_access(bind="")  # behind nginx
    except SettingsError as error:
        where = "the controller's unit reads the tokens from the parameter store (deploy/README.md, Tokens)"
        return Finding("unknown", f"the controller does not start like this: {error}", where)
    names = ", ".join(token.name for token in settings.tokens)
    return ok(f"access: for {names or 'whoever reaches the controller'}")
