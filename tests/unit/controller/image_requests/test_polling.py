import time
from threading import Event
from types import SimpleNamespace

import pytest

from cloud.image_id import ImageId, new_request_id
from cloud.prediction import Prediction
from controller.image_requests.journal import Journal
from controller.image_requests.metrics import IMAGES
from controller.image_requests.polling import poll_pause
from tests.support.aws_errors import refusal
from tests.support.exposition import by_outcome
from tests.support.submissions import submit
from tests.support.threads import join_threads


def test_the_fleet_is_looked_at_when_images_are_sent_and_when_all_are_answered(make, queue, work):
    process, backlogs = make(), []

    def look():
        backlogs.append(queue.counts().backlog)
        work()

    process.polling.wake_autoscaler = look
    watched = submit(process, "a.png", "b.png")
    assert watched.finished.wait(10)
    until = time.monotonic() + 10
    while len(backlogs) < 2 and time.monotonic() < until:
        Event().wait(0.01)
    assert backlogs == [2, 0]


def test_a_request_is_open_until_it_is_answered(make, inputs, outputs, work, state):
    process, journal = make(), Journal(state, inputs, outputs)
    watched = submit(process, "a.png", "b.png")
    (marker,) = journal.markers()
    assert sorted(journal.images(marker).waiting) == watched.image_ids
    assert process.polling.waiting().requests == (watched.request_id,)
    assert process.polling.waiting().just_sent == 2
    closed = Event()
    process.polling.wake_autoscaler = closed.set
    work()
    assert closed.wait(10)
    assert journal.markers() == []
    assert process.polling.waiting().requests == ()


def test_a_request_that_waits_too_long_gets_what_there_is_and_stays_open(make, inputs, outputs, queue, state):
    process = make()
    process.polling.request_timeout = 1
    watched = submit(process, "a.png", "b.png")
    first, second = watched.image_ids
    outputs.put_prediction(Prediction.classified(first, [("tabby", 0.9)]))
    assert watched.finished.wait(10)
    assert [i.status for i in watched.result().images] == ["classified", "waiting"]
    join_threads("poll-")
    journal = Journal(state, inputs, outputs)
    (marker,) = journal.markers()
    assert marker.name == watched.request_id
    assert list(journal.images(marker).waiting) == [second]
    assert queue.counts().backlog == 2


def test_answers_to_no_image_of_a_request_that_waits_are_not_read(make, outputs, aws, on_call):
    """A worker that was taken over could have thousands of them read every second."""
    watched, read = submit(make(), "a.png", "b.png"), []
    stray = ImageId(f"{watched.request_id}/0007-c.png")
    on_call(aws.s3, "GetObject", lambda params: read.append(params["Key"]))
    with make().follower.follow(watched.request_id) as followed:
        for image_id in (stray, *watched.image_ids):
            outputs.put_prediction(Prediction.classified(image_id, [("tabby", 0.9)]))
            time.sleep(1.5)
        assert watched.finished.wait(10)
        assert followed.finished.wait(10)
    assert read.count(stray) == 0


def test_any_process_can_read_a_request_also_after_a_restart(process, make):
    watched = submit(process, "b.png", "notes.txt", "a.png", refused=("notes.txt",))
    assert watched.finished.wait(10)
    assert make().polling.read(watched.request_id) == watched.result()


def test_a_request_is_read_while_it_waits(make, outputs):
    process = make()
    watched = submit(process, "a.png", "b.png")
    for one in (process, make()):
        found = one.polling.read(watched.request_id)
        assert [i.status for i in found.images] == ["waiting", "waiting"]
    outputs.put_prediction(Prediction.classified(watched.image_ids[1], [("tabby", 0.9)]))
    assert [i.status for i in make().polling.read(watched.request_id).images] == ["waiting", "classified"]


def test_an_unknown_request_is_none(make):
    assert make().polling.read(new_request_id()) is None


@pytest.mark.parametrize("error", [refusal("InternalError", "ListObjectsV2"), RuntimeError("InternalError")])
def test_polling_outlives_what_fails_for_a_while(make, work, aws, on_call, caplog, error):
    process, failures = make(), []

    def refuse(params):
        if not params["Prefix"].startswith("cache/") and len(failures) < 2:
            failures.append(1)
            raise error

    on_call(aws.s3, "ListObjectsV2", refuse)
    process.polling.wake_autoscaler = work
    watched = submit(process, "a.png", "b.png")
    assert watched.finished.wait(10)
    assert not watched.unanswered
    assert "InternalError" in caplog.text


def test_an_answer_that_cannot_be_read_fails_its_image_and_not_the_request(make, outputs):
    process = make()
    watched = submit(process, "a.png", "b.png")
    broken, good = watched.image_ids
    outputs.write(broken, b"\x80\x04 pickle")
    outputs.put_prediction(Prediction.classified(good, [("tabby", 0.9)]))
    assert watched.finished.wait(10)
    failed, classified = watched.result().images
    assert (failed.status, failed.error.code) == ("failed", "broken_answer")
    assert classified.label == "tabby"
    assert make().polling.read(watched.request_id) == watched.result()


def test_a_change_of_the_answer_after_the_first_is_not_taken(process, make, outputs):
    watched = submit(process, "a.png")
    assert watched.finished.wait(10)
    assert not outputs.put_prediction(Prediction.failed(watched.image_ids[0], "gave_up", "late"))
    assert make().polling.read(watched.request_id) == watched.result()


def test_many_requests_at_once_are_polled_with_few_listings(make, outputs, aws, on_call):
    process, listings = make(), []
    on_call(aws.s3, "ListObjectsV2", lambda params: listings.append(1))
    watched = [submit(process, "a.png") for _ in range(20)]
    Event().wait(0.5)
    before = len(listings)
    for one in watched:
        outputs.put_prediction(Prediction.classified(one.image_ids[0], [(one.request_id, 0.9)]))
    assert all(one.finished.wait(10) for one in watched)
    assert [one.result().images[0].label for one in watched] == [one.request_id for one in watched]
    assert before < 20, "20 requests share a listing"


def test_a_long_wait_is_polled_slowly_and_a_short_one_quickly():
    assert poll_pause(0) <= 0.05
    assert poll_pause(2) == pytest.approx(0.2)
    assert poll_pause(3600) == 1


def test_a_process_that_has_no_thread_left_leaves_the_request_to_s3(
    make, inputs, outputs, state, monkeypatch
):
    def refuse():
        raise RuntimeError("can't start new thread")

    process = make()
    with monkeypatch.context() as context:
        context.setattr("controller.image_requests.polling.Thread", lambda **_: SimpleNamespace(start=refuse))
        watched = submit(process, "a.png")
    assert process.polling.waiting().requests == ()
    assert [marker.name for marker in Journal(state, inputs, outputs).markers()] == [watched.request_id]
    outputs.put_prediction(Prediction.classified(watched.image_ids[0], [("tabby", 0.9)]))
    assert process.polling.read(watched.request_id).complete
    process.follower.wait(watched.request_id, 10)


def test_without_a_thread_for_the_common_listing_each_request_is_listed_alone(make, outputs, monkeypatch):
    def refuse():
        raise RuntimeError("can't start new thread")

    process = make()
    with monkeypatch.context() as context:
        place = "controller.image_requests.prediction_listing.Thread"
        context.setattr(place, lambda **_: SimpleNamespace(start=refuse))
        watched = submit(process, "a.png")
        outputs.put_prediction(Prediction.classified(watched.image_ids[0], [("tabby", 0.9)]))
        assert watched.finished.wait(10)
    assert watched.result().complete


@pytest.mark.parametrize("elsewhere", [False, True])
def test_each_outcome_is_counted_once_also_when_it_is_cancelled(make, outputs, elsewhere):
    before = by_outcome(IMAGES)
    process = make()
    watched = submit(process, "a.png", "b.png", "c.png")
    outputs.put_prediction(Prediction.classified(watched.image_ids[0], [("tabby", 0.9)]))
    (make() if elsewhere else process).cancel_retry.cancel(watched.request_id)
    assert watched.finished.wait(10)
    assert by_outcome(IMAGES) - before == {"classified": 1, "failed": 2}


def test_predictions_that_cannot_be_read_for_a_while_are_read_later(make, outputs, aws, on_call):
    process, failures = make(), []

    def refuse(params):
        if "/" in params["Key"] and len(failures) < 2:
            failures.append(1)
            raise refusal("SlowDown", "GetObject")

    watched = submit(process, "a.png")
    on_call(aws.s3, "GetObject", refuse)
    outputs.put_prediction(Prediction.classified(watched.image_ids[0], [("tabby", 0.9)]))
    assert watched.finished.wait(10)
    assert len(failures) == 2
    assert not watched.unanswered
