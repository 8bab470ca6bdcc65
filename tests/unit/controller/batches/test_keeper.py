from datetime import timedelta
from itertools import pairwise
from threading import Event, Thread

import pytest

from cloud.batches.batch import Manifest, Round
from cloud.batches.slice import Slice
from cloud.clock import now
from cloud.errors import CloudError
from cloud.failure_code import FailureCode
from cloud.image_id import new_shard
from controller.batches import keeper as module
from controller.batches.keeper import IDLE_SECONDS, MOST_IN_VAIN, Keeper
from controller.batches.load import BatchLoad
from controller.batches.repair import MOST_SENT, QUIET_SECONDS
from controller.batches.retry import retry
from controller.batches.watch import Watch
from controller.batches.wording import NEVER_ANSWERED
from controller.container import make_batches
from controller.image_requests.errors import InvalidState
from controller.image_requests.request_ids import RequestIds
from local.driver import eventually
from tests.support.aws_errors import refusal
from tests.support.batch_work import (
    BATCH,
    SOURCE,
    batch_of,
    failure,
    list_whole,
    listed_images,
    photos,
    positions,
    slices_in,
    work_off,
    work_on,
)
from tests.support.clocks import Clock
from tests.support.threads import join_threads

PRICE = 3600.0  # dollars an hour: a dollar for each second that a worker works


@pytest.fixture
def clock():
    return Clock(0.0)


@pytest.fixture
def told():
    """The notices of all keepers."""
    return []


@pytest.fixture
def new_keeper(store, slices, lister, clock, told):
    """The keepers of processes, which look at S3 anew each time."""

    return lambda: looking_anew(
        Keeper(store, slices, Watch(store, PRICE), lister, tell=told.append, clock=clock)
    )


def looking_anew(keeper):
    look = keeper.look

    def look_anew():
        for watched in keeper.watch._known.values():
            watched.forget()
        pause = look()
        join_threads("list-batch")
        return pause

    keeper.look = look_anew
    return keeper


@pytest.fixture
def keeper(new_keeper):
    return new_keeper()


@pytest.fixture
def begin(store, aws, lister):
    def begin(*names, **more):
        batch = batch_of(**more)
        photos(aws.s3, *names)
        store.put(batch)
        list_whole(lister, batch)
        return batch

    return begin


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


def progress_of(keeper):
    return keeper.watch.of(BATCH).read()


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


def test_an_abandoned_listing_is_taken_over_after_a_minute(store, aws, slices, keeper, on_reply):
    photos(aws.s3, "1.jpg")
    age = [50]

    def ago(reply):
        for item in reply.get("Contents", []):
            item["LastModified"] = now() - timedelta(seconds=age[0])

    on_reply(aws.s3, "ListObjectsV2", ago)
    store.put(batch_of(created_at=now() - timedelta(minutes=5)))
    keeper.look()
    assert store.listed(BATCH) is None
    age[0] = 70
    keeper.look()
    assert store.listed(BATCH).images == 1
    assert len(slices_in(slices)) == 1


@pytest.fixture
def refused(aws, on_call):
    """The tries to list the bucket of the user, each of which S3 refuses."""
    tries = []

    def refuse(params):
        if params["Bucket"] == SOURCE:
            tries.append(params)
            raise refusal("InvalidToken", "ListObjectsV2")

    on_call(aws.s3, "ListObjectsV2", refuse)
    return tries


def test_a_listing_that_fails_goes_on_in_a_minute_and_not_at_once(store, keeper, refused, monkeypatch):
    monkeypatch.setattr(module, "TAKEN_OVER_AFTER", timedelta(seconds=3))
    store.put(batch_of(created_at=now() - timedelta(minutes=5)))
    eventually(lambda: keeper.look() and refused)
    for _ in range(3):
        keeper.look()
    assert len(refused) == 1
    eventually(lambda: keeper.look() and len(refused) == 2)


def test_a_batch_that_cannot_be_listed_ends_some_time_with_the_reason(store, keeper, refused, monkeypatch):
    monkeypatch.setattr(module, "TAKEN_OVER_AFTER", timedelta(seconds=-10))
    assert_ends(store, keeper, "AWS says InvalidToken")


def assert_ends(store, keeper, reason):
    """A batch whose listing never gets on is tried MOST_IN_VAIN times, and then ends with the reason."""
    store.put(batch_of())
    for _ in range(MOST_IN_VAIN):
        assert store.cancelled(BATCH) is None
        keeper.look()
    assert reason in store.cancelled(BATCH)
    keeper.look()
    assert store.open() == []


def test_a_batch_that_cannot_be_listed_ends_though_s3_fails_at_its_end(store, keeper, refused, monkeypatch):
    monkeypatch.setattr(module, "TAKEN_OVER_AFTER", timedelta(seconds=-10))
    monkeypatch.setattr(module, "MOST_IN_VAIN", 2)
    cancel, failures = store.cancel, [CloudError("S3 fails", "SlowDown")]

    def once_in_vain(batch_id, why):
        if failures:
            raise failures.pop()
        cancel(batch_id, why)

    monkeypatch.setattr(store, "cancel", once_in_vain)
    store.put(batch_of())
    for _ in range(3):
        assert store.cancelled(BATCH) is None
        keeper.look()
    assert "AWS says InvalidToken" in store.cancelled(BATCH)


@pytest.fixture
def failing_source(monkeypatch):
    """Lets S3 list one page of a source, of the keys that a function returns, and then fail."""

    def lets(keys_after):
        def pages(s3, batch, after=""):
            yield listed_images(*keys_after(after))
            raise CloudError("S3 fails", "InternalError")

        monkeypatch.setattr("controller.batches.lister.pages", pages)
        monkeypatch.setattr(module, "TAKEN_OVER_AFTER", timedelta(seconds=-10))

    return lets


def test_a_batch_of_which_a_later_page_cannot_be_listed_ends_some_time(store, keeper, failing_source):
    """The pages before it can be listed each time, but fill no manifest."""
    failing_source(lambda after: ["1.jpg", "2.jpg"])
    assert_ends(store, keeper, "AWS says InternalError")


def test_a_listing_that_fails_again_and_again_but_gets_on_is_not_ended(
    store, keeper, failing_source, monkeypatch
):
    monkeypatch.setattr(module, "MOST_IN_VAIN", 2)
    monkeypatch.setattr("controller.batches.listing.MANIFEST_IMAGES", 1)
    monkeypatch.setattr("controller.batches.missing.MANIFEST_IMAGES", 1)
    failing_source(lambda after: [f"{int(after.removesuffix('.jpg') or 0) + 1:02}.jpg"])
    store.put(batch_of())
    for _ in range(5):
        keeper.look()
    assert store.cancelled(BATCH) is None
    assert [number for number, _ in store.manifests(BATCH)] == [0, 1, 2, 3, 4]


def test_a_marker_without_a_batch_is_forgotten_in_time(store, keeper, monkeypatch):
    store.state.write(f"open-batches/{BATCH}", b"")
    keeper.look()
    assert store.open() == [BATCH]
    monkeypatch.setattr(module, "FORGOTTEN_AFTER", timedelta(seconds=-10))
    keeper.look()
    assert store.open() == []


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


def test_rounds_are_kept_as_they_were_written(store):
    round = Round(images=1, parts=())
    assert store.put_round(BATCH, 2, round)
    assert not store.put_round(BATCH, 2, Round(images=2, parts=()))
    assert store.round(BATCH, 2).images == 1


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


def test_a_batch_that_another_process_has_finished_is_forgotten(store, slices, new_keeper, begin):
    begin("1.jpg")
    one, other = new_keeper(), new_keeper()
    one.look()
    work_off(store, slices)
    other.look()
    one.look()
    assert (one.repair._quiet, one.repair._objects) == ({}, {})


def test_after_the_last_round_that_there_can_be_a_retry_is_refused(store, slices, keeper, begin, monkeypatch):
    monkeypatch.setattr("controller.batches.retry.MOST_ROUNDS", 1)
    begin("1.jpg")
    work_off(store, slices, failure(FailureCode.GAVE_UP))
    keeper.look()
    with pytest.raises(InvalidState, match="Ask for a new batch"):
        retry(store, slices, progress_of(keeper))
