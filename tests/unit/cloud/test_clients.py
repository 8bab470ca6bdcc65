import pytest
from botocore.utils import parse_timestamp
from moto import mock_aws

from cloud.clients import make_clients, make_worker_clients, s3_for, timestamp
from cloud.settings import SettingsError


@pytest.fixture
def environment(monkeypatch, tmp_path):
    """boto3 finds nothing but what the test sets."""
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    return monkeypatch


def test_region_and_endpoint_come_from_the_environment(environment):
    environment.setenv("AWS_REGION", "eu-central-1")
    environment.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:4566")
    for client in make_clients():
        assert client.meta.region_name == "eu-central-1"
        assert client.meta.endpoint_url == "http://127.0.0.1:4566"


def test_boto3s_own_name_for_the_region_holds_too(environment):
    environment.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    assert make_clients().s3.meta.region_name == "eu-west-1"


def test_a_missing_region_is_one_line(environment):
    with pytest.raises(SettingsError, match=r"^AWS_REGION \(.*\) is not set$"):
        make_clients()


def test_a_region_is_needed_only_for_what_is_in_s3(environment):
    assert s3_for("imagenet", "labels.txt", "") is None
    with pytest.raises(SettingsError, match="AWS_REGION"):
        s3_for("imagenet", "s3://bucket/labels.txt")
    environment.setenv("AWS_REGION", "eu-west-1")
    assert s3_for("s3://bucket/weights.pt").meta.region_name == "eu-west-1"


@pytest.mark.parametrize(
    ("name", "value"),
    [("AWS_ENDPOINT_URL", "127.0.0.1:4566"), ("AWS_PROFILE", "nobody"), ("AWS_REGION", "no/where")],
)
def test_what_boto3_cannot_use_is_one_line_too(environment, name, value):
    environment.setenv("AWS_REGION", "eu-central-1")
    environment.setenv(name, value)
    with pytest.raises(SettingsError, match=value) as refused:
        make_clients()
    assert "\n" not in str(refused.value)


def test_every_call_ends_and_ec2s_before_the_lease_under_which_it_is_made(environment):
    environment.setenv("AWS_REGION", "eu-central-1")
    clients = make_clients()
    ec2 = clients.ec2.meta.config
    assert ec2.retries["total_max_attempts"] == 1
    assert ec2.connect_timeout + ec2.read_timeout <= 11
    for client in clients:
        assert client.meta.config.read_timeout <= 30
    assert {client.meta.config.read_timeout for client in make_worker_clients(10)} == {10}


def test_the_body_of_a_put_is_sent_without_a_question_to_s3_first(environment, aws):
    environment.setenv("AWS_REGION", "us-east-1")
    headers = []
    s3 = make_worker_clients().s3
    s3.meta.events.register("before-send.s3.PutObject", lambda request, **_: headers.append(request.headers))
    s3.put_object(Bucket=s3.list_buckets()["Buckets"][0]["Name"], Key="key", Body=b"body")
    assert len(headers) == 1
    assert "Expect" not in headers[0]


@pytest.mark.parametrize(
    "value",
    [
        "Thu, 26 Nov 2026 20:34:04 GMT",
        "2026-11-26T20:34:04.000Z",
        "2026-11-26T20:34:04+00:00",
        "2026-11-26T20:34:04",
        "20261126T203404Z",
        "1795725244",
        1795725244,
        1795725244.25,
    ],
)
def test_a_time_is_what_boto3_makes_of_it(value):
    assert timestamp(value) == parse_timestamp(value)


def test_what_is_no_time_is_an_error():
    with pytest.raises(ValueError, match="soon"):
        timestamp("soon")


def test_the_times_in_replies_are_parsed_in_this_way(environment):
    environment.setenv("AWS_REGION", "us-east-1")
    environment.setattr("cloud.clients.timestamp", lambda value: f"parsed: {value}")
    with mock_aws():
        s3 = make_clients().s3
        s3.create_bucket(Bucket="photos")
        s3.put_object(Bucket="photos", Key="cat.jpg", Body=b"cat")
        (listed,) = s3.list_objects_v2(Bucket="photos")["Contents"]
        for found in (s3.get_object(Bucket="photos", Key="cat.jpg"), listed):
            assert found["LastModified"].startswith("parsed: ")
