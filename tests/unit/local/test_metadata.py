import json
from collections.abc import Iterator
from typing import Any

import botocore.session
import pytest
import requests

from local.endpoint import Endpoint
from tests.support.local_aws import client_of


@pytest.fixture(scope="module")
def endpoint() -> Iterator[Endpoint]:
    endpoint = Endpoint(region="eu-west-1")
    endpoint.start()
    yield endpoint
    endpoint.stop()


@pytest.fixture(scope="module")
def ec2(endpoint: Endpoint) -> Any:
    return client_of(endpoint, "ec2")


def launch(ec2: Any, **parameters: Any) -> str:
    parameters = {
        "ImageId": "ami-12c6146b",
        "InstanceType": "t3.small",
        "MinCount": 1,
        "MaxCount": 1,
    } | parameters
    return ec2.run_instances(**parameters)["Instances"][0]["InstanceId"]


@pytest.fixture
def instance_id(ec2: Any) -> str:
    return launch(ec2)


@pytest.fixture
def service(endpoint: Endpoint, instance_id: str) -> str:
    return endpoint.metadata_url(instance_id)


def token_of(service: str, seconds: str = "60") -> str:
    headers = {"X-aws-ec2-metadata-token-ttl-seconds": seconds}
    reply = requests.put(f"{service}/latest/api/token", headers=headers, timeout=5)
    reply.raise_for_status()
    return reply.text


def get(service: str, path: str, token: str | None = None) -> requests.Response:
    headers = {"X-aws-ec2-metadata-token": token or token_of(service)}
    return requests.get(f"{service}/latest/{path}", headers=headers, timeout=5)


def test_an_instance_reads_what_it_is(service: str, instance_id: str) -> None:
    wanted = {
        "instance-id": instance_id,
        "instance-type": "t3.small",
        "instance-life-cycle": "on-demand",
        "ami-id": "ami-12c6146b",
        "placement/region": "eu-west-1",
        "placement/availability-zone": "eu-west-1a",
    }
    assert {path: get(service, f"meta-data/{path}").text for path in wanted} == wanted
    assert get(service, "meta-data/local-hostname").text.endswith(".eu-west-1.compute.internal")
    document = get(service, "dynamic/instance-identity/document").json()
    assert (document["region"], document["instanceId"]) == ("eu-west-1", instance_id)


def test_folders_are_listed(service: str) -> None:
    assert "placement/" in get(service, "meta-data/").text.splitlines()
    assert get(service, "meta-data/placement").text.splitlines() == ["availability-zone", "region"]


def test_a_token_of_ones_own_is_needed(ec2: Any, endpoint: Endpoint, service: str) -> None:
    other = token_of(endpoint.metadata_url(launch(ec2)))
    assert requests.get(f"{service}/latest/meta-data/instance-id", timeout=5).status_code == 401
    assert get(service, "meta-data/instance-id", other).status_code == 401
    assert get(service, "meta-data/instance-id", token_of(service)).status_code == 200


@pytest.mark.parametrize("seconds", ["0", "21601", "long"])
def test_a_token_lasts_one_second_to_six_hours(service: str, seconds: str) -> None:
    with pytest.raises(requests.HTTPError, match="400"):
        token_of(service, seconds)


def test_botocore_takes_its_credentials_and_calls_with_them(
    endpoint: Endpoint, service: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, "/no/such/file")
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", service)
    session = botocore.session.get_session()
    credentials = session.get_credentials()
    assert credentials.method == "iam-role"
    assert credentials.get_frozen_credentials().token
    s3 = session.create_client("s3", region_name=endpoint.region, endpoint_url=endpoint.url)
    assert s3.list_buckets()["Buckets"] == []


def test_the_role_is_named_as_the_instance_profile(ec2: Any, endpoint: Endpoint) -> None:
    client_of(endpoint, "iam").create_instance_profile(InstanceProfileName="worker")
    service = endpoint.metadata_url(launch(ec2, IamInstanceProfile={"Name": "worker"}))
    assert get(service, "meta-data/iam/security-credentials/").text == "worker"
    assert (
        get(service, "meta-data/iam/info").json()["InstanceProfileArn"].endswith(":instance-profile/worker")
    )


def test_tags_are_shown_only_to_an_instance_that_was_launched_so(ec2: Any, endpoint: Endpoint) -> None:
    tags = [{"ResourceType": "instance", "Tags": [{"Key": "Name", "Value": "app-tier-instance-1"}]}]
    plain = launch(ec2, TagSpecifications=tags)
    shown = launch(ec2, TagSpecifications=tags, MetadataOptions={"InstanceMetadataTags": "enabled"})
    path = "meta-data/tags/instance/Name"
    assert get(endpoint.metadata_url(plain), path).status_code == 404
    assert get(endpoint.metadata_url(shown), path).text == "app-tier-instance-1"


def test_a_spot_interruption_is_announced_and_then_comes(ec2: Any, service: str, instance_id: str) -> None:
    assert get(service, "meta-data/spot/instance-action").status_code == 404
    requests.post(f"{service}/spot-interruption", json={"seconds": 0.3}, timeout=5).raise_for_status()
    notice = get(service, "meta-data/spot/instance-action").json()
    assert notice["action"] == "terminate"
    assert notice["time"].endswith("Z")
    ec2.get_waiter("instance_terminated").wait(
        InstanceIds=[instance_id], WaiterConfig={"Delay": 1, "MaxAttempts": 5}
    )


def test_a_rebalance_recommendation_is_announced(ec2: Any, endpoint: Endpoint, service: str) -> None:
    path = "meta-data/events/recommendations/rebalance"
    assert get(service, path).status_code == 404
    requests.post(f"{service}/rebalance-recommendation", timeout=5).raise_for_status()
    assert list(json.loads(get(service, path).text)) == ["noticeTime"]
    assert get(endpoint.metadata_url(launch(ec2)), path).status_code == 404


def test_a_terminated_instance_has_no_metadata(ec2: Any, service: str, instance_id: str) -> None:
    ec2.terminate_instances(InstanceIds=[instance_id])
    assert requests.put(f"{service}/latest/api/token", timeout=5).status_code == 404


def test_the_user_data_is_served_as_it_was_given(endpoint: Endpoint, ec2: Any, service: str):
    user_data = "#!/bin/sh\necho 犬\n"
    own = endpoint.metadata_url(launch(ec2, UserData=user_data))
    assert get(own, "user-data").text == user_data
    assert get(service, "user-data").status_code == 404
