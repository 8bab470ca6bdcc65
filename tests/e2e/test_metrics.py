"""What an operator reads: counters of all processes, and an image's story in the logs of both tiers."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.e2e.system import ROOT, System, eventually, free_port
from tests.exposition import faults, read, value
from tests.photos import PHOTOS

SETTINGS = {
    "INPUT_BUCKET": "metrics-input",
    "OUTPUT_BUCKET": "metrics-output",
    "MODEL": "efficientnet_lite0",
    "ANSWER_CACHE": "off",
}


@pytest.fixture
def system(start) -> System:
    """Two processes, and no instance: the worker is started by hand, and stays."""
    system = start(WEB_CONCURRENCY="2", **SETTINGS)
    json = {"instance_type": "c7i.large", "available": 0}
    requests.post(f"{system.endpoint}/_local/capacity", json=json, timeout=10).raise_for_status()
    return system


@pytest.fixture
def worker(system: System, tmp_path: Path) -> Iterator[str]:
    """The address of its metrics. Its log is worker.log."""
    port = free_port()
    aws = {"AWS_ENDPOINT_URL": system.endpoint, "AWS_REGION": "us-east-1"}
    keys = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
    with (tmp_path / "worker.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "worker"],
            cwd=ROOT,
            env={"PATH": os.environ["PATH"], "METRICS_PORT": str(port), **SETTINGS, **aws, **keys},
            stderr=log,
        )
    yield f"http://127.0.0.1:{port}/metrics"
    process.send_signal(signal.SIGTERM)
    process.wait(20)


def test_the_numbers_are_right_across_processes_and_the_logs_tell_each_images_story(system, worker, tmp_path):
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
    logs = [*(ROOT / ".local" / str(system.port)).rglob("*.log"), tmp_path / "worker.log"]
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
