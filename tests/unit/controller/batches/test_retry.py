"""What failed in a batch is tried again in a round of its own."""

from datetime import timedelta

import pytest

from cloud.batches.batch import Manifest, Round
from cloud.batches.slice import Slice
from cloud.failure_code import FailureCode
from controller.batches import keeper as module
from controller.batches.repair import QUIET_SECONDS
from controller.batches.retry import retry
from controller.batches.watch import Watch
from controller.image_requests.errors import InvalidState
from tests.support.batch_work import (
    BATCH,
    failure,
    listed_images,
    positions,
    slices_in,
    work_off,
    work_on,
)
from tests.support.keepers import PRICE, progress_of


def test_a_retry_does_the_failures_alone(store, slices, keeper, begin):
    begin(*[f"{n:02}.jpg" for n in range(12)])
    first, second = slices_in(slices)
    slices.send([first.model_dump_json()])
    work_off(store, slices, failure(FailureCode.BROKEN))
    slices.send([second.model_dump_json()])
    work_off(store, slices, failure(FailureCode.STORAGE_FAILED))
    keeper.look()
    retry(store, slices, progress_of(keeper))
    assert store.open() == [BATCH]
    progress = progress_of(keeper)
    assert (progress.round, progress.waiting, progress.answered, progress.failed) == (2, 2, 10, 10)
    keeper.look()
    assert store.open() == [BATCH]
    (again,) = work_off(store, slices)
    assert (again.round, positions([again])) == (2, [(0, 10), (0, 11)])
    keeper.look()
    assert store.open() == []
    summary = progress_of(keeper).summary
    assert (summary.classified, summary.failed) == (2, 10)


def test_another_process_does_not_take_the_end_of_the_round_before_for_that_of_a_retry(
    store, slices, keeper, begin
):
    """Whoever has asked for the retry would collect the old results."""
    begin("1.jpg")
    work_off(store, slices, failure(FailureCode.STORAGE_FAILED))
    keeper.look()
    other = Watch(store, PRICE).of(BATCH)
    assert other.progress().summary
    retry(store, slices, progress_of(keeper))
    assert (other.progress().round, other.progress().summary) == (2, None)


def test_what_another_lister_has_found_after_the_end_is_no_part_of_the_batch(store, slices, keeper, begin):
    """The first one stood still before it wrote the totals, and pictures were added meanwhile.

    The rows of those were counted for images that had none, which then ended as cancelled.
    """
    begin("1.jpg", "2.jpg", "3.jpg")
    parts = slices_in(slices)
    store.put_manifest(BATCH, 1, Manifest(images=listed_images("4.jpg", "5.jpg", "6.jpg")))
    work_on(store, Slice.of(BATCH, 1, range(3)), failure(FailureCode.GAVE_UP))
    assert (progress_of(keeper).waiting, progress_of(keeper).at_end) == (3, False)
    for part in parts:
        work_on(store, part, failure(FailureCode.GAVE_UP))
    keeper.look()
    summary = progress_of(keeper).summary
    assert [(one.code, one.count) for one in summary.failures] == [(FailureCode.GAVE_UP, 3)]
    retry(store, slices, progress_of(keeper))
    assert positions(slices_in(slices)) == [(0, 0), (0, 1), (0, 2)]


def test_a_retry_whose_process_died_is_sent_by_a_keeper(store, slices, keeper, begin, clock):
    begin("1.jpg", "2.jpg")
    work_off(store, slices, failure(FailureCode.GAVE_UP))
    keeper.look()
    send, slices.send = slices.send, lambda bodies: None
    retry(store, slices, progress_of(keeper))
    slices.send = send
    for _ in range(3):
        keeper.look()
        clock.now += QUIET_SECONDS
    (again,) = slices_in(slices)
    assert (again.round, positions([again])) == (2, [(0, 0), (0, 1)])


def test_a_retry_that_was_opened_but_never_written_changes_nothing(store, slices, keeper, begin, monkeypatch):
    begin("1.jpg")
    work_off(store, slices, failure(FailureCode.GAVE_UP))
    keeper.look()
    store.state.write(f"open-batches/{BATCH}-2", b"")
    keeper.look()
    assert store.open() == [BATCH], "its process may be about to write the round"
    monkeypatch.setattr(module, "FORGOTTEN_AFTER", timedelta(seconds=-10))
    keeper.look()
    assert store.open() == []


def test_a_keeper_that_is_late_does_not_close_the_next_round(store, slices, keeper, begin):
    begin("1.jpg")
    work_off(store, slices, failure(FailureCode.GAVE_UP))
    keeper.look()
    retry(store, slices, progress_of(keeper))
    store.close(BATCH, 1)
    assert store.open() == [BATCH]


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [(failure(FailureCode.BROKEN), "Nothing can be tried again"), (None, "still runs")],
)
def test_a_retry_that_makes_no_sense_is_refused(store, slices, keeper, begin, answer, sentence):
    begin("1.jpg")
    if answer:
        work_off(store, slices, answer)
        keeper.look()
    with pytest.raises(InvalidState, match=sentence):
        retry(store, slices, progress_of(keeper))


def test_of_two_retries_at_once_one_is_refused(store, slices, keeper, begin):
    begin("1.jpg")
    work_off(store, slices, failure(FailureCode.GAVE_UP))
    keeper.look()
    finished = progress_of(keeper)
    retry(store, slices, finished)
    with pytest.raises(InvalidState, match="still runs"):
        retry(store, slices, finished)
    assert len(slices_in(slices)) == 1


def test_rounds_are_kept_as_they_were_written(store):
    round = Round(images=1, parts=())
    assert store.put_round(BATCH, 2, round)
    assert not store.put_round(BATCH, 2, Round(images=2, parts=()))
    assert store.round(BATCH, 2).images == 1


def test_after_the_last_round_that_there_can_be_a_retry_is_refused(store, slices, keeper, begin, monkeypatch):
    monkeypatch.setattr("controller.batches.retry.MOST_ROUNDS", 1)
    begin("1.jpg")
    work_off(store, slices, failure(FailureCode.GAVE_UP))
    keeper.look()
    with pytest.raises(InvalidState, match="Ask for a new batch"):
        retry(store, slices, progress_of(keeper))
