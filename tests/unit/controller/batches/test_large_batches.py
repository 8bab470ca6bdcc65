"""Neither the listing nor the table of a batch needs more memory for more images."""

import tracemalloc

import pytest

from bench.large_batch import EmptyBucket, LargeResults, LargeSource, SentSlices
from cloud.batches.store import BatchStore
from controller.batches.findings import find
from controller.batches.lister import Lister
from controller.batches.rows import outcomes
from controller.web.batch_tables import as_csv
from tests.support.batch_work import BATCH, batch_of, list_whole

SMALL, LARGE = 6_000, 24_000
ALLOWANCE = 2  # as many manifests as are read ahead are not always read at the same time


def peak(act, *given):
    """The bytes that it needs at most."""
    tracemalloc.start()
    try:
        act(*given)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def list_all(images):
    queue = SentSlices()
    list_whole(Lister(LargeSource(images), BatchStore(EmptyBucket(), EmptyBucket()), queue), batch_of())
    return queue.sizes


def write_csv(images):
    rows = 0
    for piece in as_csv(outcomes(LargeResults(images), BATCH), 5):
        rows += piece.count("\r\n")
    assert rows == images + 1


def sum_up(images):
    rows = (one.row for one in outcomes(LargeResults(images), BATCH))
    assert find(rows, images).classified == images


@pytest.mark.parametrize("act", [list_all, write_csv, sum_up])
def test_the_memory_does_not_grow_with_the_images(act):
    small, large = peak(act, SMALL), peak(act, LARGE)
    print(f"{act.__name__}: {small / 1e6:.2f} MB for {SMALL:,}, {large / 1e6:.2f} MB for {LARGE:,}")
    assert large < ALLOWANCE * small


@pytest.mark.parametrize(
    ("images", "slices", "largest"), [(50, 5, 10), (1000, 100, 10), (10_000, 100, 100), (100_000, 496, 250)]
)
def test_a_batch_has_about_a_hundred_slices_or_slices_of_250(images, slices, largest):
    sizes = list_all(images)
    assert sum(sizes) == images
    assert (len(sizes), max(sizes)) == (slices, largest)
