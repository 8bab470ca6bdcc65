"""Batches of a test: pictures in a bucket of the user, and a worker that answers slices without a model."""

from collections.abc import Callable, Iterable
from typing import Any

from cloud.batches.batch import Batch, ListedImage, Row
from cloud.batches.slice import Slice
from cloud.batches.store import BatchStore
from cloud.clients import S3Client
from cloud.failure_code import FailureCode
from cloud.prediction import Failure, Label, Status
from cloud.request_queue import RequestQueue
from controller.batches.lister import Lister

SOURCE = "lab-photos"
BATCH = "0123456789abcdef" * 2

Answer = Callable[[int, str], Row]


def photos(s3: S3Client, *keys: str, body: bytes = b"photo") -> None:
    """Puts objects with these keys into the bucket of the user."""
    for key in keys:
        s3.put_object(Bucket=SOURCE, Key=key, Body=body)


def batch_of(prefix: str = "", **more: Any) -> Batch:
    return Batch(**{"batch_id": BATCH, "source": f"s3://{SOURCE}/{prefix}", **more})


def listed_images(*keys: str) -> tuple[ListedImage, ...]:
    return tuple(ListedImage(key=key, etag='"1"', size=5) for key in keys)


def tabby(position: int, key: str) -> Row:
    labels = (Label(label="tabby", confidence=0.75), Label(label="tiger cat", confidence=0.125))
    return Row(
        position=position,
        key=key,
        status=Status.CLASSIFIED,
        label="tabby",
        confidence=0.75,
        predictions=labels,
    )


def failure(code: FailureCode) -> Answer:
    error = Failure(code=code, message=f"It failed: {code}.")
    return lambda position, key: Row(position=position, key=key, status=Status.FAILED, error=error)


def list_whole(lister: Lister, batch: Batch) -> None:
    for _ in lister.pages(batch):
        pass


def work_on(store: BatchStore, part: Slice, answer: Answer = tabby, seconds: float = 1.0) -> None:
    """Writes the rows of a slice."""
    manifest = store.manifest(part.batch_id, part.manifest)
    assert manifest
    store.put_rows(part, [answer(n, manifest.images[n].key) for n in part.positions], seconds)


def slices_in(queue: RequestQueue) -> list[Slice]:
    """Takes all slices out of the queue."""
    found: list[Slice] = []
    while messages := queue.receive(10, 0):
        found += [Slice.read(message.body) for message in messages]
        queue.delete(messages)
    return found


def work_off(store: BatchStore, queue: RequestQueue, answer: Answer = tabby) -> list[Slice]:
    """Answers all slices in the queue. Returns them."""
    parts = slices_in(queue)
    for part in parts:
        work_on(store, part, answer)
    return parts


def positions(parts: Iterable[Slice]) -> list[tuple[int, int]]:
    """Returns the images of slices, each by its manifest and its position there."""
    return sorted((part.manifest, n) for part in parts for n in part.positions)
