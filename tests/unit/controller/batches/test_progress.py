from datetime import timedelta

import pytest

from bench.large_batch import AT
from cloud.batches.batch import Listed, Manifest, Round
from cloud.batches.slice import Slice
from cloud.batches.store import Result
from cloud.clock import now
from cloud.failure_code import FailureCode
from controller.batches.missing import Answered
from controller.batches.progress import NEWEST, Tally, cost, last_round, read_progress
from tests.support.batch_work import (
    BATCH,
    batch_of,
    failure,
    list_whole,
    listed_images,
    photos,
    slices_in,
    tabby,
    work_off,
    work_on,
)

MINUTE = timedelta(minutes=1)


def result(start, rows=10, *, failures=0, ago=0, manifest=0, round=1, ms=1000):
    at = AT - timedelta(seconds=ago)
    return Result(BATCH, manifest, round, start, start + rows, rows, failures, ms, at)


def tally(*results):
    return Tally.of(results, Answered(None), AT - MINUTE)


def test_rows_and_failures_are_counted_by_round():
    found = tally(result(0, failures=3), result(10), result(0, 3, failures=1, round=2))
    assert (found.rows, found.failures) == ({1: 20, 2: 3}, {1: 3, 2: 1})
    assert (found.objects, found.milliseconds) == (3, 3000)


def test_a_row_that_was_written_twice_counts_once_and_its_time_twice():
    found = tally(result(0, failures=10), result(0, 5, ago=5))
    assert found.rows == {1: 10}
    assert found.failures == {1: 5}, "of the first rows, none has failed"
    assert found.milliseconds == 2000


def test_only_the_rows_of_the_last_minute_are_recent():
    found = tally(result(0, ago=61), result(10, ago=59), result(20))
    assert found.recent == 20
    assert (found.first_at, found.last_at) == (AT - timedelta(seconds=61), AT)


def test_the_newest_results_are_remembered():
    found = tally(*(result(10 * n, ago=n) for n in range(NEWEST + 5)))
    assert [one.start for one in found.newest] == [10 * n for n in range(NEWEST)]


@pytest.mark.parametrize(
    ("notes", "round"),
    [
        (set(), 1),
        ({"batch.json", "listed.json", "manifests/"}, 1),
        ({"round-2.json", "round-10.json", "summary-9.json"}, 10),
    ],
)
def test_the_last_round_is_known_from_the_names(notes, round):
    assert last_round(notes) == round


def test_a_batch_costs_the_time_of_its_workers_and_its_calls():
    found = tally(result(0, 100, ms=36_000))
    of_workers, images, of_slice, manifest = 0.001, 100 * 0.4e-6, 5e-6 + 0.4e-6 + 4 * 0.4e-6, 10e-6
    assert cost(found, 1, price_per_hour=0.1) == pytest.approx(of_workers + images + of_slice + manifest)


def read(store, batch, before=None):
    return read_progress(store, batch, Answered(store), 0.1, before)


def test_while_it_is_listed_the_images_are_those_of_the_manifests_but_the_last(store, aws, slices, lister):
    """The last one may not be full."""
    batch = batch_of()
    assert (read(store, batch).images, read(store, batch).listed) == (0, None)
    images = listed_images("1.jpg")
    store.put_manifest(BATCH, 0, Manifest(images=images))
    store.put_rows(Slice.of(BATCH, 0, [0]), [tabby(0, "1.jpg")], 1.0)
    progress = read(store, batch)
    assert (progress.images, progress.waiting, progress.answered, progress.manifests) == (0, 0, 0, 1)
    assert progress.expected_dollars == progress.dollars
    store.put_manifest(BATCH, 1, Manifest(images=images))
    assert read(store, batch).images == 1000


def test_once_it_is_listed_all_images_are_known(store, aws, slices, lister):
    photos(aws.s3, "1.jpg")
    list_whole(lister, batch_of())
    progress = read(store, batch_of())
    assert (progress.images, progress.waiting, progress.seconds_left) == (1, 1, None)


def test_the_time_left_follows_from_the_last_minute(store, aws, slices, lister, on_reply):
    photos(aws.s3, *[f"{n:02}.jpg" for n in range(30)])
    batch = batch_of()
    list_whole(lister, batch)
    first, *_ = slices_in(slices)
    work_on(store, first)

    def half_a_minute_ago(reply):
        for item in reply.get("Contents", []):
            item["LastModified"] = now() - timedelta(seconds=20)

    on_reply(aws.s3, "ListObjectsV2", half_a_minute_ago)
    progress = read(store, batch)
    assert progress.images_per_second == pytest.approx(0.5, rel=0.05)
    assert progress.seconds_left == pytest.approx(40, rel=0.05)
    assert progress.expected_dollars == pytest.approx(3 * progress.dollars)


def test_what_is_known_for_good_is_not_read_again(store, aws, slices, lister, on_call):
    photos(aws.s3, "1.jpg")
    batch = batch_of()
    list_whole(lister, batch)
    for number in (2, 3):
        store.put_round(BATCH, number, Round(images=1, parts=(Slice.of(BATCH, 0, [0], number),)))
    progress = read(store, batch)
    reads = []
    on_call(aws.s3, "GetObject", reads.append)
    read(store, batch, progress)
    assert reads == []


def test_failures_that_are_tried_again_are_no_longer_counted(store, aws, slices, lister):
    photos(aws.s3, *[f"{n:02}.jpg" for n in range(10)])
    batch = batch_of()
    list_whole(lister, batch)
    work_off(store, slices, failure(FailureCode.GAVE_UP))
    assert (read(store, batch).answered, read(store, batch).failed) == (10, 10)
    again = Slice.of(BATCH, 0, [0, 4], round=2)
    store.put_round(BATCH, 2, Round(images=2, parts=(again,)))
    work_on(store, again)
    store.put_listed(BATCH, Listed(images=10, manifests=1, bytes=0))
    assert read(store, batch).tally.rows == {1: 10, 2: 2}


def test_rows_of_a_round_that_nobody_has_asked_for_answer_no_image(store, aws, slices, lister):
    batch = batch_of()
    photos(aws.s3, "1.jpg")
    list_whole(lister, batch)
    work_on(store, Slice.of(BATCH, 0, [0], 2))
    assert read(store, batch).waiting == 1
