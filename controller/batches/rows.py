"""Reads the results of a batch: one outcome for each of its images, in the order of the keys.

The row that counts is that of the last round in which the image was tried: a later round tries only failures
that may pass. Within a round, it is the one written first.
At most a few manifests are in memory at a time, however large the batch is.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime
from itertools import groupby
from typing import NamedTuple

from cloud.batches.batch import ListedImage, Row
from cloud.batches.store import BatchStore, Result
from cloud.errors import NotFound
from cloud.failure_code import FailureCode
from cloud.prediction import Failure, Status
from controller.batches.missing import written

AHEAD = 4  # manifests that are read while the one before them is used
CANCELLED = "The batch was cancelled before this image was classified."


class Outcome(NamedTuple):
    """What is known of one image of a batch."""

    manifest: int
    position: int
    key: str
    row: Row | None
    """None while the image waits."""


def outcomes(
    store: BatchStore,
    batch_id: str,
    *,
    manifests: Iterable[int] | None = None,
    until: datetime | None = None,
    cancelled: bool = False,
) -> Iterator[Outcome]:
    """Yields the outcomes of the images of these manifests, or of all that are written.

    `manifests` ascend. Rows that were written after `until` do not count. With `cancelled`, images without a
    row have failed. Raises CloudError when S3 fails.
    """
    if manifests is None:
        manifests = (number for number, _ in store.manifests(batch_id))

    def read(number: int, results: list[Result]) -> list[Outcome]:
        manifest = store.manifest(batch_id, number)
        images = manifest.images if manifest else ()
        rows = counting_rows(store, [one for one in results if not until or written_by(one, until)])
        absent = cancelled_row if cancelled else lambda position, image: None
        return [
            Outcome(number, n, image.key, rows.get(n) or absent(n, image)) for n, image in enumerate(images)
        ]

    for found in ahead(read, with_results(manifests, store.results(batch_id))):
        yield from found


def counting_rows(store: BatchStore, results: list[Result]) -> dict[int, Row]:
    """Returns the rows of one manifest that count, by position."""
    rows: dict[int, Row] = {}
    for _, found in groupby(sorted(results, key=lambda one: one.round), key=lambda one: one.round):
        of_round: dict[int, Row] = {}
        for one in sorted(found, key=written, reverse=True):
            with suppress(NotFound):  # it has expired
                of_round.update((row.position, row) for row in store.rows(one))
        rows.update((n, row) for n, row in of_round.items() if n not in rows or is_tried_again(rows[n]))
    return rows


def is_tried_again(row: Row) -> bool:
    """Returns whether a later round may have another row for this image. All other rows are final."""
    return row.error is not None and row.error.retryable


def with_results(manifests: Iterable[int], results: Iterable[Result]) -> Iterator[tuple[int, list[Result]]]:
    """Yields each manifest with its results. Both are in ascending order, and are read as they are needed."""
    groups = groupby(results, key=lambda one: one.manifest)
    found: tuple[int, list[Result]] | None = None
    for number in manifests:
        while found is None or found[0] < number:
            manifest, group = next(groups, (-1, iter(())))
            if manifest < 0:
                break
            found = manifest, list(group)
        yield number, found[1] if found and found[0] == number else []


def ahead(
    read: Callable[[int, list[Result]], list[Outcome]], todo: Iterable[tuple[int, list[Result]]]
) -> Iterator[list[Outcome]]:
    """Yields what `read` returns for each of them, in order, and reads some of them ahead."""
    reading: deque[Future[list[Outcome]]] = deque()
    with ThreadPoolExecutor(AHEAD, thread_name_prefix="batch-rows") as pool:
        try:
            for number, results in todo:
                reading.append(pool.submit(read, number, results))
                if len(reading) > AHEAD:
                    yield reading.popleft().result()
            while reading:
                yield reading.popleft().result()
        finally:
            for one in reading:
                one.cancel()


def written_by(result: Result, until: datetime) -> bool:
    return result.written_at is None or result.written_at <= until


def cancelled_row(position: int, image: ListedImage) -> Row:
    failure = Failure(code=FailureCode.CANCELLED, message=CANCELLED)
    return Row(position=position, key=image.key, status=Status.FAILED, error=failure)
