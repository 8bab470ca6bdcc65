"""Whatever dies, hangs or never comes: every image has exactly one final answer, there are never more
instances than the maximum, and none is left.
"""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from io import BytesIO
from typing import Any

import numpy
import pytest
import requests
from PIL import Image

from bench.photos import PHOTOS
from local.driver import ROOT, System, eventually, free_port

MAX_INSTANCES = 2
ASYNC = {"Prefer": "respond-async"}


@pytest.fixture
def begin(start):
    """A system with short times, that keeps every version of every answer."""

    def begin(**settings: str) -> System:
        system = start(
            **{
                "MAX_INSTANCES": str(MAX_INSTANCES),
                "VISIBILITY_TIMEOUT": "4",
                "LOCAL_BOOT_SECONDS": "0.5",
                **settings,
            }
        )
        system.client("s3").put_bucket_versioning(
            Bucket="output-predictions", VersioningConfiguration={"Status": "Enabled"}
        )
        return system

    return begin


def ask(system: System, *files: tuple[str, bytes]) -> str:
    """The address at which the answers will be."""
    reply = system.post(*files, headers=ASYNC)
    assert reply.status_code == 202
    return system.url.rstrip("/") + reply.headers["Location"]


def photos(count: int) -> list[tuple[str, bytes]]:
    data = [data for data, _ in PHOTOS.values()]
    return [(f"{n}.jpg", data[n % len(data)]) for n in range(count)]


def slow_photo() -> tuple[str, bytes]:
    """One whose decoding takes long enough to be killed in."""
    stream = BytesIO()
    noise = numpy.random.default_rng(0).integers(0, 256, (5000, 5000, 3), dtype=numpy.uint8)
    Image.fromarray(noise).save(stream, "PNG", compress_level=1)
    return "slow.png", stream.getvalue()


def settled(system: System, *addresses: str, seconds: float = 90) -> list[dict[str, Any]]:
    """The answers, once complete and the fleet is gone; each of them given once, and for good."""

    def complete() -> list[dict[str, Any]]:
        found = [requests.get(address, timeout=10).json() for address in addresses]
        return found if all(answer["complete"] for answer in found) else []

    answers: list[dict[str, Any]] = eventually(complete, seconds, every=0.2)
    eventually(lambda: not system.instances("pending", "running", "shutting-down"), 60, every=0.2)
    images = {image["image_id"] for answer in answers for image in answer["images"]}
    versions = system.client("s3").list_object_versions(Bucket="output-predictions")["Versions"]
    written = [v["Key"] for v in versions]
    assert sorted(written) == sorted(images)
    stored = system.client("s3").list_objects_v2(Bucket="input-images")["Contents"]
    assert sorted(item["Key"] for item in stored) == sorted(images), "the same keys, and no others"
    assert system.record()["most_instances_at_once"] <= MAX_INSTANCES
    return answers


def workers(system: System) -> list[Any]:
    return [p for i in system.active() for p in system.processes_of(i["InstanceId"])]


def in_flight(system: System) -> bool:
    sqs = system.client("sqs")
    url = sqs.get_queue_url(QueueName="image-requests")["QueueUrl"]
    name = "ApproximateNumberOfMessagesNotVisible"
    return int(sqs.get_queue_attributes(QueueUrl=url, AttributeNames=[name])["Attributes"][name]) > 0


def all_classified(answers: list[dict[str, Any]]) -> bool:
    return all(image["status"] == "classified" for answer in answers for image in answer["images"])


def test_a_killed_worker_loses_no_image(begin):
    system = begin()
    address = ask(system, *photos(30))
    eventually(lambda: in_flight(system), 60, every=0.01)
    for process in workers(system):
        process.kill()
    assert all_classified(settled(system, address))


def test_a_frozen_worker_loses_no_image_and_answers_none_twice(begin):
    system = begin(MAX_IMAGES_PER_INSTANCE="10")
    address = ask(system, *photos(20))
    [frozen, *_] = eventually(lambda: workers(system), 60, every=0.01)
    eventually(lambda: in_flight(system), 60, every=0.01)
    frozen.suspend()
    eventually(lambda: requests.get(address, timeout=10).json()["complete"], 60)
    frozen.resume()
    assert all_classified(settled(system, address))


def test_a_spot_notice_drains_the_worker_and_another_takes_over(begin):
    system = begin(MAX_IMAGES_PER_INSTANCE="100")
    address = ask(system, *photos(40))
    eventually(lambda: in_flight(system), 60, every=0.01)
    noticed = system.active()[0]["InstanceId"]
    system.interrupt(noticed, 120)
    assert all_classified(settled(system, address))


def test_a_killed_gunicorn_worker_is_replaced_and_its_request_is_finished(begin):
    system = begin(LOCAL_BOOT_SECONDS="3")
    address = ask(system, *photos(10))
    for process in system.controllers():
        process.kill()
    assert all_classified(settled(system, address))


def test_a_controller_that_dies_between_launch_and_naming_leaves_no_instance_unnamed(begin):
    system = begin(LOCAL_BOOT_SECONDS="25")
    system.delay("CreateTags", 3)
    address = ask(system, *photos(30))
    eventually(system.active, 10, every=0.01)
    for process in system.controllers():
        process.kill()
    system.delay("CreateTags", 0)

    def names() -> list[str]:
        return sorted(t["Value"] for i in system.active() for t in i["Tags"] if t["Key"] == "Name")

    eventually(lambda: names() == ["app-tier-instance-1", "app-tier-instance-2"], 40, every=0.2)
    assert all_classified(settled(system, address))


def test_ten_requests_at_once_from_two_controllers_never_exceed_the_maximum(begin):
    system = begin(MAX_IMAGES_PER_INSTANCE="3", LOCAL_BOOT_SECONDS="2")
    with second_controller(system) as other:
        urls = [system.url, other] * 5
        with ThreadPoolExecutor(10) as pool:
            files = [("image_file", photo) for photo in photos(5)]
            replies = list(pool.map(lambda url: requests.post(url, files=files, timeout=120), urls))
    assert all(reply.json()["counts"]["classified"] == 5 for reply in replies)
    settled(system, *(system.url.rstrip("/") + reply.json()["url"] for reply in replies))


@contextmanager
def second_controller(system: System) -> Iterator[str]:
    port = free_port()
    [running] = system.arbiters()
    process = subprocess.Popen(
        [sys.executable, "-m", "gunicorn", "--config", "deploy/gunicorn.conf.py", "controller.wsgi:app"],
        cwd=ROOT,
        env=running.environ() | {"BIND": f"127.0.0.1:{port}"},
    )
    url = f"http://127.0.0.1:{port}/"
    try:
        eventually(lambda: answers(url + "readyz"), 30)
        yield url
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)


def answers(url: str) -> bool:
    try:
        return requests.get(url, timeout=5).ok
    except requests.ConnectionError:
        return False


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param({"WEIGHTS": "s3://nowhere/weights.pt"}, id="the worker ends at its start"),
        pytest.param({"LOCAL_BOOT_SECONDS": "600", "BOOT_TIMEOUT": "2"}, id="the machine never boots"),
    ],
)
def test_when_workers_never_start_the_request_ends_with_the_reason(begin, broken: dict[str, str]):
    system = begin(**broken)
    [answer] = settled(system, ask(system, *photos(3)))
    for image in answer["images"]:
        assert image["error"]["code"] == "no_workers"
        assert "get-console-output" in image["error"]["message"]
    assert len(system.record()["instances"]) <= 6


def test_an_image_that_kills_its_workers_is_answered_failed(begin):
    system = begin(MAX_RECEIVES="2")
    address = ask(system, slow_photo())
    eventually(lambda: in_flight(system), 60, every=0.01)
    for process in workers(system):
        process.kill()
    [answer] = settled(system, address)
    assert answer["images"][0]["error"]["code"] == "gave_up"


def test_a_launch_without_capacity_is_tried_again_until_there_is_some(begin):
    system = begin()
    system.limit(0)
    address = ask(system, *photos(2))
    decisions = eventually(
        lambda: [d for d in fleet(system)["decisions"] if any("no capacity" in why for why in d["why"])], 20
    )
    assert "InsufficientInstanceCapacity" in " ".join(decisions[0]["why"])
    wait = eventually(
        lambda: (w := requests.get(address, timeout=10).json()["wait"])["state"] == "stalled" and w
    )
    assert wait["message"].startswith("EC2 has no capacity right now: trying again in about ")
    system.limit(None)
    assert all_classified(settled(system, address))


def fleet(system: System) -> dict[str, Any]:
    found: dict[str, Any] = requests.get(system.url + "fleet", timeout=10).json()
    return found


def test_the_first_terminate_call_comes_within_a_second_of_the_last_answer(begin):
    system = begin()
    system.post(*photos(4))
    answered = time.time()
    eventually(lambda: not system.active())
    [called] = {life["terminate_called"] for life in system.record()["instances"]}
    assert called - answered < 1


def test_a_worker_without_work_shuts_its_machine_down_though_every_controller_is_gone(begin):
    system = begin(IDLE_SHUTDOWN_SECONDS="2", LOCAL_BOOT_SECONDS="2")
    ask(system, *photos(2))
    eventually(system.active, 10)
    gunicorn = [*system.arbiters(), *system.controllers()]
    for process in gunicorn:
        process.suspend()
    try:
        eventually(lambda: not system.instances("pending", "running", "shutting-down"), 60)
    finally:
        for process in gunicorn:
            process.resume()
