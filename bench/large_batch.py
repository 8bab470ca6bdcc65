"""A batch of any size that is stored nowhere: its pages, manifests and results are made as they are read."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from cloud.batches.batch import ListedImage, Manifest, Row
from cloud.batches.slice import MANIFEST_IMAGES, Slice
from cloud.batches.store import Result
from cloud.errors import NotFound
from cloud.prediction import Label, Status

AT = datetime(2026, 11, 27, tzinfo=UTC)
SLICE = 250


def key(number: int) -> str:
    return f"photos/{number:08}.jpg"


def classified(position: int, key: str) -> Row:
    tabby = Label(label="tabby", confidence=0.9)
    return Row(
        position=position,
        key=key,
        status=Status.CLASSIFIED,
        label=tabby.label,
        confidence=tabby.confidence,
        predictions=(tabby,),
    )


class LargeSource:
    """The S3 client of a bucket with so many objects."""

    def __init__(self, images: int) -> None:
        self.images = images

    def get_paginator(self, operation: str) -> "LargeSource":
        assert operation == "list_objects_v2"
        return self

    def paginate(self, **_: Any) -> Iterator[dict[str, Any]]:
        for start in range(0, self.images, 1000):
            numbers = range(start, min(start + 1000, self.images))
            yield {"Contents": [{"Key": key(n), "ETag": f'"{n:032x}"', "Size": 100_000} for n in numbers]}


class EmptyBucket:
    """A bucket that takes everything and keeps nothing."""

    name = "empty"

    def __init__(self) -> None:
        self.written = 0

    def write(self, key: str, body: bytes, **_: Any) -> str:
        self.written += 1
        return '"1"'

    def read(self, key: str) -> tuple[bytes, str]:
        raise NotFound(key)

    def listing(self, prefix: str, after: str = "") -> Iterator[tuple[str, datetime]]:
        return iter(())


class SentSlices:
    """A queue that only counts."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def send(self, bodies: Iterator[str]) -> None:
        self.sizes += [len(Slice.read(body)) for body in bodies]


class LargeResults:
    """What is stored about a batch of so many images, all of which are answered."""

    def __init__(self, images: int) -> None:
        self.images = images
        self.count = -(-images // MANIFEST_IMAGES)

    def manifests(self, batch_id: str) -> Iterator[tuple[int, datetime]]:
        return ((number, AT) for number in range(self.count))

    def manifest(self, batch_id: str, number: int) -> Manifest:
        return Manifest(images=tuple(ListedImage(key=key(n), etag='"1"', size=5) for n in self._of(number)))

    def results(self, batch_id: str) -> Iterator[Result]:
        for number in range(self.count):
            for start in range(0, len(self._of(number)), SLICE):
                yield Result(batch_id, number, 1, start, start + SLICE, SLICE, 0, 1000, AT)

    def rows(self, result: Result) -> list[Row]:
        first = result.manifest * MANIFEST_IMAGES
        return [classified(n, key(first + n)) for n in range(result.start, result.end)]

    def _of(self, manifest: int) -> range:
        return range(manifest * MANIFEST_IMAGES, min((manifest + 1) * MANIFEST_IMAGES, self.images))
