from datetime import timedelta
from io import BytesIO

import pytest

from cloud.clock import now
from cloud.image_id import ImageId, new_request_id
from cloud.prediction import GAVE_UP, Prediction
from controller.image_requests.journal import RENEW_SECONDS, Journal
from controller.image_requests.recovery import (
    ABANDONED_AFTER,
    OVERTAKEN_AFTER,
    RESEND_AFTER,
    WATCH_FOR,
    Recovery,
)
from tests.support.aws_errors import refusal
from tests.support.submissions import bodies

LATE = RESEND_AFTER + timedelta(seconds=1)


def image(request_id: str, number: int) -> ImageId:
    return ImageId(f"{request_id}/{number:04d}-cat.jpg")


@pytest.fixture
def theirs(inputs, outputs, state) -> Journal:
    """The journal of another process, which may have died."""
    return Journal(state, inputs, outputs)


@pytest.fixture
def passed() -> list[timedelta]:
    """The time that has passed since everything was stored."""
    return [timedelta()]


@pytest.fixture
def recovery(queue, inputs, outputs, state, passed) -> Recovery:
    return Recovery(queue, outputs, Journal(state, inputs, outputs), lambda: now() + passed[0])


@pytest.fixture
def ask(theirs, inputs, queue):
    """Opens a request of some images. As many are sent as said, or else all."""

    def ask(images: int, sent: int | None = None) -> str:
        request_id = new_request_id(theirs.shard)
        theirs.open(request_id)
        for n in range(images):
            inputs.put_image(image(request_id, n), BytesIO(b"x"), "image/png")
        queue.send(image(request_id, n) for n in range(images if sent is None else sent))
        return request_id

    return ask


def bury(queue, settings):
    """Receives everything too often."""
    for _ in range(settings.max_receives):
        received = []
        while messages := queue.receive(10, 0):
            received += messages
        queue.give_back(received)
    assert queue.receive(10, 0) == []


def test_a_dead_letter_becomes_an_answer(recovery, queue, outputs, ask, settings):
    one = ask(2)
    bury(queue, settings)
    assert recovery.answer_dead_letters() == 2
    for n in range(2):
        prediction = outputs.get_prediction(image(one, n))
        assert (prediction.status, prediction.error.code) == ("failed", "gave_up")
        assert prediction.error.message == GAVE_UP
    assert recovery.answer_dead_letters() == 0


def test_many_dead_letters_are_answered_at_once(recovery, queue, outputs, ask, settings):
    one = ask(25)
    bury(queue, settings)
    assert recovery.answer_dead_letters() == 25
    assert all(outputs.get_prediction(image(one, n)) for n in range(25))


def test_a_request_whose_images_are_dead_letters_is_settled_by_them_and_not_sent_again(
    recovery, queue, ask, settings, passed
):
    ask(2)
    bury(queue, settings)
    for _ in range(2):
        passed[0] += LATE
        assert recovery.settle() == {}
    assert bodies(queue) == []


def test_a_dead_letter_of_an_answered_image_changes_nothing(recovery, queue, outputs, ask, settings):
    """Its worker died between the answer and the delete."""
    one = ask(1)
    outputs.put_prediction(Prediction.classified(image(one, 0), [("tabby", 0.9)]))
    bury(queue, settings)
    recovery.answer_dead_letters()
    assert outputs.get_prediction(image(one, 0)).label == "tabby"
    assert queue.dead_letters() == []


def test_a_dead_letter_that_is_junk_is_logged_and_deleted(recovery, queue, outputs, settings, caplog):
    queue.send(["what is this?"])
    bury(queue, settings)
    recovery.answer_dead_letters()
    assert "'what is this?' is no image-id" in caplog.text
    assert queue.dead_letters() == []
    assert list(outputs.keys("")) == []


def test_a_dead_letter_that_names_no_possible_key_holds_up_no_other_one(
    recovery, queue, outputs, ask, settings, aws, on_call
):
    def refuse_long(params):
        if len(params["Key"]) > 1024:
            raise refusal("KeyTooLongError", "PutObject")

    on_call(aws.s3, "PutObject", refuse_long)
    queue.send([f"{new_request_id()}/0000-{'x' * 1024}"])
    request_id = ask(1)
    bury(queue, settings)
    recovery.answer_dead_letters()
    assert outputs.answered(request_id) == [image(request_id, 0)]
    assert queue.dead_letters() == []


def test_a_marker_of_which_nothing_waits_is_deleted_once_no_process_can_rely_on_it(
    recovery, theirs, ask, work, passed
):
    ask(2)
    work()
    assert recovery.settle() == {}
    assert len(theirs.markers()) == 1
    passed[0] += ABANDONED_AFTER + timedelta(seconds=1)
    assert recovery.settle() == {}
    assert theirs.markers() == []
    assert timedelta(seconds=RENEW_SECONDS) < ABANDONED_AFTER / 2


def test_a_marker_of_which_something_waits_is_never_deleted(recovery, theirs, ask, passed):
    one = ask(2)
    passed[0] += timedelta(days=1)
    assert recovery.settle() == {one: 2}
    assert len(theirs.markers()) == 1


def test_where_no_request_is_noted_nothing_waits(recovery):
    assert recovery.settle() == {}


def test_the_requests_of_several_processes_are_found(recovery, ask, inputs, outputs, state, theirs):
    one, other = ask(2), Journal(state, inputs, outputs)
    left = new_request_id(other.shard)
    inputs.put_image(image(left, 0), BytesIO(b"x"), "image/png")
    other.hold(left)
    assert recovery.settle() == {one: 2, left: 1}


def test_images_whose_messages_were_lost_are_sent_again(recovery, queue, outputs, ask, passed):
    one = ask(3, sent=0)
    outputs.put_prediction(Prediction.classified(image(one, 1), [("tabby", 0.9)]))
    passed[0] += LATE
    assert recovery.settle() == {one: 2}
    passed[0] += WATCH_FOR
    assert recovery.settle() == {one: 2}
    assert bodies(queue) == [image(one, 0), image(one, 2)]


def test_an_image_that_was_stored_lately_is_not_sent_again_since_the_counts_may_lag(
    recovery, queue, ask, passed
):
    one = ask(2, sent=0)
    for seconds in (5, 10, 10):
        passed[0] += timedelta(seconds=seconds)
        assert recovery.settle() == {one: 2}
    assert bodies(queue) == []


def test_an_image_that_waits_only_until_its_process_has_copied_a_prediction_is_not_sent(
    recovery, queue, outputs, ask, passed
):
    """Its request was sent long ago, and the image with the same bytes has just been answered."""
    one = ask(2, sent=0)
    outputs.put_prediction(Prediction.classified(image(one, 0), [("tabby", 0.9)]))
    passed[0] += timedelta(hours=1)
    recovery.settle()
    outputs.put_prediction(Prediction.classified(image(one, 1), [("tabby", 0.9)]))
    passed[0] += WATCH_FOR
    recovery.settle()
    assert bodies(queue) == []


def test_an_image_that_was_sent_again_is_not_sent_at_each_run(recovery, queue, ask, passed):
    """The counts may lag, so that the queue looks empty for a minute yet."""
    one = ask(2, sent=0)
    passed[0] += LATE
    for _ in range(4):
        assert recovery.settle() == {one: 2}
        passed[0] += WATCH_FOR
    assert bodies(queue) == [image(one, 0), image(one, 1)]


def test_if_no_worker_comes_all_images_that_wait_get_the_reason(recovery, outputs, ask):
    one, other = ask(2), ask(12)
    outputs.put_prediction(Prediction.classified(image(one, 0), [("tabby", 0.9)]))
    assert recovery.fail_all("Workers fail to start.") == 13
    assert outputs.get_prediction(image(one, 0)).label == "tabby"
    failed = outputs.get_prediction(image(other, 11))
    assert (failed.error.code, failed.error.message) == ("no_workers", "Workers fail to start.")


def test_if_no_worker_comes_the_messages_of_what_was_answered_are_deleted(recovery, queue, ask):
    """Else they would call for workers again."""
    ask(25)
    recovery.fail_all("Workers fail to start.")
    assert queue.counts().backlog == 0


def test_if_no_worker_comes_a_message_of_nobody_does_not_shield_those_behind_it(recovery, queue, ask):
    other = "2" * 32
    queue.send([image(other, n) for n in range(10)])
    ask(5)
    recovery.fail_all("Workers fail to start.")
    assert bodies(queue) == [image(other, n) for n in range(10)], "it may be of a request that just begins"


@pytest.fixture
def stored_earlier(aws, on_reply):
    """Makes the images of a request seem to have been stored so long ago that younger ones overtake them."""

    def stored_earlier(request_id: str) -> None:
        def change(reply):
            for item in reply.get("Contents", []):
                if item["Key"].startswith(request_id):
                    item["LastModified"] -= OVERTAKEN_AFTER + timedelta(seconds=5)

        on_reply(aws.s3, "ListObjectsV2", change)

    return stored_earlier


def test_images_are_overtaken_by_those_that_a_worker_has_answered(recovery, ask, outputs, stored_earlier):
    stored_earlier(ask(3))
    later = ask(2)
    assert recovery.sweep() == 0
    outputs.put_prediction(Prediction.classified(image(later, 0), [("cat", 0.9)], instance_id="i-1"))
    assert recovery.sweep() == 3


def test_a_backlog_is_not_sent_again_because_of_answers_that_needed_no_worker(
    recovery, ask, outputs, stored_earlier
):
    stored_earlier(ask(3))
    later = ask(2)
    outputs.put_prediction(Prediction.failed(image(later, 0), "not_an_image", "…"))
    known = Prediction.classified(image(ask(1), 0), [("cat", 0.9)], instance_id="i-1")
    outputs.put_prediction(known.of(image(later, 1)))
    assert recovery.sweep() == 0
