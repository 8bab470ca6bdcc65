import http.client
import json
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
from botocore.exceptions import ClientError

from local.endpoint import Endpoint, LocalSQS
from tests.support.local_aws import ONE_TRY, client_of

SECONDS_TO_PASS = 20  # after which a message is lost


def client(endpoint: Endpoint, service: str) -> Any:
    return client_of(endpoint, service, ONE_TRY)


@pytest.fixture(scope="module")
def ec2(running: Endpoint) -> Any:
    return client(running, "ec2")


@pytest.fixture(scope="module")
def sqs(running: Endpoint) -> Any:
    return client(running, "sqs")


@pytest.fixture(autouse=True)
def endpoint(running: Endpoint) -> Endpoint:
    running.reset()
    return running


@pytest.fixture
def queue(endpoint: Endpoint, sqs: Any) -> str:
    return sqs.create_queue(QueueName="requests")["QueueUrl"]


@pytest.fixture
def slow_machines(endpoint: Endpoint) -> Iterator[None]:
    """Machines that boot and end only when the test says so."""
    instances = endpoint.instances
    hooks = instances.on_launch, instances.on_stop
    instances.on_launch, instances.on_stop = lambda *_: None, lambda *_: None
    yield
    instances.on_launch, instances.on_stop = hooks


@pytest.fixture
def threads_interrupt_each_other() -> Iterator[None]:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(interval)


def launch(ec2: Any, least: int = 1, most: int = 1, **parameters: Any) -> list[dict[str, Any]]:
    parameters = {"ImageId": "ami-12c6146b", "InstanceType": "t3.small"} | parameters
    return ec2.run_instances(MinCount=least, MaxCount=most, **parameters)["Instances"]


def states(ec2: Any, **filters: Any) -> list[str]:
    reservations = ec2.describe_instances(**filters)["Reservations"]
    return [instance["State"]["Name"] for one in reservations for instance in one["Instances"]]


def ids(instances: list[dict[str, Any]]) -> list[str]:
    return [instance["InstanceId"] for instance in instances]


# SQS


def send(sqs: Any, queue: str, bodies: list[str], batch: int) -> None:
    for start in range(0, len(bodies), batch):
        entries = [{"Id": body, "MessageBody": body} for body in bodies[start : start + batch]]
        assert not sqs.send_message_batch(QueueUrl=queue, Entries=entries).get("Failed")


def take(sqs: Any, queue: str, batch: int, seen: dict[str, list[float]], total: int) -> None:
    """Receive and delete until `total` bodies are in `seen`, each with the times of its receives."""
    end = time.monotonic() + SECONDS_TO_PASS
    while len(seen) < total and time.monotonic() < end:
        wait = {"MaxNumberOfMessages": batch, "WaitTimeSeconds": 1}
        messages = sqs.receive_message(QueueUrl=queue, **wait).get("Messages", [])
        for message in messages:
            seen.setdefault(message["Body"], []).append(time.monotonic())
        if messages:
            entries = [{"Id": m["MessageId"], "ReceiptHandle": m["ReceiptHandle"]} for m in messages]
            assert not sqs.delete_message_batch(QueueUrl=queue, Entries=entries).get("Failed")


def test_a_thousand_messages_pass_with_none_lost_and_none_doubled(endpoint: Endpoint, queue: str) -> None:
    bodies = [f"message-{number}" for number in range(1000)]
    clients = [client(endpoint, "sqs") for _ in range(8)]
    seen: dict[str, list[float]] = {}
    with ThreadPoolExecutor(8) as pool:
        work = [pool.submit(send, clients[part], queue, bodies[part::4], 10) for part in range(4)]
        work += [pool.submit(take, clients[4 + part], queue, 10, seen, len(bodies)) for part in range(4)]
        for future in work:
            future.result()
    assert sorted(seen) == sorted(bodies)
    assert {len(times) for times in seen.values()} == {1}


@pytest.mark.usefixtures("threads_interrupt_each_other")
def test_threads_lose_and_double_no_message() -> None:
    backend = LocalSQS("us-east-1", "123456789012")
    backend.create_queue("requests")
    bodies = [str(number) for number in range(1000)]
    seen: list[str] = []
    end = time.monotonic() + SECONDS_TO_PASS

    def produce(part: int) -> None:
        for body in bodies[part::4]:
            backend.send_message("requests", body)

    def consume() -> None:
        while len(seen) < len(bodies) and time.monotonic() < end:
            for message in backend.receive_message("requests", 1, 1, 30):
                seen.append(message.body)
                backend.delete_message("requests", message.receipt_handle or "")

    with ThreadPoolExecutor(8) as pool:
        work = [pool.submit(produce, part) for part in range(4)] + [pool.submit(consume) for _ in range(4)]
        for future in work:
            future.result()
    assert sorted(seen) == sorted(bodies)


def test_a_queue_counts_what_is_visible_in_flight_and_delayed(sqs: Any, queue: str) -> None:
    send(sqs, queue, [str(number) for number in range(10)], 10)
    sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=3)
    sqs.send_message(QueueUrl=queue, MessageBody="later", DelaySeconds=60)
    counts = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["All"])["Attributes"]
    found = [counts["ApproximateNumberOfMessages" + name] for name in ("", "NotVisible", "Delayed")]
    assert found == ["7", "3", "1"]


def test_only_the_attributes_that_are_asked_for_are_told(sqs: Any, queue: str) -> None:
    names = ["ApproximateNumberOfMessages", "VisibilityTimeout"]
    sqs.send_message(QueueUrl=queue, MessageBody="photo")
    found = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=names)["Attributes"]
    assert found == {"ApproximateNumberOfMessages": "1", "VisibilityTimeout": "30"}
    assert "Attributes" not in sqs.get_queue_attributes(QueueUrl=queue)
    with pytest.raises(ClientError, match="InvalidAttributeName"):
        sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["Colour"])


def test_a_message_can_be_deleted_twice_but_only_with_a_handle_that_sqs_gave(sqs: Any, queue: str) -> None:
    send(sqs, queue, ["one", "two"], 10)
    receipts = [sqs.receive_message(QueueUrl=queue)["Messages"][0]["ReceiptHandle"] for _ in range(2)]
    for _ in range(2):
        sqs.delete_message(QueueUrl=queue, ReceiptHandle=receipts[1])
    with pytest.raises(ClientError, match="ReceiptHandleIsInvalid"):
        sqs.delete_message(QueueUrl=queue, ReceiptHandle="another")
    sqs.change_message_visibility(QueueUrl=queue, ReceiptHandle=receipts[0], VisibilityTimeout=0)
    assert [m["Body"] for m in sqs.receive_message(QueueUrl=queue)["Messages"]] == ["one"]
    sqs.delete_message(QueueUrl=queue, ReceiptHandle=receipts[0])
    counts = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["All"])["Attributes"]
    assert [counts["ApproximateNumberOfMessages" + name] for name in ("", "NotVisible")] == ["0", "0"]


def test_a_long_poll_gets_a_message_as_soon_as_it_is_given_back(
    sqs: Any, endpoint: Endpoint, queue: str
) -> None:
    sqs.send_message(QueueUrl=queue, MessageBody="photo")
    receipt = sqs.receive_message(QueueUrl=queue)["Messages"][0]["ReceiptHandle"]
    with ThreadPoolExecutor() as pool:
        poll = pool.submit(client(endpoint, "sqs").receive_message, QueueUrl=queue, WaitTimeSeconds=20)
        wait_for_call(endpoint, "ReceiveMessage", 2)
        start = time.monotonic()
        sqs.change_message_visibility(QueueUrl=queue, ReceiptHandle=receipt, VisibilityTimeout=0)
        assert poll.result()["Messages"][0]["Body"] == "photo"
        assert time.monotonic() - start < 10


def test_a_long_poll_gets_a_message_when_its_visibility_timeout_is_over(sqs: Any, queue: str) -> None:
    sqs.send_message(QueueUrl=queue, MessageBody="photo")
    sqs.receive_message(QueueUrl=queue, VisibilityTimeout=1)
    start = time.monotonic()
    again = sqs.receive_message(
        QueueUrl=queue, WaitTimeSeconds=10, MessageSystemAttributeNames=["ApproximateReceiveCount"]
    )["Messages"][0]
    assert 0.8 < time.monotonic() - start < 8
    assert again["Attributes"]["ApproximateReceiveCount"] == "2"


def test_a_client_that_died_in_a_long_poll_takes_no_message_along(
    sqs: Any, endpoint: Endpoint, queue: str
) -> None:
    dying = http.client.HTTPConnection(urlsplit(endpoint.url).netloc)
    scope = f"{endpoint.key.id}/20260101/us-east-1/sqs"
    headers = {
        "X-Amz-Target": "AmazonSQS.ReceiveMessage",
        "Content-Type": "application/x-amz-json-1.0",
        "Authorization": f"AWS4-HMAC-SHA256 Credential={scope}/aws4_request, ",
    }
    dying.request("POST", "/", json.dumps({"QueueUrl": queue, "WaitTimeSeconds": 20}), headers)
    wait_for_call(endpoint, "ReceiveMessage", 1)
    dying.close()
    sqs.send_message(QueueUrl=queue, MessageBody="photo")
    assert sqs.receive_message(QueueUrl=queue, WaitTimeSeconds=1)["Messages"][0]["Body"] == "photo"


def wait_for_call(endpoint: Endpoint, operation: str, count: int) -> None:
    end = time.monotonic() + 5
    while endpoint.record()["calls"].get("sqs", {}).get(operation, 0) < count:
        assert time.monotonic() < end, f"{operation} was not called"
        threading.Event().wait(0.01)
    threading.Event().wait(0.05)  # from the count to the poll


# EC2


def test_the_ami_of_the_local_aws_says_what_it_is(ec2: Any) -> None:
    [image] = ec2.describe_images(ImageIds=["ami-12c6146b"])["Images"]
    assert (image["Name"], image.get("Platform")) == ("image-classifier-local", None)
    assert "Windows" not in str(image)


@pytest.mark.usefixtures("slow_machines")
def test_an_instance_walks_from_pending_to_terminated_as_its_machine_does(
    ec2: Any, endpoint: Endpoint
) -> None:
    [instance] = launch(ec2)
    instance_id = instance["InstanceId"]
    assert instance["State"]["Name"] == "pending"
    assert states(ec2) == ["pending"]
    endpoint.instances.booted(instance_id)
    assert states(ec2) == ["running"]
    [change] = ec2.terminate_instances(InstanceIds=[instance_id])["TerminatingInstances"]
    assert (change["PreviousState"]["Name"], change["CurrentState"]["Name"]) == ("running", "shutting-down")
    assert states(ec2) == ["shutting-down"]
    endpoint.instances.ended(instance_id)
    assert states(ec2) == ["terminated"]


@pytest.mark.usefixtures("slow_machines")
@pytest.mark.parametrize(
    ("behavior", "on_the_way", "at_the_end"),
    [("terminate", "shutting-down", "terminated"), ("stop", "stopping", "stopped")],
)
def test_an_instance_that_shuts_itself_down_does_as_its_launch_asked(
    ec2: Any, endpoint: Endpoint, behavior: str, on_the_way: str, at_the_end: str
) -> None:
    [instance] = launch(ec2, InstanceInitiatedShutdownBehavior=behavior)
    endpoint.instances.booted(instance["InstanceId"])
    endpoint.instances.shutting_down(instance["InstanceId"])
    assert states(ec2) == [on_the_way]
    endpoint.instances.ended(instance["InstanceId"])
    assert states(ec2) == [at_the_end]
    reason = ec2.describe_instances()["Reservations"][0]["Instances"][0]["StateReason"]["Code"]
    assert reason == "Client.InstanceInitiatedShutdown"


def test_a_stopped_instance_starts_again_and_can_be_terminated(ec2: Any) -> None:
    [instance_id] = ids(launch(ec2))
    ec2.stop_instances(InstanceIds=[instance_id])
    assert states(ec2) == ["stopped"]
    ec2.start_instances(InstanceIds=[instance_id])
    assert states(ec2) == ["running"]
    ec2.stop_instances(InstanceIds=[instance_id])
    ec2.terminate_instances(InstanceIds=[instance_id])
    assert states(ec2) == ["terminated"]


def test_a_terminated_instance_stays_terminated(ec2: Any) -> None:
    [instance_id] = ids(launch(ec2))
    for _ in range(2):
        ec2.terminate_instances(InstanceIds=[instance_id])
    for change in (ec2.start_instances, ec2.stop_instances):
        with pytest.raises(ClientError, match="IncorrectInstanceState"):
            change(InstanceIds=[instance_id])
    assert states(ec2) == ["terminated"]


def test_a_launch_template_that_is_deleted_twice_is_unknown_by_its_id(ec2: Any) -> None:
    made = ec2.create_launch_template(LaunchTemplateName="workers", LaunchTemplateData={"ImageId": "ami-1"})
    template = {"LaunchTemplateId": made["LaunchTemplate"]["LaunchTemplateId"]}
    ec2.delete_launch_template(**template)
    with pytest.raises(ClientError, match=r"InvalidLaunchTemplateId\.NotFound"):
        ec2.delete_launch_template(**template)


@pytest.mark.usefixtures("slow_machines")
def test_an_instance_can_be_started_only_once_it_is_stopped_and_stopped_only_once_it_runs(
    ec2: Any, endpoint: Endpoint
) -> None:
    [instance_id] = ids(launch(ec2))
    with pytest.raises(ClientError, match="IncorrectInstanceState"):
        ec2.stop_instances(InstanceIds=[instance_id])
    endpoint.instances.booted(instance_id)
    [change] = ec2.stop_instances(InstanceIds=[instance_id])["StoppingInstances"]
    assert (change["PreviousState"]["Name"], change["CurrentState"]["Name"]) == ("running", "stopping")
    with pytest.raises(ClientError, match="IncorrectInstanceState"):
        ec2.start_instances(InstanceIds=[instance_id])
    endpoint.instances.ended(instance_id)
    [change] = ec2.start_instances(InstanceIds=[instance_id])["StartingInstances"]
    assert (change["PreviousState"]["Name"], change["CurrentState"]["Name"]) == ("stopped", "pending")


def test_a_start_moves_the_launch_time_and_clears_the_reason_of_the_stop(ec2: Any) -> None:
    [instance_id] = ids(launch(ec2))
    [before] = ec2.describe_instances()["Reservations"][0]["Instances"]
    ec2.stop_instances(InstanceIds=[instance_id])
    time.sleep(1.1)
    ec2.start_instances(InstanceIds=[instance_id])
    [after] = ec2.describe_instances()["Reservations"][0]["Instances"]
    assert after["LaunchTime"] > before["LaunchTime"]
    assert not after.get("StateReason", {}).get("Code")


def test_a_start_needs_capacity_and_takes_some(ec2: Any, endpoint: Endpoint) -> None:
    started = ids(launch(ec2, 2, 2))
    ec2.stop_instances(InstanceIds=started)
    endpoint.instances.limit("t3.small", None, 1)
    with pytest.raises(ClientError, match="InsufficientInstanceCapacity"):
        ec2.start_instances(InstanceIds=started)
    assert states(ec2) == ["stopped", "stopped"]
    ec2.start_instances(InstanceIds=started[:1])
    with pytest.raises(ClientError, match="InsufficientInstanceCapacity"):
        ec2.start_instances(InstanceIds=started[1:])


def test_a_spot_instance_cannot_be_stopped(ec2: Any) -> None:
    [instance_id] = ids(launch(ec2, InstanceMarketOptions={"MarketType": "spot"}))
    with pytest.raises(ClientError, match="UnsupportedOperation"):
        ec2.stop_instances(InstanceIds=[instance_id])


def test_as_many_instances_are_launched_as_asked_at_most(ec2: Any) -> None:
    assert len(launch(ec2, 1, 5)) == 5
    with pytest.raises(ClientError, match="InvalidParameterValue"):
        launch(ec2, 3, 2)


def test_tags_and_user_data_are_kept(ec2: Any) -> None:
    tags = [{"Key": "Name", "Value": "app-tier-instance-1"}]
    [instance_id] = ids(
        launch(ec2, UserData="#!/bin/sh\n", TagSpecifications=[{"ResourceType": "instance", "Tags": tags}])
    )
    described = ec2.describe_instances(Filters=[{"Name": "tag:Name", "Values": ["app-tier-*"]}])
    assert described["Reservations"][0]["Instances"][0]["Tags"] == tags
    user_data = ec2.describe_instance_attribute(InstanceId=instance_id, Attribute="userData")["UserData"]
    assert user_data["Value"] == "IyEvYmluL3NoCg=="


def test_a_launch_template_counts_in_whole(ec2: Any, endpoint: Endpoint) -> None:
    ec2.create_launch_template(
        LaunchTemplateName="worker",
        LaunchTemplateData={
            "ImageId": "ami-12c6146b",
            "InstanceType": "t3.micro",
            "InstanceInitiatedShutdownBehavior": "terminate",
            "InstanceMarketOptions": {"MarketType": "spot"},
        },
    )
    template = {"LaunchTemplateName": "worker", "Version": "$Latest"}
    instance = ec2.run_instances(MinCount=1, MaxCount=1, LaunchTemplate=template)["Instances"][0]
    assert (instance["InstanceType"], instance["InstanceLifecycle"]) == ("t3.micro", "spot")
    endpoint.instances.shutting_down(instance["InstanceId"])
    assert states(ec2) == ["shutting-down"]


def test_every_instance_of_a_launch_gets_the_instance_profile(ec2: Any, endpoint: Endpoint) -> None:
    client(endpoint, "iam").create_instance_profile(InstanceProfileName="worker")
    launch(ec2, 1, 3, IamInstanceProfile={"Name": "worker"})
    [reservation] = ec2.describe_instances()["Reservations"]
    assert ["worker" in instance["IamInstanceProfile"]["Arn"] for instance in reservation["Instances"]] == [
        True
    ] * 3


def test_a_launch_with_a_known_client_token_is_the_same_launch(ec2: Any) -> None:
    first = launch(ec2, 1, 2, ClientToken="request-1")
    again = launch(ec2, 1, 2, ClientToken="request-1")
    assert ids(first) == ids(again)
    assert len(states(ec2)) == 2
    assert len(launch(ec2, 1, 2, ClientToken="request-2")) == 2
    with pytest.raises(ClientError, match="IdempotentParameterMismatch"):
        launch(ec2, 1, 1, ClientToken="request-1")


def test_a_refused_launch_can_be_repeated_with_its_client_token(ec2: Any, endpoint: Endpoint) -> None:
    limit(endpoint, available=0)
    with pytest.raises(ClientError, match="InsufficientInstanceCapacity"):
        launch(ec2, ClientToken="request-1")
    limit(endpoint, available=None)
    assert len(launch(ec2, ClientToken="request-1")) == 1


def limit(endpoint: Endpoint, available: int | None, **market: str) -> None:
    capacity = {"instance_type": "t3.small", "available": available, **market}
    address = f"{endpoint.url}/_local/capacity"
    requests.post(address, json=capacity, auth=endpoint.key, timeout=5).raise_for_status()


def test_without_capacity_a_launch_is_refused_as_the_servers_fault(ec2: Any, endpoint: Endpoint) -> None:
    limit(endpoint, available=0)
    with pytest.raises(ClientError) as refused:
        launch(ec2, 1, 4)
    assert refused.value.response["Error"]["Code"] == "InsufficientInstanceCapacity"
    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 500
    assert len(launch(ec2, InstanceType="t3.large")) == 1


def test_with_some_capacity_a_launch_gets_what_there_is(ec2: Any, endpoint: Endpoint) -> None:
    limit(endpoint, available=3)
    with pytest.raises(ClientError, match="InsufficientInstanceCapacity"):
        launch(ec2, 4, 5)
    assert len(launch(ec2, 1, 5)) == 3
    with pytest.raises(ClientError, match="InsufficientInstanceCapacity"):
        launch(ec2, 1, 5)


def test_spot_capacity_can_be_out_while_on_demand_is_not(ec2: Any, endpoint: Endpoint) -> None:
    limit(endpoint, available=0, market="spot")
    with pytest.raises(ClientError, match="InsufficientInstanceCapacity"):
        launch(ec2, InstanceMarketOptions={"MarketType": "spot"})
    assert len(launch(ec2)) == 1


# The endpoint itself


def test_the_record_counts_calls_and_keeps_the_life_of_each_instance(ec2: Any, endpoint: Endpoint) -> None:
    s3, sqs = client(endpoint, "s3"), client(endpoint, "sqs")
    s3.create_bucket(Bucket="input-images")
    s3.put_object(Bucket="input-images", Key="request/0001-cat.jpg", Body=b"cat")
    s3.list_objects_v2(Bucket="input-images", Prefix="request/")
    presigned = s3.generate_presigned_url(
        "get_object", {"Bucket": "input-images", "Key": "request/0001-cat.jpg"}
    )
    assert requests.get(presigned, timeout=5).content == b"cat"
    sqs.create_queue(QueueName="requests")
    tags = [{"ResourceType": "instance", "Tags": [{"Key": "Name", "Value": "app-tier-instance-1"}]}]
    first, second = ids(launch(ec2, 2, 2, TagSpecifications=tags))
    ec2.terminate_instances(InstanceIds=[first])
    [third] = ids(launch(ec2))

    record = requests.get(f"{endpoint.url}/_local/record", auth=endpoint.key, timeout=5).json()
    assert record["calls"] == {
        "ec2": {"RunInstances": 2, "TerminateInstances": 1},
        "s3": {"CreateBucket": 1, "GetObject": 1, "ListObjectsV2": 1, "PutObject": 1},
        "sqs": {"CreateQueue": 1},
    }
    assert record["most_instances_at_once"] == 2
    lives = {life["id"]: life for life in record["instances"]}
    assert list(lives) == [first, second, third]
    life = lives[first]
    assert (life["name"], life["type"], life["market"]) == ("app-tier-instance-1", "t3.small", "on-demand")
    assert (
        life["launched"] <= life["running"] <= life["terminate_called"] <= life["terminated"] <= time.time()
    )
    assert lives[second]["terminated"] is None


def test_a_taken_port_is_an_error_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other, pytest.raises(OSError, match="in use"):
        Endpoint(other.getsockname()[1])


def test_what_is_asked_wrongly_of_the_endpoint_itself_is_refused_with_a_reason(endpoint: Endpoint) -> None:
    assert requests.get(f"{endpoint.url}/_local/other", auth=endpoint.key, timeout=5).status_code == 404
    wrong = {"instance_type": "t3.small", "available": 0, "market": "black"}
    reply = requests.post(f"{endpoint.url}/_local/capacity", json=wrong, auth=endpoint.key, timeout=5)
    assert reply.status_code == 400
    assert "spot or on-demand" in reply.text


# S3


@pytest.fixture
def s3(endpoint: Endpoint) -> Any:
    s3 = client(endpoint, "s3")
    s3.create_bucket(Bucket="leases")
    return s3


@pytest.mark.usefixtures("threads_interrupt_each_other")
def test_of_conditional_calls_at_once_one_wins(s3: Any) -> None:
    together = threading.Barrier(8)

    def wins(operation: Callable[..., Any], parameters: dict[str, Any]) -> bool:
        together.wait(10)
        try:
            operation(Bucket="leases", **parameters)
        except ClientError as error:
            if error.response["Error"]["Code"] in ("PreconditionFailed", "NoSuchKey"):
                return False
            raise
        return True

    def winners(operation: Callable[..., Any], **parameters: Any) -> int:
        return sum(pool.map(wins, [operation] * 8, [parameters] * 8))

    def etag(key: str) -> str:
        return s3.head_object(Bucket="leases", Key=key)["ETag"]

    with ThreadPoolExecutor(8) as pool:
        for key in map(str, range(15)):
            assert winners(s3.put_object, Key=key, Body=b"1", IfNoneMatch="*") == 1
            assert winners(s3.put_object, Key=key, Body=b"2", IfMatch=etag(key)) == 1
            assert winners(s3.delete_object, Key=key, IfMatch=etag(key)) == 1
