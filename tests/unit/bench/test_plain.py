"""The system that this one succeeds, as bench/compare.py runs it."""

import importlib
import sys
from types import ModuleType

import pytest

from bench.client import form_of
from cloud.clients import Clients

PHOTOS = [b"one", b"two", b"three"]


@pytest.fixture
def controller(clients: Clients, launch_all: None, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setenv("WORKERS", "4")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    for bucket in ("plain-input", "plain-output"):
        clients.s3.create_bucket(Bucket=bucket)
    clients.sqs.create_queue(QueueName="plain")
    monkeypatch.delitem(sys.modules, "bench.servers.plain_controller", raising=False)
    return importlib.import_module("bench.servers.plain_controller")


def launched(clients: Clients) -> int:
    return sum(len(found["Instances"]) for found in clients.ec2.describe_instances()["Reservations"])


def test_photos_are_stored_sent_and_answered_in_their_order(controller, clients, monkeypatch):
    def work(prefix: str, photos: int) -> None:
        """Answers the messages in place of a worker, whose label is the photo itself."""
        for _ in range(photos):
            [message] = clients.sqs.receive_message(QueueUrl=controller.queue_url)["Messages"]
            assert message["Body"].startswith(f"{prefix}/")
            photo = clients.s3.get_object(Bucket="plain-input", Key=message["Body"])["Body"].read()
            clients.s3.put_object(Bucket="plain-output", Key=message["Body"], Body=photo)

    wait = controller.wait
    monkeypatch.setattr(controller, "wait", lambda *given: work(*given) or wait(*given))
    post = form_of(PHOTOS)
    reply = controller.web.test_client().post("/", data=post.body, content_type=post.content_type)
    assert reply.json == {"labels": ["one", "two", "three"]}


@pytest.mark.parametrize(("visible", "expected"), [(1, 1), (10, 1), (11, 2), (99, 4)])
def test_an_instance_is_launched_for_each_ten_visible_messages(controller, clients, visible, expected):
    for number in range(visible):
        clients.sqs.send_message(QueueUrl=controller.queue_url, MessageBody=str(number))
    for _ in range(2):
        controller.launch()
        assert launched(clients) == expected
