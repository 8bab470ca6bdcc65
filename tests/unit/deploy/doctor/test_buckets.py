"""What is wrong with the buckets, and how to mend it."""

import pytest
from botocore.exceptions import ClientError

from deploy.doctor import storage
from tests.support.findings import states, wrongs

CONTROLLERS_INPUT, CONTROLLERS_OUTPUT, CONTROLLERS_STATE = storage.CONTROLLER
WORKERS_INPUT, WORKERS_OUTPUT, WORKERS_STATE = storage.WORKER


def test_buckets_that_are_as_they_should_be_are_left_as_they_are(aws):
    def keys(name: str) -> list[str]:
        return [item["Key"] for item in aws.s3.list_objects_v2(Bucket=name).get("Contents", [])]

    buckets = {
        "INPUT_BUCKET": "test-input",
        "OUTPUT_BUCKET": "test-output",
        "STATE_BUCKET": "test-output-state",
    }
    for use in (*storage.CONTROLLER, *storage.WORKER):
        assert states(storage.check_bucket(aws.s3, buckets[use.setting], use)) == {"ok"}
    assert [keys(name) for name in buckets.values()] == [[], [], []]


@pytest.mark.parametrize(
    "use", [CONTROLLERS_INPUT, CONTROLLERS_STATE, WORKERS_INPUT, WORKERS_OUTPUT, WORKERS_STATE]
)
def test_a_bucket_that_is_not_there_is_told_with_how_to_make_it(aws, use):
    [finding] = wrongs(storage.check_bucket(aws.s3, "other_region", use))
    assert "there is no bucket other_region" in finding
    assert "cloud.provision" in finding


def test_a_bucket_in_another_region_is_told_with_that_region(aws, on_call):
    def moved(params):
        headers = {"ResponseMetadata": {"HTTPHeaders": {"x-amz-bucket-region": "eu-west-1"}}}
        raise ClientError({"Error": {"Code": "301", "Message": "Moved"}, **headers}, "HeadBucket")

    on_call(aws.s3, "HeadBucket", moved)
    [finding] = wrongs(storage.check_bucket(aws.s3, "test-input", CONTROLLERS_INPUT))
    assert "set AWS_REGION to eu-west-1" in finding


def test_a_missing_list_permission_is_told_by_what_it_does(aws, deny):
    """S3 says 403 for an object that is not there to somebody who may not list the bucket."""
    deny(aws.s3, "HeadBucket", "403")
    deny(aws.s3, "GetObject")
    [finding] = wrongs(storage.check_bucket(aws.s3, "test-input", WORKERS_INPUT))
    assert "s3:ListBucket on arn:aws:s3:::test-input" in finding
    assert "403 instead of 404" in finding


@pytest.mark.parametrize(
    ("operation", "permission"),
    [
        ("GetObject", "s3:GetObject on arn:aws:s3:::test-output/*"),
        ("PutObject", "s3:PutObject on arn:aws:s3:::test-output/*"),
        ("DeleteObject", "s3:DeleteObject on arn:aws:s3:::test-output/*"),
    ],
)
def test_a_missing_permission_on_objects_is_named(aws, deny, operation, permission):
    deny(aws.s3, operation)
    [finding] = wrongs(storage.check_bucket(aws.s3, "test-output", CONTROLLERS_OUTPUT))
    assert permission in finding
