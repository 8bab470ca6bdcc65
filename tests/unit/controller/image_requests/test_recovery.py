from datetime import UTC, datetime, timedelta
from io import BytesIO

import pytest

from cloud.image_id import ImageId
from cloud.prediction import Prediction
from controller.image_requests.open_requests import PREFIX, OpenRequest, OpenRequests
from controller.image_requests.recovery import RESEND_AFTER_SECONDS, Recovery
from tests.support.submissions import bodies

ONE, OTHER = "1" * 28, "2" * 28


def image(request_id: str, number: int) -> ImageId:
    return ImageId(f"{request_id}/{number:04d}-cat.jpg")


@pytest.fixture
def open_requests(inputs, outputs, state) -> OpenRequests:
    return OpenRequests(state, inputs, outputs)


@pytest.fixture
def recovery(queue, outputs, open_requests) -> Recovery:
    return Recovery(queue, outputs, open_requests)


@pytest.fixture
def ask(open_requests, inputs, queue):
    """Opens a request of some images; as many are uploaded and sent as said."""

    def ask(request_id, images, *, uploaded=None, sent=None, seconds=0.0) -> OpenRequest:
        since = datetime.now(UTC) - timedelta(seconds=seconds)
        request = OpenRequest(request_id=request_id, images=images, since=since)
        open_requests.state.write(f"{PREFIX}{request_id}", request.model_dump_json().encode())
        for n in range(images if uploaded is None else uploaded):
            inputs.put_image(image(request_id, n), BytesIO(b"x"), "image/png")
        queue.send(image(request_id, n) for n in range(images if sent is None else sent))
        return request

    return ask


def bury(queue, settings):
    """Receives everything too often."""
    for _ in range(settings.max_receives):
        queue.give_back(queue.receive(10, 0))
    assert queue.receive(10, 0) == []


def test_a_dead_letter_becomes_an_answer(recovery, queue, outputs, ask, settings):
    ask(ONE, 2)
    bury(queue, settings)
    assert recovery.answer_dead_letters() == 2
    for n in range(2):
        prediction = outputs.get_prediction(image(ONE, n))
        assert (prediction.status, prediction.error.code) == ("failed", "gave_up")
        assert "worker" in prediction.error.message
    assert recovery.answer_dead_letters() == 0


def test_a_request_whose_images_are_dead_letters_is_settled_by_them_and_not_sent_again(
    recovery, queue, open_requests, ask, settings
):
    ask(ONE, 2, seconds=RESEND_AFTER_SECONDS + 1)
    bury(queue, settings)
    assert recovery.settle([ONE]) == {}
    assert bodies(queue) == []
    assert open_requests.ids() == []


def test_a_dead_letter_of_an_answered_image_changes_nothing(recovery, queue, outputs, ask, settings):
    """Its worker died between the answer and the delete."""
    ask(ONE, 1)
    outputs.put_prediction(Prediction.classified(image(ONE, 0), [("tabby", 0.9)]))
    bury(queue, settings)
    recovery.answer_dead_letters()
    assert outputs.get_prediction(image(ONE, 0)).label == "tabby"
    assert queue.dead_letters() == []


def test_a_dead_letter_that_is_junk_is_logged_and_deleted(recovery, queue, outputs, settings, caplog):
    queue.send(["what is this?"])
    bury(queue, settings)
    recovery.answer_dead_letters()
    assert "'what is this?' is no image-id" in caplog.text
    assert queue.dead_letters() == []
    assert list(outputs.keys("")) == []


def test_a_complete_request_is_closed(recovery, open_requests, outputs, ask, work):
    ask(ONE, 2)
    work()
    assert recovery.settle([ONE]) == {}
    assert open_requests.ids() == []


def test_a_request_that_waits_stays_open(recovery, open_requests, ask):
    ask(ONE, 2)
    assert recovery.settle([ONE]) == {ONE: 2}
    assert open_requests.ids() == [ONE]


def test_a_request_that_somebody_else_closed_does_not_wait(recovery):
    assert recovery.settle([ONE]) == {}


def test_images_that_were_lost_on_the_way_are_sent_again(recovery, queue, outputs, ask):
    ask(ONE, 3, sent=0, seconds=RESEND_AFTER_SECONDS + 1)
    outputs.put_prediction(Prediction.classified(image(ONE, 1), [("tabby", 0.9)]))
    assert recovery.settle([ONE]) == {ONE: 2}
    assert bodies(queue) == [image(ONE, 0), image(ONE, 2)]


def test_what_was_sent_lately_is_not_sent_again_since_the_counts_may_lag(recovery, queue, ask):
    ask(ONE, 2, sent=0, seconds=RESEND_AFTER_SECONDS - 5)
    assert recovery.settle([ONE]) == {ONE: 2}
    assert bodies(queue) == []


def test_while_a_request_is_being_uploaded_nothing_of_it_is_sent_again(recovery, queue, ask):
    ask(ONE, 3, uploaded=2, sent=0, seconds=RESEND_AFTER_SECONDS + 1)
    assert recovery.settle([ONE]) == {ONE: 0}
    assert bodies(queue) == []


def test_what_was_sent_again_is_not_sent_at_each_look(recovery, queue, ask, work):
    """The counts may lag, so that the queue looks quiet for a minute yet."""
    ask(ONE, 2, sent=0, seconds=RESEND_AFTER_SECONDS + 1)
    for _ in range(3):
        assert recovery.settle([ONE]) == {ONE: 2}
    assert bodies(queue) == [image(ONE, 0), image(ONE, 1)]


def test_when_nobody_comes_all_that_wait_get_the_reason(recovery, queue, outputs, ask):
    requests = [ask(ONE, 2), ask(OTHER, 12)]
    outputs.put_prediction(Prediction.classified(image(ONE, 0), [("tabby", 0.9)]))
    assert recovery.fail_all(requests, "Workers fail to start.") == 13
    assert outputs.get_prediction(image(ONE, 0)).label == "tabby"
    failed = outputs.get_prediction(image(OTHER, 11))
    assert (failed.error.code, failed.error.message) == ("no_workers", "Workers fail to start.")


def test_when_nobody_comes_the_queue_is_emptied_of_what_was_answered(recovery, queue, ask):
    """Else the messages would call for workers again."""
    requests = [ask(ONE, 25)]
    recovery.fail_all(requests, "Workers fail to start.")
    assert queue.counts().backlog == 0


def test_when_nobody_comes_a_message_of_nobody_does_not_shield_those_behind_it(recovery, queue, ask):
    queue.send([image(OTHER, n) for n in range(10)])
    requests = [ask(ONE, 5)]
    recovery.fail_all(requests, "Workers fail to start.")
    assert bodies(queue) == [image(OTHER, n) for n in range(10)], "it may be of a request that just begins"
