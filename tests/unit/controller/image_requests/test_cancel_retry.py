import threading

import pytest

from cloud.errors import CloudError, NotFound
from cloud.failure_code import FailureCode
from cloud.image_id import new_request_id
from cloud.prediction import Prediction
from controller.image_requests import recovery
from controller.image_requests.cancel_retry import CancelRetry
from controller.image_requests.errors import InvalidState
from controller.image_requests.journal import Journal
from controller.web.services import Services
from local.driver import eventually
from tests.support.aws_errors import refusal
from tests.support.submissions import bodies, recover, submit

REFUSED = ("notes.txt",)


@pytest.fixture
def journal(inputs, outputs, state) -> Journal:
    return Journal(state, inputs, outputs)


@pytest.fixture
def controller(make) -> Services:
    """One of the controller."""
    return make()


@pytest.fixture
def here(controller) -> CancelRetry:
    return controller.cancel_retry


def fail(outputs, *image_ids: str, code: str = "no_workers") -> None:
    for image_id in image_ids:
        outputs.put_prediction(Prediction.failed(image_id, code, "Nobody came."))


@pytest.fixture
def failed(controller, outputs, queue, journal):
    """A request of three images: one failed, one is classified, and one was refused at once."""
    watched = submit(controller, "a.png", "b.png", "notes.txt", refused=REFUSED)
    fail(outputs, watched.image_ids[0])
    outputs.put_prediction(Prediction.classified(watched.image_ids[1], [("tabby", 0.9)]))
    assert watched.finished.wait(20)
    eventually(lambda: not journal.markers())
    bodies(queue)
    queue.sqs.purge_queue(QueueUrl=queue.url)
    return watched


# Cancel


@pytest.mark.parametrize("elsewhere", [False, True])
def test_what_waits_is_cancelled_and_its_pictures_and_messages_are_gone(
    controller, here, make, outputs, inputs, queue, journal, elsewhere
):
    looks = []
    watched = submit(controller, "a.png", "b.png", "notes.txt", "c.png", refused=REFUSED)
    outputs.put_prediction(Prediction.classified(watched.image_ids[0], [("tabby", 0.9)]))
    other = make() if elsewhere else controller
    other.polling.wake_autoscaler = lambda: looks.append(1)
    answer = other.cancel_retry.cancel(watched.request_id)
    assert answer.complete
    assert [i.error and i.error.code for i in answer.images] == [
        None,
        "cancelled",
        "not_an_image",
        "cancelled",
    ]
    assert inputs.image_ids(watched.request_id) == [watched.image_ids[0], watched.image_ids[2]]
    assert inputs.read(watched.image_ids[2])[0] == b"", "the place of the text file"
    assert bodies(queue) == []
    assert watched.finished.wait(20)
    assert watched.result() == answer
    assert looks
    eventually(lambda: not journal.markers())


def test_an_answer_that_comes_while_it_is_cancelled_stays(controller, here, outputs, aws, on_call, inputs):
    watched = submit(controller, "a.png", "b.png")
    quick = Prediction.classified(watched.image_ids[0], [("tabby", 0.9)])
    came = []

    def answer(params):
        if params["Key"] == quick.image_id and not came:
            came.append(1)
            outputs.put_prediction(quick)

    on_call(aws.s3, "PutObject", answer)
    answered = here.cancel(watched.request_id)
    assert [i.status for i in answered.images] == ["classified", "failed"]
    assert inputs.read(watched.image_ids[0]), "its picture stays, too"


def test_to_cancel_what_is_complete_or_cancelled_changes_nothing(controller, here, failed):
    before = controller.polling.stored.load(failed.request_id).result()
    assert here.cancel(failed.request_id) == here.cancel(failed.request_id) == before


def test_the_messages_of_others_stay_in_the_queue(controller, here, queue):
    queue.send(["others/0", "others/1"])
    watched = submit(controller, "a.png", "b.png", "c.png", "d.png")
    here.cancel(watched.request_id)
    assert bodies(queue) == ["others/0", "others/1"]


def test_however_often_somebody_cancels_it_does_not_count_against_the_images_of_others(
    controller, here, queue, settings, outputs, journal
):
    """Each receive brings a message nearer to the dead letters."""
    queue.send(["others/0"])
    for _ in range(settings.max_receives + 1):
        here.cancel(submit(controller, "a.png").request_id)
    assert [(m.body, m.receives) for m in queue.receive(10, 0)] == [("others/0", 1)]
    assert queue.dead_letters() == []


def test_nor_if_the_images_of_others_were_tried_in_vain_before(controller, here, queue, settings):
    queue.send(["others/0"])
    queue.give_back(queue.receive(1, 0))
    for _ in range(settings.max_receives + 1):
        here.cancel(submit(controller, "a.png").request_id)
    assert [(m.body, m.receives) for m in queue.receive(10, 0)] == [("others/0", 2)]


def test_a_queue_full_of_others_messages_is_left_to_the_workers(controller, here, queue):
    queue.send(f"others/{n}" for n in range(30))
    watched = submit(controller, "a.png")
    assert here.cancel(watched.request_id).complete
    assert queue.counts().visible == 31


def test_a_queue_that_fills_as_fast_as_it_is_read_keeps_nobody_from_cancelling(
    controller, here, queue, aws, on_call, monkeypatch
):
    monkeypatch.setattr(recovery, "TAKE_BACK_SECONDS", 0)
    watched = submit(controller, "a.png")
    receives = []

    def send_more(params):
        receives.append(1)
        if len(receives) < 50:
            queue.send(f"others/{len(receives)}-{n}" for n in range(10))

    on_call(aws.sqs, "ReceiveMessage", send_more)
    assert here.cancel(watched.request_id).complete
    assert len(receives) == 1
    assert queue.counts().visible >= 10, "the workers get those of others"


def test_a_queue_that_does_not_answer_keeps_nobody_from_cancelling(controller, here, aws, on_call, caplog):
    watched = submit(controller, "a.png")

    def refuse(params):
        raise refusal("ServiceUnavailable", "GetQueueAttributes")

    on_call(aws.sqs, "GetQueueAttributes", refuse)
    assert here.cancel(watched.request_id).complete
    assert "workers will pass over the messages" in caplog.text


def test_hundreds_of_images_are_cancelled(controller, here):
    watched = submit(controller, *["cat.png"] * 300)
    assert here.cancel(watched.request_id).counts == {
        "waiting": 0,
        "classified": 0,
        "failed": 300,
    }


# Retry


def test_what_failed_is_sent_again_and_the_rest_keeps_its_answer(
    controller, here, failed, journal, queue, work
):
    answer = here.retry(failed.request_id)
    assert [i.status for i in answer.images] == ["waiting", "classified", "failed"]
    assert [marker.name for marker in journal.markers()] == [failed.request_id]
    assert controller.polling.waiting().requests == (failed.request_id,)
    assert controller.polling.waiting().just_sent == 1
    work()
    eventually(lambda: not controller.polling.waiting().requests)
    eventually(lambda: not journal.markers())
    after = controller.polling.stored.load(failed.request_id).result()
    assert [(i.status, i.label) for i in after.images] == [
        ("classified", "tabby"),
        ("classified", "tabby"),
        ("failed", None),
    ]


def test_what_may_fail_again_may_be_tried_again(here, failed, outputs, journal):
    for _ in range(2):
        here.retry(failed.request_id)
        fail(outputs, failed.image_ids[0])
        eventually(lambda: not journal.markers())


def test_nothing_is_sent_again_where_no_picture_is_left(controller, here, outputs, journal):
    watched = submit(controller, "a.png", "notes.txt", refused=REFUSED)
    here.cancel(watched.request_id)
    eventually(lambda: not journal.markers())
    with pytest.raises(InvalidState, match="No image of this request can be sent again"):
        here.retry(watched.request_id)
    assert journal.markers() == []


def test_what_is_sent_again_is_charged_and_a_refusal_of_that_changes_nothing(
    controller, here, failed, journal
):
    charged = []

    def refuse(images):
        charged.append(images)
        raise ValueError("over quota")

    before = controller.polling.stored.load(failed.request_id).result()
    with pytest.raises(ValueError, match="over quota"):
        here.retry(failed.request_id, refuse)
    assert charged == [1]
    assert journal.markers() == []
    assert controller.polling.stored.load(failed.request_id).result() == before


def test_nothing_is_sent_again_while_others_wait(controller, here, outputs):
    watched = submit(controller, "a.png", "b.png")
    fail(outputs, watched.image_ids[0])
    with pytest.raises(InvalidState, match="Once all its images are answered"):
        here.retry(watched.request_id)
    assert outputs.get_prediction(watched.image_ids[0]).status == "failed"


def test_what_had_waited_for_too_long_can_be_sent_again_though_the_queue_is_busy(
    controller, here, outputs, journal, s3_clock
):
    """Recovery deletes its marker only when the queue is empty."""
    controller.polling.request_timeout = 0.1
    watched = submit(controller, "a.png")
    eventually(lambda: [marker.name for marker in journal.markers()] == [watched.request_id])
    fail(outputs, *watched.image_ids)
    controller.polling.request_timeout = 300
    with pytest.raises(InvalidState):  # somebody else may be sending it again
        here.retry(watched.request_id)
    s3_clock.ahead = 400
    assert here.retry(watched.request_id).counts["waiting"] == 1
    assert [marker.name for marker in journal.markers()] == [watched.request_id]


def test_of_two_who_try_again_at_once_one_does(make, failed, queue):
    barrier, outcomes = threading.Barrier(2), []

    def retry(cancel_retry: CancelRetry) -> None:
        barrier.wait(10)
        try:
            outcomes.append(cancel_retry.retry(failed.request_id).complete)
        except InvalidState:
            outcomes.append(None)

    others = [make().cancel_retry, make().cancel_retry]
    threads = [threading.Thread(target=retry, args=[one]) for one in others]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes, key=str) == [False, None]
    assert bodies(queue) == [failed.image_ids[0]]


def test_what_the_queue_did_not_take_is_sent_by_a_look(
    make, here, failed, journal, inputs, outputs, queue, aws, on_call, work
):
    refused = []

    def refuse(params):
        if not refused:
            refused.append(1)
            raise refusal("SlowDown", "SendMessageBatch")

    on_call(aws.sqs, "SendMessageBatch", refuse)
    with pytest.raises(CloudError, match="SlowDown"):
        here.retry(failed.request_id)
    recover(queue, outputs, journal)
    work()
    assert make().polling.read(failed.request_id).images[0].status == "classified"


@pytest.mark.parametrize("code", [code for code in FailureCode if not code.retryable])
def test_what_no_second_try_can_mend_is_not_sent_again(controller, here, outputs, queue, journal, code):
    watched = submit(controller, "a.png")
    fail(outputs, *watched.image_ids, code=code)
    assert watched.finished.wait(20)
    eventually(lambda: not journal.markers())
    bodies(queue)
    with pytest.raises(InvalidState, match="might fare better"):
        here.retry(watched.request_id)
    assert outputs.get_prediction(watched.image_ids[0]).error.code is code


def test_an_answer_that_a_faster_retry_brought_is_not_taken_back(here, failed, outputs, aws, on_call):
    """It came between this retry's look and its claim."""

    def answer(params):
        if params["Key"].startswith("open/"):
            outputs.delete(failed.image_ids[0])
            outputs.put_prediction(Prediction.classified(failed.image_ids[0], [("lynx", 0.9)]))

    on_call(aws.s3, "PutObject", answer)
    here.retry(failed.request_id)
    assert outputs.get_prediction(failed.image_ids[0]).label == "lynx"


def test_what_is_sent_again_while_it_is_cancelled_elsewhere_stays_noted(
    controller, make, outputs, aws, on_call, journal
):
    """The image that had failed is not among those that are cancelled."""
    watched = submit(controller, "a.png", "b.png")
    fail(outputs, watched.image_ids[1])
    retries = []

    def retry(params):
        if not retries:
            retries.append(1)
            controller.cancel_retry.retry(watched.request_id)

    elsewhere = make()
    on_call(aws.sqs, "GetQueueAttributes", retry)  # the images are cancelled by then
    assert not elsewhere.cancel_retry.cancel(watched.request_id).complete
    assert watched.request_id in [marker.name for marker in journal.markers()]


class Killed(BaseException):
    """The process died."""


@pytest.mark.parametrize(
    ("operation", "key", "sent_again"),
    [
        ("PutObject", "open/", False),
        ("DeleteObject", "", False),
        ("SendMessageBatch", "", True),
    ],
)
def test_a_process_that_dies_while_it_tries_again_loses_nothing(
    controller,
    here,
    failed,
    outputs,
    inputs,
    journal,
    queue,
    aws,
    on_call,
    operation,
    key,
    sent_again,
    work,
):
    deaths = []

    def die(params):
        if params.get("Key", "").startswith(key) and not deaths:
            deaths.append(1)
            raise Killed

    on_call(aws.sqs if operation == "SendMessageBatch" else aws.s3, operation, die)
    with pytest.raises(Killed):
        here.retry(failed.request_id)
    recover(queue, outputs, journal)
    work()
    after = controller.polling.stored.load(failed.request_id).result()
    assert after.complete
    assert after.images[0].status == ("classified" if sent_again else "failed")


def test_an_unknown_request_is_none(here):
    assert here.cancel(new_request_id()) is None
    assert here.retry(new_request_id()) is None


def test_an_s3_that_fails_is_a_cloud_error_and_what_was_not_cancelled_waits(controller, here, aws, on_call):
    watched = submit(controller, "a.png", "b.png")

    def refuse(params):
        if params["Key"] == watched.image_ids[1]:
            raise refusal("SlowDown", "PutObject")

    on_call(aws.s3, "PutObject", refuse)
    with pytest.raises(CloudError, match="SlowDown"):
        here.cancel(watched.request_id)
    assert controller.polling.stored.load(watched.request_id).unanswered == 1


def test_a_cancelled_picture_is_gone_before_a_worker_asks_for_it(controller, here, inputs):
    watched = submit(controller, "a.png")
    here.cancel(watched.request_id)
    with pytest.raises(NotFound):
        inputs.read(watched.image_ids[0])
