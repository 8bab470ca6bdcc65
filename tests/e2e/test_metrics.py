"""What an operator reads: counters of all processes, and an image's story in the logs of both tiers."""

import json
from pathlib import Path

import pytest
import requests

from bench.photos import PHOTOS
from local.driver import ROOT, System, eventually, free_port, worker_by_hand
from tests.support.exposition import faults, read, value

SETTINGS = {
    "INPUT_BUCKET": "metrics-input",
    "OUTPUT_BUCKET": "metrics-output",
    "MODEL": "efficientnet_lite0",
    "ANSWER_CACHE": "off",
}


@pytest.fixture
def system(start) -> System:
    """Two processes, and no instance: the worker is started by hand, and stays."""
    return start(WEB_CONCURRENCY="2", **SETTINGS)


def test_the_numbers_are_right_across_processes_and_the_logs_tell_each_images_story(system, tmp_path):
    log, port = tmp_path / "worker.log", free_port()
    with worker_by_hand(system, log, METRICS_PORT=str(port), **SETTINGS):
        look_at_both(system, f"http://127.0.0.1:{port}/metrics", log)


def look_at_both(system: System, worker: str, log: Path) -> None:
    files = ("cat.jpg", PHOTOS["cat"][0]), ("notes.txt", b"no picture")
    answers = [system.post(*files).json() for _ in range(6)]

    of_worker = read(requests.get(worker, timeout=10).text)
    assert faults(of_worker.values()) == []
    assert value(of_worker, "classifier_worker_images_total", outcome="classified") == 6
    assert value(of_worker, "classifier_worker_step_seconds_count", step="decode") == 6

    for _ in range(8):  # whichever process answers
        found = read(requests.get(f"{system.url}metrics", timeout=10).text)
        assert value(found, "classifier_images_total", outcome="classified") == 6
        assert value(found, "classifier_images_total", outcome="refused") == 6
        assert value(found, "classifier_upload_seconds_count") == 6
        assert value(found, "classifier_http_requests_total", route="/", method="POST", status="200") == 6
        assert value(found, "classifier_launch_errors_total") >= 1
        assert value(found, "classifier_aws_calls_total", service="sqs", operation="SendMessageBatch") == 6
    assert faults(found.values()) == []

    image = answers[0]["images"][0]
    logs = [*(ROOT / ".local" / str(system.port)).rglob("*.log"), log]
    lines = eventually(lambda: [] if len(told := story(logs, image["image_id"])) < 5 else told)
    by_message = {line["message"]: line for line in lines}
    assert len(lines) == len(by_message) == 5
    told = list(by_message)  # a worker may have an image before its controller says that it is queued
    assert [m for m in told if m != "queued"] == ["uploaded", "received", "classified", "answered"]
    assert told[0] == "uploaded"
    assert {line["request_id"] for line in lines} == {answers[0]["request_id"]}
    assert by_message["received"]["instance_id"] == image["instance_id"]
    assert by_message["classified"]["instance_id"] == image["instance_id"]
    assert by_message["classified"]["timings"] == image["timings"]


def story(logs: list[Path], image_id: str) -> list[dict[str, str]]:
    """Its lines in the order of their times: what `grep` finds, sorted."""
    found = [line for log in logs for line in log.read_text().splitlines() if image_id in line]
    return sorted((json.loads(line) for line in found), key=lambda line: line["timestamp"])
