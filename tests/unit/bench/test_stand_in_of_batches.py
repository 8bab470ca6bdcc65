import os
from pathlib import Path

import boto3
import pytest

from bench.photos import different_photos
from bench.stand_in_of_batches import BATCH_QUEUE
from bench.stand_in_process import ask, stand_in
from bench.worker import evaluate
from cloud.batches.batch import Row
from cloud.batches.slice import Slice
from cloud.batches.store import BatchStore
from cloud.buckets import Bucket
from cloud.prediction import Status
from cloud.request_queue import RequestQueue


def client(service: str, url: str):
    keys = {"aws_access_key_id": "bench", "aws_secret_access_key": "bench"}
    return boto3.client(service, endpoint_url=url, region_name="us-east-1", **keys)


def test_a_worker_s_calls_for_a_batch_are_answered_and_recorded(tmp_path: Path):
    photos = different_photos(2)
    for number, photo in enumerate(photos):
        (tmp_path / f"{number}.jpg").write_bytes(photo)
    with stand_in(tmp_path, 0, 1300, "bench.stand_in_of_batches") as url:
        ask(f"{url}/_watch", str(os.getpid()).encode())
        s3, sqs = client("s3", url), client("sqs", url)
        store = BatchStore(Bucket(s3, "state"), Bucket(s3, "output"))
        queue, sizes = RequestQueue(sqs, BATCH_QUEUE), []
        while messages := queue.receive(1, 0):
            part = Slice.read(messages[0].body)
            assert store.cancelled(part.batch_id) is None
            batch, manifest = store.get(part.batch_id), store.manifest(part.batch_id, part.manifest)
            assert batch
            assert manifest
            sizes.append(len(part))
            last = manifest.images[part.positions[-1]]
            assert Bucket(s3, batch.bucket).read(last.key, IfMatch=last.etag)[0] == photos[1]
            answer = {"status": Status.CLASSIFIED, "label": "tabby", "confidence": 0.9}
            row = Row(position=part.positions[-1], key=last.key, **answer)
            store.put_rows(part, [row], 1)
            queue.delete(messages)
        assert RequestQueue(sqs, "image-requests").receive(10, 0) == []
        record = ask(f"{url}/_record")
    assert sizes == [250, 250, 250, 250, 250, 50]
    run = evaluate(record, record["start"]["at"], 1300)
    assert run.labels == {"1": "tabby"}
    assert run.calls["GET lab"] == pytest.approx(6 / 1300)
