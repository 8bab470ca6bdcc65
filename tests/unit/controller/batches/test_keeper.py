"""The keeper finishes batches, and tells the fleet what is left of them."""

from datetime import timedelta
from threading import Event, Thread

import pytest

from cloud.clock import now
from cloud.failure_code import FailureCode
from controller.batches import keeper as module
from controller.batches.keeper import IDLE_SECONDS
from controller.batches.load import BatchLoad
from tests.support.batch_work import (
    BATCH,
    batch_of,
    failure,
    photos,
    slices_in,
    work_off,
)
from tests.support.keepers import progress_of
from tests.support.threads import join_threads


@pytest.fixture
def broken(keeper, monkeypatch):
    """A batch whose progress cannot be computed."""

    def fail():
        raise ZeroDivisionError

    def breaks():
        monkeypatch.setattr(keeper.watch.of(BATCH), "progress", fail)

    return breaks


def test_a_batch_that_breaks_its_keeper_stops_neither_it_nor_the_autoscaler(keeper, begin, broken):
    begin("1.jpg")
    broken()
    stop = Event()
    thread = Thread(target=keeper.run, args=[stop])
    thread.start()
    keeper.loads.forget()
    assert keeper.loads.get() == ()
    thread.join(1)
    assert thread.is_alive()
    stop.set()
    keeper.wake.set()
    thread.join()


def test_without_an_open_batch_it_looks_seldom(keeper):
    assert keeper.look() == IDLE_SECONDS


def test_a_batch_is_finished_once_all_its_rows_are_there(store, slices, keeper, begin):
    begin("1.jpg", "2.jpg", "3.jpg")
    parts = slices_in(slices)
    keeper.look()
    assert store.open() == [BATCH]
    assert progress_of(keeper).summary is None
    for part in parts:
        slices.send([part.model_dump_json()])
    work_off(store, slices, failure(FailureCode.NOT_AN_IMAGE))
    keeper.look()
    assert store.open() == []
    summary = progress_of(keeper).summary
    assert (summary.images, summary.classified, summary.failed, summary.milliseconds) == (3, 0, 3, 1000)
    assert [(one.code, one.count) for one in summary.failures] == [(FailureCode.NOT_AN_IMAGE, 3)]


def test_a_batch_without_images_is_finished_at_once(store, keeper, begin):
    begin()
    keeper.look()
    assert store.open() == []
    assert progress_of(keeper).summary.images == 0


def test_a_process_that_died_between_summary_and_close_is_made_up_for(store, slices, new_keeper, begin):
    begin("1.jpg")
    work_off(store, slices)
    close, store.close = store.close, lambda *_: None
    new_keeper().look()
    store.close = close
    assert store.open() == [BATCH]
    new_keeper().look()
    assert store.open() == []


def test_a_marker_without_a_batch_is_forgotten_in_time(store, keeper, monkeypatch):
    store.state.write(f"open-batches/{BATCH}", b"")
    keeper.look()
    assert store.open() == [BATCH]
    monkeypatch.setattr(module, "FORGOTTEN_AFTER", timedelta(seconds=-10))
    keeper.look()
    assert store.open() == []


def test_at_its_budget_a_batch_stops(store, slices, keeper, begin):
    begin(*[f"{n:02}.jpg" for n in range(25)], budget=1.0)
    first = slices_in(slices)[0]
    slices.send([first.model_dump_json()])
    work_off(store, slices)
    keeper.look()
    assert store.cancelled(BATCH) == "Its budget of $1.00 was spent when 10 of 25 images were answered."
    keeper.look()
    assert store.open() == []
    assert progress_of(keeper).summary.cancelled


def test_a_cancelled_batch_ends_at_once_and_what_waits_has_failed(
    store, slices, keeper, begin, aws, on_reply
):
    begin(*[f"{n:02}.jpg" for n in range(12)])
    first = slices_in(slices)[0]
    slices.send([first.model_dump_json()])
    work_off(store, slices)

    def before_that(reply):
        for item in reply.get("Contents", []):
            item["LastModified"] -= timedelta(seconds=10)

    on_reply(aws.s3, "ListObjectsV2", before_that)
    store.cancel(BATCH, "It was cancelled.")
    keeper.look()
    summary = progress_of(keeper).summary
    assert (summary.images, summary.classified) == (12, 10)
    assert [(one.code, one.count) for one in summary.failures] == [(FailureCode.CANCELLED, 2)]


def test_the_fleet_is_told_what_is_left(store, slices, keeper, begin):
    deadline = now() + timedelta(minutes=30)
    begin(*[f"{n:02}.jpg" for n in range(25)], budget=100.0, deadline=deadline)
    first = slices_in(slices)[0]
    slices.send([first.model_dump_json()])
    work_off(store, slices)
    (load,) = keeper.loads.get()
    assert load == BatchLoad(15, False, deadline.timestamp(), load.budget_left)
    assert load.budget_left == pytest.approx(99, abs=0.01)


def test_the_fleet_is_woken_once_the_listing_knows_how_many_images_there_are(store, keeper, aws):
    photos(aws.s3, "1.jpg")
    woken, batch = [], batch_of()
    keeper.wake_autoscaler = lambda: woken.append([load.images for load in keeper.loads.get()])
    store.put(batch)
    assert [load.images for load in keeper.loads.get()] == [0]
    keeper.list(batch)
    join_threads("list-batch")
    assert woken == [[1]]


def test_the_fleet_is_told_without_a_call_while_the_keeper_looks_anyway(
    store, keeper, begin, clock, aws, on_call
):
    begin("1.jpg")
    pause = keeper.look()
    called = []
    on_call(aws.s3, "ListObjectsV2", called.append)
    clock.now += pause
    assert [load.images for load in keeper.loads.get()] == [1]
    assert called == []
    keeper.hurry()
    keeper.loads.get()
    assert called != []


def test_a_batch_that_cannot_be_read_does_not_hold_up_the_others(store, slices, keeper, begin):
    store.state.write(f"open-batches/{'0' * 32}", b"")
    store.state.write(f"batches/{'0' * 32}/batch.json", b"broken")
    begin("1.jpg")
    work_off(store, slices)
    keeper.look()
    assert store.open() == ["0" * 32]


def test_whoever_is_woken_looks_at_once(store, slices, keeper, begin):
    """Between two looks at nothing lie minutes otherwise."""
    stop = Event()
    thread = Thread(target=keeper.run, args=[stop])
    thread.start()
    try:
        begin("1.jpg")
        work_off(store, slices)
        for _ in range(100):
            keeper.hurry()
            if not store.open():
                break
            stop.wait(0.1)
        assert store.open() == []
    finally:
        stop.set()
        keeper.hurry()
        thread.join(10)
    assert not thread.is_alive()


def test_a_batch_that_another_process_has_finished_is_forgotten(store, slices, new_keeper, begin):
    begin("1.jpg")
    one, other = new_keeper(), new_keeper()
    one.look()
    work_off(store, slices)
    other.look()
    one.look()
    assert (one.repair._quiet, one.repair._objects) == ({}, {})
