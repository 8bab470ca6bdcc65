from datetime import timedelta

import pytest

from cloud.batches.batch import Manifest
from cloud.batches.slice import Slice
from cloud.clock import now
from cloud.failure_code import FailureCode
from cloud.prediction import Status
from controller.batches.missing import Answered, all_of, mask_of, missing, positions_of
from controller.batches.rows import outcomes
from tests.support.batch_work import BATCH, failure, listed_images, positions, tabby, work_on


@pytest.fixture
def manifests(store):
    store.put_manifest(BATCH, 0, Manifest(images=listed_images("a", "b", "c", "d")))
    store.put_manifest(BATCH, 1, Manifest(images=listed_images("e", "f")))
    store.put_manifest(BATCH, 2, Manifest(images=listed_images("g")))


def named(label):
    def answer(position, key):
        return tabby(position, key).model_copy(update={"label": label})

    return answer


def answer(store, manifest, numbers, how=tabby, round=1):
    work_on(store, Slice.of(BATCH, manifest, numbers, round), how)


def shown(store, **more):
    return [
        (one.key, one.row and (one.row.label or one.row.error.code)) for one in outcomes(store, BATCH, **more)
    ]


def test_each_image_has_one_outcome_in_the_order_of_the_keys(store, manifests):
    answer(store, 1, [0, 1])
    answer(store, 0, [1, 3])
    answer(store, 0, [0])
    assert shown(store) == [
        ("a", "tabby"),
        ("b", "tabby"),
        ("c", None),
        ("d", "tabby"),
        ("e", "tabby"),
        ("f", "tabby"),
        ("g", None),
    ]


def test_what_was_not_answered_before_the_batch_was_cancelled_has_failed(store, manifests):
    answer(store, 0, [0, 1, 2, 3])
    found = shown(store, manifests=[1, 2], cancelled=True)
    assert found == [(key, FailureCode.CANCELLED) for key in "efg"]


def test_of_two_rows_of_a_round_the_first_counts(store, manifests, on_reply, aws):
    """S3 says which one was written first, whatever their keys are."""
    answer(store, 1, [0, 1], named("second"))
    answer(store, 1, [0], named("first"))

    def say_when(reply):
        for item in reply.get("Contents", []):
            if "-0-1-" in item["Key"]:
                item["LastModified"] -= timedelta(minutes=1)

    on_reply(aws.s3, "ListObjectsV2", say_when)
    assert shown(store, manifests=[1]) == [("e", "first"), ("f", "second")]


def test_a_row_of_a_later_round_counts_more(store, manifests):
    answer(store, 1, [0, 1], failure(FailureCode.GAVE_UP))
    answer(store, 1, [1], round=2)
    assert shown(store, manifests=[1]) == [("e", FailureCode.GAVE_UP), ("f", "tabby")]


@pytest.mark.parametrize("final", [tabby, failure(FailureCode.NOT_AN_IMAGE)])
def test_a_row_that_is_final_stays_whatever_a_worker_writes_for_a_later_round(store, manifests, final):
    answer(store, 2, [0], final)
    before = shown(store, manifests=[2])
    answer(store, 2, [0], named("forged"), round=2)
    assert shown(store, manifests=[2]) == before


def test_rows_that_come_after_a_batch_was_summed_up_do_not_count(store, manifests):
    answer(store, 1, [0, 1])
    ago = now() - timedelta(minutes=1)
    assert shown(store, manifests=[1], until=ago) == [("e", None), ("f", None)]


def test_a_result_that_has_expired_leaves_its_images_without_a_row(store, manifests, aws, on_reply):
    answer(store, 1, [0, 1])
    (result,) = store.results(BATCH)
    found = list(store.results(BATCH))
    store.outputs.delete(result.key)
    store.results = lambda batch_id: iter(found)
    assert shown(store, manifests=[1]) == [("e", None), ("f", None)]


def test_statuses_are_those_of_the_rows(store, manifests):
    answer(store, 2, [0])
    (one,) = outcomes(store, BATCH, manifests=[2])
    assert (one.manifest, one.position, one.row.status) == (2, 0, Status.CLASSIFIED)


def test_overlapping_results_count_each_image_once(store, manifests):
    answer(store, 0, [0, 1, 2], failure(FailureCode.BROKEN))
    answer(store, 0, [1, 3])
    answer(store, 0, [0, 3])
    rows, failures = Answered(store).count(store.results(BATCH))
    assert rows == 4
    assert failures <= 3


def test_results_that_do_not_overlap_are_counted_by_their_names(store, manifests, on_call, aws):
    answer(store, 0, [0, 2])
    answer(store, 0, [3], failure(FailureCode.BROKEN))
    results = list(store.results(BATCH))
    reads = []
    on_call(aws.s3, "GetObject", reads.append)
    assert Answered(store).count(results) == (3, 1)
    assert reads == []


def test_what_is_missing_is_found_whatever_the_slices_were(store, manifests):
    answer(store, 0, [0, 2])
    answer(store, 1, [0], round=2)
    expected = {0: all_of(0, 4), 1: 0b11}
    slices = list(missing(BATCH, expected, store.results(BATCH), Answered(store), size=1))
    assert positions(slices) == [(0, 1), (0, 3), (1, 0), (1, 1)]
    assert [len(part) for part in slices] == [1, 1, 1, 1]


def test_masks_are_sets_of_positions():
    assert positions_of(mask_of([0, 5, 999])) == [0, 5, 999]
    assert positions_of(0) == []
    assert positions_of(all_of(1, 1003)) == [0, 1, 2]
    assert len(positions_of(all_of(0, 1003))) == 1000
