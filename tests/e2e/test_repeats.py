"""The same POST again, and the same photos again: nothing is done twice, whoever dies meanwhile."""

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Any
from uuid import uuid4

import pytest
import requests

from bench.photos import PHOTOS
from cloud.prediction_cache import READ_SECONDS
from local.__main__ import FALLBACK
from local.driver import System, eventually, running

FILES = [(f"{name}.jpg", data) for name, (data, _) in PHOTOS.items()]

MARKERS_SECONDS = 120  # the marker of a process that was killed stays for at least a minute


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """Two processes, with the answer cache."""
    settings = {"WEB_CONCURRENCY": "2", "ANSWER_CACHE": "on", "MAX_INSTANCES": "1"}
    with running(tmp_path_factory.mktemp("repeats") / "output", **FALLBACK, **settings) as system:
        eventually(lambda: len(system.controllers()) == 2)
        yield system


def fresh(count: int) -> list[tuple[str, bytes]]:
    """Photos whose bytes nobody has seen."""
    return [(name, data + uuid4().bytes) for name, data in (FILES * count)[:count]]


def keys(system: System, bucket: str, prefix: str = "") -> set[str]:
    pages = system.client("s3").get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    return {item["Key"] for page in pages for item in page.get("Contents", [])}


def request_ids(system: System) -> set[str]:
    return {key.partition("/")[0] for key in keys(system, "input-images")}


def calls(system: System, service: str, operation: str) -> int:
    return int(system.record()["calls"].get(service, {}).get(operation, 0))


def launched(system: System) -> int:
    return len(system.record()["instances"])


def insist(system: System, key: str, files: list[tuple[str, bytes]], seconds: float = 60) -> dict[str, Any]:
    """Posts until the answer is complete, as a client does whose connection breaks now and then."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            reply = system.post(*files, headers={"Idempotency-Key": key})
        except requests.ConnectionError:
            Event().wait(0.2)
            continue
        if reply.status_code == 200:
            answer: dict[str, Any] = reply.json()
            return answer
        assert reply.status_code == 409, reply.text
        Event().wait(float(reply.headers["Retry-After"]))
    raise AssertionError("never answered")


def test_fifty_posts_at_once_with_one_key_are_one_request(system: System):
    before, sent = request_ids(system), calls(system, "sqs", "SendMessageBatch")
    key, files = str(uuid4()), fresh(4)
    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(lambda _: insist(system, key, files), range(50)))
    assert len({answer["request_id"] for answer in answers}) == 1
    assert all(answer == answers[0] for answer in answers)
    assert answers[0]["counts"]["classified"] == 4
    assert len(request_ids(system) - before) == 1
    assert calls(system, "sqs", "SendMessageBatch") - sent == 1


def test_a_key_with_other_files_is_refused_in_every_process(system: System):
    key, files = str(uuid4()), fresh(2)
    insist(system, key, files)
    for _ in range(4):
        reply = system.post(files[0], headers={"Idempotency-Key": f'"{key}"'})
        assert (reply.status_code, reply.json()["error"]["code"]) == (422, "idempotency_key_reused")


def test_controllers_that_are_killed_in_an_upload_leave_a_key_that_works(system: System):
    eventually(lambda: not keys(system, "output-predictions-state", "open/"), MARKERS_SECONDS)
    before, sent = request_ids(system), calls(system, "sqs", "SendMessageBatch")
    key, files = str(uuid4()), fresh(4)
    with ThreadPoolExecutor(1) as pool:
        system.delay("PutObject", 1.5)
        first = pool.submit(insist, system, key, files)
        eventually(lambda: keys(system, "output-predictions-state", "open/"), every=0.02)
        for process in system.controllers():
            process.kill()
        system.delay("PutObject", 0)
        answer = first.result(90)
    assert answer["counts"]["classified"] == 4
    assert request_ids(system) - before == {answer["request_id"]}
    assert calls(system, "sqs", "SendMessageBatch") - sent == 1
    eventually(lambda: not keys(system, "output-predictions-state", "open/"), MARKERS_SECONDS)


def test_photos_that_were_classified_before_are_answered_without_an_instance(system: System):
    files = fresh(4)
    first = system.post(*files).json()
    photo = first["images"][0]
    stored = system.client("s3").get_object(Bucket="output-predictions", Key=photo["image_id"])["Body"]
    assert json.load(stored)["model_version"].endswith(f"-{photo['engine']}-{photo['precision']}")
    eventually(lambda: not system.active())
    instances, sent = launched(system), calls(system, "sqs", "SendMessageBatch")
    Event().wait(READ_SECONDS)  # the other process may just have read what was known
    for _ in range(4):  # by either process
        again = system.post(*files).json()
        assert [image["cached"] for image in again["images"]] == [True] * 4
        for one, other in zip(first["images"], again["images"], strict=True):
            assert one["label"] in PHOTOS[one["filename"][:-4]][1]
            for name in ("label", "confidence", "predictions", "model", "instance_id", "answered_at"):
                assert one[name] == other[name]
    assert requests.get(system.url.rstrip("/") + again["url"], timeout=10).json() == again
    eventually(lambda: not keys(system, "output-predictions-state", "open/"), MARKERS_SECONDS)
    assert (launched(system), calls(system, "sqs", "SendMessageBatch")) == (instances, sent)


def test_equal_photos_of_one_request_are_one_message(system: System):
    photo = fresh(1)[0]
    answer = system.post(*[photo] * 25).json()
    assert [image["cached"] for image in answer["images"]] == [False] + [True] * 24
    assert len({image["label"] for image in answer["images"]}) == 1
    assert len({image["image_id"] for image in answer["images"]}) == 25


def test_equal_photos_are_answered_though_their_controllers_are_killed(system: System):
    eventually(lambda: not system.active())
    photo = fresh(1)[0]
    reply = system.post(*[photo] * 5, headers={"Prefer": "respond-async"})
    for process in system.controllers():
        process.kill()
    address = system.url.rstrip("/") + reply.headers["Location"]
    eventually(lambda: reached(address) and reached(address)["counts"]["classified"] == 5, 90, every=0.2)
    eventually(lambda: not keys(system, "output-predictions-state", "open/"), MARKERS_SECONDS)


def reached(address: str) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = requests.get(address, headers={"Prefer": "wait=5"}, timeout=20).json()
    except requests.RequestException:
        return None
    return found


def test_prefer_wait_answers_when_complete_and_not_later_than_said(system: System):
    eventually(lambda: not system.active())
    reply = system.post(*fresh(2), headers={"Prefer": "respond-async, wait=0"})
    assert (reply.status_code, reply.headers["Preference-Applied"]) == (202, "respond-async, wait=0")
    address = system.url.rstrip("/") + reply.headers["Location"]
    done = requests.get(address, headers={"Prefer": "wait=60"}, timeout=90)
    assert done.json()["complete"] is True
    assert done.headers["Preference-Applied"] == "wait=60"
