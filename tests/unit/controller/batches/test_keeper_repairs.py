"""Slices that are lost are sent again."""

from itertools import pairwise

import pytest

from cloud.image_id import new_shard
from controller.batches.repair import MOST_SENT, QUIET_SECONDS
from controller.batches.wording import NEVER_ANSWERED
from controller.container import make_batches
from controller.image_requests.request_ids import RequestIds
from tests.support.batch_work import (
    BATCH,
    positions,
    slices_in,
    work_on,
)
from tests.support.keepers import looking_anew


def test_a_lost_message_is_sent_again_when_the_queue_has_been_empty_for_long(
    store, slices, keeper, begin, clock
):
    begin(*[f"{n:02}.jpg" for n in range(25)])
    lost = slices_in(slices)[1]
    keeper.look()
    clock.now = QUIET_SECONDS - 1
    keeper.look()
    clock.now += 2
    keeper.look()
    assert slices_in(slices) == [], "an empty queue is counted twice"
    keeper.look()
    parts = slices_in(slices)
    assert positions(parts) == [(0, n) for n in range(25)]
    assert lost in parts
    keeper.look()
    assert slices_in(slices) == [], "they are not sent again at once"


def test_nothing_is_sent_again_while_slices_wait_in_the_queue(store, slices, keeper, begin, clock):
    begin("1.jpg")
    for _ in range(5):
        keeper.look()
        clock.now += QUIET_SECONDS
    assert len(slices_in(slices)) == 1


def test_a_lost_message_is_sent_again_though_another_batch_keeps_the_queue_busy(
    store, slices, keeper, begin, clock
):
    begin("small/1.jpg", prefix="small/")
    (lost,) = slices_in(slices)
    begin(*[f"large/{n:02}.jpg" for n in range(80)], prefix="large/", batch_id="f" * 32)
    *first, later, last = slices_in(slices)

    def sent_again(ended, wait):
        """Whether the slice is sent in a minute in which others end, while others wait."""
        slices_in(slices)
        slices.send(part.model_dump_json() for part in wait)
        for part in ended:
            work_on(store, part)
        keeper.look()
        clock.now += QUIET_SECONDS
        keeper.look()
        return lost in slices_in(slices)

    keeper.look()
    assert not sent_again([], first), "it may be behind the six that wait"
    assert not sent_again(first[:4], [*first[4:], later])
    assert not sent_again([], [*first[4:], later, last]), "those that came meanwhile are behind it"
    assert sent_again(first[4:], [later, last])
    assert not sent_again([later], [last]), "it is not sent again at once"


@pytest.fixture
def beside_another(store, slices, begin, clock, settings, aws, state):
    """Returns a function that looks again and again, with these settings, while others answer another batch.

    The slice of BATCH has left the queue: a worker has it in hand, or has died of it, or it is lost.
    """

    def look(times, seconds, **given):
        keeper = make_batches(settings.model_copy(update=given), aws, RequestIds(state, new_shard())).keeper
        keeper.repair.clock = clock
        keeper = looking_anew(keeper)
        begin("small/1.jpg", prefix="small/")
        slices_in(slices)
        begin(*[f"large/{n:02}.jpg" for n in range(times + 1)], prefix="large/", batch_id="f" * 32)
        other, *_, waits = slices_in(slices)
        slices.send([waits.model_dump_json()])
        for n in range(times):
            work_on(store, other.with_only([n]))
            keeper.look()
            yield slices.counts().backlog - 1
            clock.now += seconds

    return look


def test_an_image_that_kills_workers_has_the_time_for_all_its_tries_though_other_slices_end(
    store, beside_another
):
    """Each worker that dies of it holds its message for a visibility timeout."""
    minutes = 3 * 10
    assert not any(beside_another(minutes + 1, 60, visibility_timeout=600, max_receives=4))
    assert store.cancelled(BATCH) is None


def test_while_other_slices_end_those_of_a_batch_are_sent_again_ever_more_seldom(store, beside_another):
    """A worker that has large images in hand makes no row for long."""
    tries = 4 * 60
    sent = list(beside_another(64, tries, visibility_timeout=60, max_receives=4))
    times = [tries * sent.index(n) for n in range(MOST_SENT + 1)]
    assert all(after - before >= tries * 2**n for n, (before, after) in enumerate(pairwise(times)))
    assert store.cancelled(BATCH) is None


def test_a_batch_whose_slices_are_lost_again_and_again_ends_with_a_sentence(
    store, slices, keeper, begin, clock
):
    """No worker may write its rows, perhaps. Without an end, it would be sent for good."""
    begin("1.jpg")
    sent = 0
    for _ in range(10 * MOST_SENT):
        sent += len(slices_in(slices))
        keeper.look()
        clock.now += QUIET_SECONDS
    assert sent == 1 + MOST_SENT
    assert store.cancelled(BATCH) == NEVER_ANSWERED
    assert store.open() == []


def test_each_new_row_lets_lost_slices_be_sent_anew(store, slices, keeper, begin, clock):
    begin(*[f"{n:02}.jpg" for n in range(2 * MOST_SENT)])
    lost = slices_in(slices)
    for n in range(2 * MOST_SENT):
        for _ in range(4):
            keeper.look()
            clock.now += QUIET_SECONDS
        assert slices_in(slices), "they were lost again, and are sent again"
        work_on(store, lost[0].with_only([n]))
    keeper.look()
    assert (store.open(), store.cancelled(BATCH)) == ([], None)
