"""What is wrong with the account and the access to it, and how to mend it."""

from datetime import UTC, datetime, timedelta

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from cloud.settings import ControllerSettings
from deploy.doctor import account
from tests.support.findings import wrongs

REGIONS = ["eu-central-1", "us-east-1", "us-east-2", "us-west-2"]


def test_a_region_is_needed_and_must_be_one():
    assert "set AWS_REGION" in wrongs(account.check_region(None, REGIONS, None))[0]
    [finding] = wrongs(account.check_region("us-eats-1", REGIONS, None))
    assert "'us-eats-1'" in finding
    assert "us-east-1" in finding
    assert wrongs(account.check_region("us-east-1", REGIONS, None)) == []
    assert wrongs(account.check_region("moon-1", REGIONS, "http://127.0.0.1:4566")) == []


class Sts:
    """STS with one answer."""

    def __init__(self, code="", date=None):
        headers = {"date": f"{date:%a, %d %b %Y %H:%M:%S GMT}"} if date else {}
        self.code, self.metadata = code, {"ResponseMetadata": {"HTTPHeaders": headers}}

    def get_caller_identity(self):
        if self.code:
            error = {"Error": {"Code": self.code, "Message": f"{self.code} says AWS"}}
            raise ClientError({**error, **self.metadata}, "GetCallerIdentity")
        return {"Arn": "arn:aws:iam::123456789012:user/somebody", **self.metadata}


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("InvalidClientTokenId", "does not know this access key"),
        ("ExpiredToken", "expired"),
        ("SignatureDoesNotMatch", "secret key"),
        ("OtherTrouble", "OtherTrouble says AWS"),
    ],
)
def test_credentials_that_aws_refuses_are_told_with_the_reason(code, words):
    [finding] = wrongs(account.check_credentials(True, Sts(code, datetime.now(UTC))))
    assert words in finding
    assert "aws configure" in finding


def test_without_credentials_nothing_is_asked():
    assert "no AWS credentials" in wrongs(account.check_credentials(False, None))[0]


def test_an_aws_that_cannot_be_reached_is_no_matter_of_credentials():
    class Unreachable:
        def get_caller_identity(self):
            raise EndpointConnectionError(endpoint_url="https://sts.example")

    assert "cannot be reached" in wrongs(account.check_credentials(True, Unreachable()))[0]


@pytest.mark.parametrize(("seconds", "words"), [(400, "ahead of"), (-400, "behind")])
@pytest.mark.parametrize("code", ["", "RequestExpired"])
def test_a_clock_that_is_wrong_is_seen_in_any_reply(seconds, words, code):
    now = datetime.now(UTC)
    found = wrongs(account.check_credentials(True, Sts(code, now), now + timedelta(seconds=seconds)))
    assert any(f"{words} AWS's" in finding and "timedatectl" in finding for finding in found)
    assert wrongs(account.check_credentials(True, Sts("", now), now + timedelta(seconds=20))) == []


def test_a_controller_that_would_not_start_without_tokens_is_told_of(settings):
    def examined(**changes):
        return account.check_access(ControllerSettings(**{**settings.model_dump(), **changes}))

    nobody = examined(allow_anonymous="off", api_tokens="")
    assert (nobody.state, "API_TOKENS" in nobody.what) == ("unknown", True)
    assert "parameter store" in nobody.fix, "where the doctor does not see them"
    batches = examined(allow_anonymous="on", api_tokens="", batch_sources="s3://photos")
    assert (batches.state, "BATCH_SOURCES" in batches.what) == ("unknown", True)
    for changes in ({"allow_anonymous": "on"}, {"api_tokens": "anna:0123456789abcdef"}):
        found = examined(**changes)
        assert (found.state, "0123456789abcdef" in found.what) == ("ok", False)
