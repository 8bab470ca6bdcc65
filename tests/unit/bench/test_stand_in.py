import os
from pathlib import Path

import boto3
import pytest

from bench.photos import different_photos
from bench.stand_in_process import ask, stand_in
from bench.worker import evaluate
from cloud.buckets import InputBucket, OutputBucket
from cloud.image_id import ImageId
from cloud.prediction import Prediction
from cloud.request_queue import RequestQueue


@pytest.fixture
def photos(tmp_path: Path) -> list[bytes]:
    found = different_photos(2)
    for number, photo in enumerate(found):
        (tmp_path / f"{number}.jpg").write_bytes(photo)
    return found


def client(service: str, url: str):
    keys = {"aws_access_key_id": "bench", "aws_secret_access_key": "bench"}
    return boto3.client(service, endpoint_url=url, region_name="us-east-1", **keys)


def test_a_worker_s_calls_are_answered_and_recorded(tmp_path: Path, photos: list[bytes]):
    with stand_in(tmp_path, 0, 4) as url:
        ask(f"{url}/_watch", str(os.getpid()).encode())
        queue, s3 = RequestQueue(client("sqs", url), "requests"), client("s3", url)
        messages = queue.receive(10, 1)
        assert [message.receives for message in messages] == [1] * 4
        image_ids = [ImageId(message.body) for message in messages]
        assert [InputBucket(s3, "input").read(one)[0] for one in image_ids] == photos * 2
        prediction = Prediction.classified(image_ids[1], [("tabby", 0.5)])
        assert OutputBucket(s3, "output").put_prediction(prediction)
        queue.extend(messages, 30)
        queue.delete(messages[:3])
        queue.delete(messages[3:])
        assert queue.receive(10, 0) == []
        record = ask(f"{url}/_record")
    assert record["labels"] == {"1": "tabby"}
    assert record["calls"]["DeleteMessageBatch"] == 2
    run = evaluate(record, record["start"]["at"] - 2, 4)
    assert run.start_seconds == pytest.approx(2)
    assert run.images_per_second == pytest.approx(4 / (record["end"]["at"] - record["start"]["at"]))
    assert run.calls["GET input"] == 1
    assert run.peak_mb >= run.resident_mb > 0


def test_the_photos_of_a_bench_all_differ_and_are_the_same_each_time(tmp_path: Path, photos: list[bytes]):
    assert len(set(different_photos(30))) == 30
    assert different_photos(2) == photos
    assert different_photos(1, tmp_path) == photos[:1]
    more = different_photos(5, tmp_path)
    assert more[:2] == photos
    assert len(set(more)) == 5
