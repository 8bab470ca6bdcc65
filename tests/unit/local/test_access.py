"""Who may call the local AWS. Every call here would do what it asks if it came from the right one."""

import json
from typing import Any

import boto3
import pytest
import requests
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

from local.access import AccessKey
from local.endpoint import Endpoint

LAUNCH = {
    "Action": "RunInstances",
    "Version": "2016-11-15",
    "ImageId": "ami-12c6146b",
    "InstanceType": "t3.small",
    "MinCount": "1",
    "MaxCount": "1",
    "UserData": "IyEvYmluL3NoCnRvdWNoIC90bXAvb3duZWQK",
}


@pytest.fixture
def endpoint(running: Endpoint) -> Endpoint:
    running.reset()
    return running


def launch(endpoint: Endpoint, key: AccessKey, **headers: str) -> requests.Response:
    """RunInstances as a client sends it, with these headers besides."""
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    request = AWSRequest("POST", f"{endpoint.url}/", data=LAUNCH, headers=form)
    SigV4Auth(Credentials(key.id, key.secret), "ec2", endpoint.region).add_auth(request)
    prepared = request.prepare()
    return requests.post(
        prepared.url, prepared.body, headers={**dict(prepared.headers), **headers}, timeout=10
    )


def launched(endpoint: Endpoint) -> int:
    return len(endpoint.record()["instances"])


def test_whoever_has_the_key_of_this_run_may_call_it(endpoint: Endpoint) -> None:
    assert launch(endpoint, endpoint.key).status_code == 200
    assert launched(endpoint) == 1


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:8000"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Host": "evil.example"},
        {"Host": "evil.example:4566"},
        {"Host": "127.0.0.1"},
        {"Host": "127.0.0.1:1"},
    ],
)
def test_no_web_page_can_launch_an_instance(endpoint: Endpoint, headers: dict[str, str]) -> None:
    reply = launch(endpoint, endpoint.key, **headers)
    assert reply.status_code == 403
    assert "local AWS" in reply.text
    assert "KnownTokens-Control-Allow-Origin" not in reply.headers
    assert launched(endpoint) == 0


def test_localhost_is_a_name_of_it(endpoint: Endpoint) -> None:
    port = endpoint.url.rpartition(":")[2]
    assert launch(endpoint, endpoint.key, Host=f"localhost:{port}").status_code == 200


def test_no_reply_lets_other_sites_read_it(endpoint: Endpoint) -> None:
    reply = launch(endpoint, endpoint.key)
    assert not [name for name in reply.headers if name.lower().startswith("access-control-")]
    preflight = requests.options(endpoint.url, headers={"Origin": "https://evil.example"}, timeout=5)
    assert preflight.status_code == 403


def test_each_run_has_a_key_of_its_own() -> None:
    assert AccessKey.new() != AccessKey.new()


@pytest.mark.parametrize("service", ["ec2", "s3", "sqs", "sts", "iam"])
def test_another_users_key_is_refused_in_words_that_every_sdk_reads(endpoint: Endpoint, service: str) -> None:
    client: Any = boto3.client(
        service,  # type: ignore[call-overload]
        endpoint_url=endpoint.url,
        region_name=endpoint.region,
        aws_access_key_id="local",
        aws_secret_access_key="local",
    )
    call = {
        "ec2": "describe_instances",
        "s3": "list_buckets",
        "sqs": "list_queues",
        "sts": "get_caller_identity",
        "iam": "list_roles",
    }[service]
    with pytest.raises(ClientError, match="does not belong to this run") as refused:
        getattr(client, call)()
    assert refused.value.response["Error"]["Code"] == "InvalidClientTokenId"
    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403


def test_what_is_not_signed_is_refused(endpoint: Endpoint) -> None:
    assert requests.get(f"{endpoint.url}/input-images/", timeout=5).status_code == 403
    assert requests.post(endpoint.url, LAUNCH, timeout=5).status_code == 403
    assert launched(endpoint) == 0


@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/moto-api/reset"), ("GET", "/_local/record"), ("POST", "/_local/capacity")]
)
def test_the_controls_of_the_endpoint_need_the_key_too(endpoint: Endpoint, method: str, path: str) -> None:
    body = json.dumps({"instance_type": "t3.small", "available": 0})
    call = {"method": method, "url": endpoint.url + path, "data": body, "timeout": 5}
    assert requests.request(**call).status_code == 403
    assert requests.request(**call, auth=("local", "local")).status_code == 403
    assert requests.request(**call, auth=endpoint.key).ok
    from_a_page = requests.request(**call, auth=endpoint.key, headers={"Origin": "https://evil.example"})
    assert from_a_page.status_code == 403


def test_an_instance_has_a_key_that_its_id_does_not_tell(endpoint: Endpoint) -> None:
    launch(endpoint, endpoint.key)
    [life] = endpoint.record()["instances"]
    own = endpoint.key.of_instance(life["id"])
    assert AccessKey.new().of_instance(life["id"]) != own
    assert launch(endpoint, own).status_code == 403, "it has not asked for it yet"
    service = endpoint.metadata_url(life["id"])
    ttl = {"X-aws-ec2-metadata-token-ttl-seconds": "60"}
    token = requests.put(f"{service}/latest/api/token", headers=ttl, timeout=5).text
    requests.get(
        f"{service}/latest/meta-data/iam/info", headers={"X-aws-ec2-metadata-token": token}, timeout=5
    )
    assert launch(endpoint, own).status_code == 200
    guessed = service.rpartition("/")[0] + "/" + AccessKey.new().of_instance(life["id"]).secret
    assert requests.put(f"{guessed}/latest/api/token", headers=ttl, timeout=5).status_code == 404
