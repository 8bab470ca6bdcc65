from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest

from cloud.clock import now
from cloud.errors import CloudError
from cloud.image_id import new_request_id
from cloud.prediction import Prediction
from controller.image_requests import polling, stored_requests
from controller.image_requests.deletion import SENT_AGAIN_WITHIN, Deletion
from controller.image_requests.errors import InvalidState
from controller.image_requests.journal import Journal
from local.driver import eventually
from tests.support.aws_errors import refusal
from tests.support.submissions import submit
from tests.support.threads import join_threads


@pytest.fixture
def controller(make):
    return make()


@pytest.fixture
def complete(controller, outputs):
    """A request of a classified image and a text file, and another one that must stay."""
    found = [submit(controller, "a.png", "notes.txt", refused=("notes.txt",)) for _ in range(2)]
    for watched in found:
        outputs.put_prediction(Prediction.classified(watched.image_ids[0], [("tabby", 0.9)]))
        assert watched.finished.wait(20)
    return found


def test_pictures_and_predictions_of_this_request_alone_are_deleted(controller, complete, inputs, outputs):
    gone, stays = complete
    controller.deletion.delete(gone.request_id)
    for bucket in (inputs, outputs):
        assert list(bucket.keys("")) == stays.image_ids
    assert controller.polling.stored.load(gone.request_id) is None


def test_to_delete_it_again_or_what_never_was_does_nothing(controller, complete):
    for request_id in (complete[0].request_id, complete[0].request_id, new_request_id()):
        controller.deletion.delete(request_id)


@pytest.mark.parametrize("retried", [False, True])
def test_who_polls_a_request_that_another_process_has_deleted_does_not_wait_for_its_end(
    controller, inputs, outputs, state, monkeypatch, retried
):
    """The answer was complete before the last of its predictions was found here."""
    monkeypatch.setattr(polling, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(stored_requests, "FIRST_LOOK_SECONDS", 0.05)
    journal = Journal(state, inputs, outputs)
    controller.polling.request_timeout = 60
    watched = submit(controller, "a.png")
    if retried:
        outputs.put_prediction(Prediction.failed(watched.image_ids[0], "gave_up", "Nobody can."))
        assert watched.finished.wait(20)
        eventually(lambda: not journal.markers())
        controller.cancel_retry.retry(watched.request_id)
        watched = controller.polling.watched(watched.request_id)
    inputs.delete(watched.image_ids[0])
    assert watched.finished.wait(20)
    assert watched.unanswered
    eventually(lambda: [marker.name for marker in journal.markers()] == [watched.request_id] * retried)


def test_a_request_that_waits_stays(controller, inputs):
    watched = submit(controller, "a.png", "b.png")
    with pytest.raises(InvalidState, match="Cancel it, or wait"):
        controller.deletion.delete(watched.request_id)
    assert inputs.image_ids(watched.request_id) == watched.image_ids


def test_what_was_cancelled_stays_until_no_worker_can_have_it(controller, outputs, settings):
    watched = submit(controller, "a.png")
    controller.cancel_retry.cancel(watched.request_id)
    with pytest.raises(InvalidState, match="Try again in") as refused:
        controller.deletion.delete(watched.request_id)
    assert 0 < refused.value.retry_after <= 2 * settings.visibility_timeout + 1
    assert outputs.answered(watched.request_id) == watched.image_ids
    later = now() + timedelta(seconds=refused.value.retry_after)
    stored, journal = controller.polling.stored, controller.polling.journal
    Deletion(stored, journal, settings.visibility_timeout, lambda: later).delete(watched.request_id)
    assert outputs.answered(watched.request_id) == []


def test_what_had_waited_for_too_long_is_deleted_though_its_marker_is_still_there(
    controller, outputs, inputs, settings
):
    """Recovery deletes the marker only when the queue is empty."""
    stored, journal = controller.polling.stored, controller.polling.journal
    controller.polling.request_timeout = 0.1
    watched = submit(controller, "a.png")
    eventually(lambda: journal.held_at(watched.request_id))
    outputs.put_prediction(Prediction.classified(watched.image_ids[0], [("tabby", 0.9)]))
    later = now() + timedelta(minutes=11)
    Deletion(stored, journal, settings.visibility_timeout, lambda: later).delete(watched.request_id)
    assert list(inputs.keys("")) == list(outputs.keys("")) == []


@pytest.mark.parametrize("year", [2100, 9999])
def test_an_answer_of_the_future_holds_nothing_up(controller, outputs, inputs, year):
    """A worker that was taken over might write it."""
    watched = submit(controller, "a.png")
    at = datetime(year, 12, 31, 23, 59, tzinfo=UTC)
    forged = Prediction.failed(watched.image_ids[0], "cancelled", "It was cancelled.", answered_at=at)
    outputs.put_prediction(forged)
    assert watched.finished.wait(20)
    controller.deletion.delete(watched.request_id)
    assert list(inputs.keys("")) == list(outputs.keys("")) == []


def test_what_s3_did_not_delete_is_deleted_next_time(controller, complete, aws, on_call, inputs, outputs):
    """Pictures go first: one without a prediction would be classified again."""
    failures = [refusal("SlowDown", "DeleteObject")]

    def refuse(params):
        if params["Bucket"] == outputs.name and failures:
            raise failures.pop()

    on_call(aws.s3, "DeleteObject", refuse)
    with pytest.raises(CloudError, match="SlowDown"):
        controller.deletion.delete(complete[0].request_id)
    assert inputs.image_ids(complete[0].request_id) == []
    controller.deletion.delete(complete[0].request_id)
    assert outputs.answered(complete[0].request_id) == []


@pytest.fixture
def failed(controller, outputs):
    """A request whose image failed, and may succeed if it is sent again."""
    watched = submit(controller, "a.png")
    outputs.put_prediction(Prediction.failed(watched.image_ids[0], "gave_up", "Every worker died."))
    assert watched.finished.wait(20)
    join_threads("poll-")
    return watched


def test_a_request_that_is_sent_again_while_it_is_deleted_must_be_deleted_once_more(
    controller, failed, aws, on_call, inputs, outputs, settings
):
    """A worker has fetched the image before it was deleted, and answers it afterwards."""
    again = [failed.request_id]

    def send_again(params):
        if again:
            controller.cancel_retry.retry(again.pop())

    on_call(aws.s3, "DeleteObject", send_again)
    with pytest.raises(InvalidState, match="Delete it once more"):
        controller.deletion.delete(failed.request_id)
    with pytest.raises(InvalidState, match="Delete it once more"):  # nothing is stored, but that may change
        controller.deletion.delete(failed.request_id)
    outputs.put_prediction(Prediction.classified(failed.image_ids[0], [("tabby", 0.9)]))
    with suppress(InvalidState):  # the process that has sent it again may still wait
        controller.deletion.delete(failed.request_id)
    assert list(inputs.keys("")) == list(outputs.keys("")) == []
    stored, journal = controller.polling.stored, controller.polling.journal
    later = now() + SENT_AGAIN_WITHIN
    Deletion(stored, journal, settings.visibility_timeout, lambda: later).delete(failed.request_id)


def test_an_answer_that_comes_and_is_found_while_its_request_is_deleted_does_not_stay(
    controller, failed, aws, on_call, inputs, outputs
):
    """The image is sent again meanwhile, and its marker is gone before the deletion looks for it."""
    marker, again = f"open/{failed.request_id}", [failed.request_id]
    answers = [Prediction.classified(failed.image_ids[0], [("tabby", 0.9)])]

    def send_again(params):
        if again:
            controller.cancel_retry.retry(again.pop())

    def answer(params):
        if answers and params["Prefix"] == marker:
            outputs.put_prediction(answers.pop())
            eventually(lambda: not controller.polling.journal.held_at(failed.request_id))

    on_call(aws.s3, "DeleteObject", send_again)
    on_call(aws.s3, "ListObjectsV2", answer)
    with pytest.raises(InvalidState, match="Delete it once more"):
        controller.deletion.delete(failed.request_id)
    controller.deletion.delete(failed.request_id)
    assert list(inputs.keys("")) == list(outputs.keys("")) == []


def test_a_request_that_is_deleted_while_it_is_sent_again_is_not_sent(
    controller, failed, aws, on_call, queue
):
    gone = [failed.request_id]

    def delete(params):
        if gone and params["Key"] == f"open/{failed.request_id}":
            controller.deletion.delete(gone.pop())

    on_call(aws.s3, "PutObject", delete)
    queue.delete(queue.receive(10, 0))
    assert controller.cancel_retry.retry(failed.request_id) is None
    assert queue.counts().backlog == 0
    assert controller.polling.journal.markers() == []
