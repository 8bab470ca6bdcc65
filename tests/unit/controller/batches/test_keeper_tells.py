"""The notices of batches that have ended."""

import pytest

from cloud.errors import CloudError
from cloud.failure_code import FailureCode
from controller.batches.retry import retry
from tests.support.batch_work import (
    BATCH,
    failure,
    slices_in,
    work_off,
)
from tests.support.keepers import progress_of


def test_a_batch_that_has_ended_is_told_with_its_counts(store, slices, keeper, begin, told):
    begin("1.jpg", "2.jpg")
    keeper.look()
    assert told == []
    work_off(store, slices, failure(FailureCode.NOT_AN_IMAGE))
    keeper.look()
    keeper.look()
    [notice] = told
    assert (notice.kind, notice.id, notice.path) == ("batch", BATCH, f"/batches/{BATCH}")
    assert (notice.status, notice.counts) == ("finished", {"classified": 0, "failed": 2})


@pytest.mark.parametrize("budget", [None, 1.0])
def test_a_batch_that_was_cancelled_or_is_out_of_budget_is_told(store, slices, keeper, begin, told, budget):
    begin(*[f"{n:02}.jpg" for n in range(25)], budget=budget)
    first = slices_in(slices)[0]
    slices.send([first.model_dump_json()])
    work_off(store, slices)
    if budget is None:
        store.cancel(BATCH, "You cancelled it.")
    keeper.look()
    keeper.look()
    assert [(one.status, one.counts) for one in told] == [("cancelled", {"classified": 0, "failed": 25})]


def test_a_batch_is_told_though_a_process_died_after_the_summary(store, slices, new_keeper, begin, told):
    def die(notice):
        raise CloudError("this process dies here")

    begin("1.jpg")
    work_off(store, slices)
    dying = new_keeper()
    dying.tell = die
    dying.look()
    assert store.open() == [BATCH]
    new_keeper().look()
    assert [notice.id for notice in told] == [BATCH]
    assert store.open() == []


def test_of_two_keepers_that_finish_a_batch_one_tells(store, slices, new_keeper, begin, told):
    begin("1.jpg")
    work_off(store, slices)
    one, other = new_keeper(), new_keeper()
    watched = other.watch.of(BATCH)
    before = watched.read()
    one.look()
    other._finish(watched, before)
    assert len(told) == 1


def test_a_round_is_told_though_the_next_one_has_begun(store, slices, new_keeper, begin, told):
    begin("1.jpg")
    work_off(store, slices, failure(FailureCode.STORAGE_FAILED))
    close, store.close = store.close, lambda *_: None
    new_keeper().look()
    store.close = close
    told.clear()
    retry(store, slices, progress_of(new_keeper()))
    new_keeper().look()
    assert [notice.counts for notice in told] == [{"classified": 0, "failed": 1}]
