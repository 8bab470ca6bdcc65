import logging
import threading
from collections import Counter
from collections.abc import Callable
from hashlib import sha256
from io import BytesIO
from threading import Event

import pytest
from PIL import Image, ImageColor

from cloud.errors import CloudError
from cloud.image_id import ImageId, new_request_id
from cloud.prediction import GAVE_UP, Prediction
from cloud.request_queue import QueueCounts
from local.driver import eventually
from tests.support.aws_errors import refusal
from tests.support.exposition import by_outcome
from tests.support.pictures import encoded, picture
from tests.support.small_worker import MAX_RECEIVES, grey, running
from worker import metrics
from worker.consumer import Consumer
from worker.postponing import MOST_POSTPONED
from worker.steps import BYTES_AHEAD


def test_what_was_classified_is_remembered_by_the_hash_of_its_bytes(make_loop, ask, outputs):
    loop, remembered = make_loop(), {}
    loop.remember = remembered.__setitem__
    white, broken = ask(grey(250), b"\x89PNG\r\n\x1a\n" + bytes(40))
    loop.run(Event())
    assert outputs.get_prediction(broken).status == "failed"
    assert remembered == {sha256(grey(250)).hexdigest(): outputs.get_prediction(white)}


def test_every_image_gets_its_own_prediction_and_its_message_is_deleted(make_loop, ask, outputs, queue):
    white, black = ask(grey(250), grey(3))
    make_loop().run(Event())
    assert [outputs.get_prediction(one).label for one in (white, black)] == ["white", "black"]
    found = outputs.get_prediction(white)
    assert (found.confidence, found.instance_id, found.model) == (0.9, "i-test", "brightness (test)")
    assert set(found.timings) == {"fetch", "decode", "classify"}
    assert queue.counts().backlog == 0


@pytest.mark.parametrize("format", ["HEIF", "TIFF"])
def test_what_browsers_cannot_show_gets_a_preview_of_what_the_network_sees(make_loop, ask, outputs, format):
    loop, remembered = make_loop(), {}
    loop.remember = remembered.__setitem__
    [one] = ask(encoded(Image.new("RGB", (640, 480), "orange"), format))
    loop.run(Event())
    preview = Image.open(BytesIO(outputs.get_preview(one)))
    side = loop.pipeline.classifier.preprocessing.crop
    assert (preview.format, preview.size) == ("JPEG", (side, side))
    assert not preview.info.keys() & {"exif", "comment", "icc_profile"}
    assert ImageColor.getrgb("orange") == pytest.approx(preview.getpixel((3, 3)), abs=6)
    assert outputs.get_prediction(one).preview_of == one


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "AVIF", "GIF", "BMP"])
def test_what_browsers_show_gets_no_preview(make_loop, ask, outputs, format):
    [one] = ask(picture(format))
    make_loop().run(Event())
    assert (outputs.get_prediction(one).status, outputs.get_preview(one)) == ("classified", None)
    assert b"preview" not in outputs.read(one)[0]


def test_what_makes_no_small_preview_is_answered_without_one(make_loop, ask, outputs, monkeypatch):
    monkeypatch.setattr("worker.preview.LARGEST_PREVIEW", 100)
    [one] = ask(picture("TIFF"))
    make_loop().run(Event())
    assert (outputs.get_prediction(one).status, outputs.get_preview(one)) == ("classified", None)


def test_a_bad_image_is_answered_failed_beside_the_good_ones(make_loop, ask, outputs, queue):
    text, good = ask(b"no picture", grey(250))
    make_loop().run(Event())
    assert outputs.get_prediction(text).status == "failed"
    assert outputs.get_prediction(text).error.message
    assert outputs.get_prediction(good).label == "white"
    assert queue.counts().backlog == 0


def test_a_missing_image_is_answered_and_a_junk_message_is_logged_and_gone(
    make_loop, queue, inputs, outputs, caplog
):
    request_id = new_request_id()
    missing = ImageId.make(request_id, 0, "gone.png")
    inputs.put_placeholder(ImageId.make(request_id, 1, "notes.txt"))
    queue.send([missing, "junk"])
    with caplog.at_level(logging.ERROR):
        make_loop().run(Event())
    assert outputs.get_prediction(missing).error.code == "image_missing"
    assert "'junk' is no image-id" in caplog.text
    assert queue.counts().backlog == 0


def test_nothing_is_written_about_an_image_whose_request_was_deleted(make_loop, queue, outputs):
    queue.send([ImageId.make(new_request_id(), 0, "gone.png")])
    make_loop().run(Event())
    assert list(outputs.keys("")) == []
    assert queue.counts().backlog == 0


def test_the_first_answer_stays(make_loop, ask, outputs):
    [one] = ask(grey(250))
    make_loop().run(Event())
    before = outputs.read(one)
    make_loop().queue.send([one])
    make_loop().run(Event())
    assert outputs.read(one) == before


def test_an_image_whose_workers_all_died_is_answered_without_being_decoded(
    make_loop, ask, outputs, queue, model
):
    [one] = ask(grey(250))
    for _ in range(MAX_RECEIVES - 1):
        queue.give_back(queue.receive(1, 0))  # to SQS, the same as the end of a visibility timeout
    make_loop().run(Event())
    assert outputs.get_prediction(one).error.code == "gave_up"
    assert outputs.get_prediction(one).error.message == GAVE_UP
    assert model.batches == []


def test_an_image_that_draining_workers_gave_back_is_classified_however_often_they_did(
    make_loop, ask, outputs, queue, aws, on_call
):
    [one] = ask(grey(250))
    stops = [Event() for _ in range(MAX_RECEIVES)]
    told = iter(stops)
    on_call(aws.sqs, "ReceiveMessage", lambda params: next(told, Event()).set())
    for stop in stops:
        make_loop().run(stop)
        assert outputs.get_prediction(one) is None
        assert queue.counts().visible == 1
    make_loop().run(Event())
    assert outputs.get_prediction(one).label == "white"
    assert queue.counts().backlog == 0


@pytest.fixture
def impatient(make_loop: Callable[[], Consumer]) -> Consumer:
    """What it puts off comes back at once."""
    loop = make_loop()
    loop.idle_seconds, loop.heartbeat.visibility_timeout = 1, 0
    return loop


@pytest.mark.parametrize("operation", ["GetObject", "PutObject"])
def test_an_outage_of_s3_counts_as_no_try_of_the_image(
    impatient, ask, outputs, queue, aws, on_call, operation
):
    [one] = ask(grey(250))
    failures = []

    def refuse(params):
        if len(failures) < 2 * MAX_RECEIVES:
            failures.append(params["Key"])
            raise refusal("ServiceUnavailable", operation)

    on_call(aws.s3, operation, refuse)
    impatient.run(Event())
    assert failures == [one] * 2 * MAX_RECEIVES
    assert outputs.get_prediction(one).label == "white"
    assert queue.counts().backlog == 0


def test_an_image_that_s3_never_returns_is_answered_with_a_code_that_does_not_blame_it(
    impatient, ask, outputs, queue, aws, on_call
):
    [one] = ask(grey(250))
    calls = []

    def refuse(params):
        calls.append(params["Key"])
        if len(calls) <= MOST_POSTPONED + 1:
            raise refusal("AccessDenied", "GetObject")

    on_call(aws.s3, "GetObject", refuse)
    impatient.run(Event())
    assert len(calls) == MOST_POSTPONED + 1
    error = outputs.get_prediction(one).error
    assert (error.code, error.retryable) == ("storage_failed", True)
    assert "AccessDenied" in error.message
    assert queue.counts().backlog == 0


def test_an_image_whose_answer_nobody_may_write_is_given_up_some_time(
    impatient, ask, outputs, queue, aws, on_call
):
    """Otherwise it would keep instances running for good, and nobody would be told."""
    [one] = ask(grey(250))
    calls = []

    def refuse(params):
        calls.append(params["Key"])
        raise refusal("AccessDenied", "PutObject")

    on_call(aws.s3, "PutObject", refuse)
    impatient.run(Event())
    assert calls == [one] * (MOST_POSTPONED + 1)
    assert queue.counts() == QueueCounts(visible=0, in_flight=1, delayed=0), "its receives count from now on"


def test_what_aws_refuses_to_take_back_comes_back_after_the_visibility_timeout(
    impatient, ask, outputs, queue, aws, on_call, caplog
):
    def refuse(params):
        raise refusal("ServiceUnavailable", "SQS or S3")

    [one] = ask(grey(250))
    on_call(aws.s3, "GetObject", refuse)
    on_call(aws.sqs, "SendMessageBatch", refuse)
    impatient.run(Event())
    assert (queue.counts().visible, queue.counts().in_flight) == (0, 1)
    assert outputs.answered(one.request_id) == []
    assert "after the visibility timeout" in caplog.text


def test_a_redelivered_image_is_answered_all_the_same(make_loop, ask, outputs, queue):
    [one] = ask(grey(250))
    queue.give_back(queue.receive(1, 0))
    make_loop().run(Event())
    assert outputs.get_prediction(one).label == "white"


@pytest.fixture
def grown() -> Callable[[], Counter[str]]:
    """By how much each outcome's counter has grown, if at all."""
    before = by_outcome(metrics.IMAGES)
    return lambda: by_outcome(metrics.IMAGES) - before


def test_what_comes_back_is_counted_and_what_is_done_with_is_not(make_loop, ask, outputs, model, grown):
    answered, _ = ask(grey(250), b"no image")
    outputs.put_prediction(Prediction.failed(answered, "cancelled", "It was cancelled."))
    make_loop().run(Event())
    assert grown() == {"failed": 1, "answered_already": 1}
    ask(*[grey(250)] * 10)
    stop = Event()
    model.on_classify = stop.set
    make_loop().run(stop)
    classified = model.batches[-1]
    assert grown() == {
        "failed": 1,
        "answered_already": 1,
        "classified": classified,
        "returned": 10 - classified,
    }


def test_an_image_whose_message_cannot_be_deleted_is_answered_all_the_same(
    make_loop, ask, aws, on_call, grown
):
    def refuse(params):
        raise refusal("InternalError", "DeleteMessageBatch")

    ask(grey(250))
    on_call(aws.sqs, "DeleteMessageBatch", refuse)
    answered = []
    loop = make_loop()
    loop.on_progress = lambda images, seconds: answered.append(images)
    loop.run(Event())
    assert grown() == {"classified": 1}
    assert sum(answered) == 1


def test_told_to_stop_it_finishes_its_batch_and_gives_the_rest_back(make_loop, ask, outputs, queue, model):
    ids = ask(*[grey(250)] * 30)
    stop = Event()
    model.on_classify = stop.set
    make_loop().run(stop)
    [classified] = model.batches
    assert sum(outputs.get_prediction(one) is not None for one in ids) == classified
    counts = queue.counts()
    assert (counts.visible, counts.in_flight) == (30 - classified, 0)


def test_a_model_that_fails_leaves_its_messages_to_come_back(
    make_loop, ask, outputs, queue, model, caplog, grown
):
    [one] = ask(grey(250))

    def fail() -> None:
        raise RuntimeError("out of memory")

    model.on_classify = fail
    make_loop().run(Event())
    assert outputs.get_prediction(one) is None
    assert queue.counts().in_flight == 1
    assert "out of memory" in caplog.text
    assert grown() == {"returned": 1}


def test_an_image_that_cannot_be_read_now_comes_back_beside_the_good_ones(
    make_loop, ask, outputs, queue, aws, on_call, caplog, grown
):
    unread, good = ask(grey(3), grey(250))

    def refuse(params):
        if params["Key"] == unread:
            raise refusal("SlowDown", "GetObject")

    on_call(aws.s3, "GetObject", refuse)
    make_loop().run(Event())
    assert grown() == {"classified": 1, "returned": 1}
    assert outputs.answered(unread.request_id) == []
    assert outputs.get_prediction(good).label == "white"
    assert (queue.counts().in_flight, queue.counts().delayed) == (0, 1)
    [warning] = [record for record in caplog.records if "SlowDown" in record.message]
    assert warning.image_id == unread


def test_a_batch_whose_answers_cannot_be_stored_comes_back(make_loop, ask, queue):
    class FullBucket:
        def put_prediction(self, prediction: object) -> bool:
            raise CloudError("could not write")

    ask(grey(250))
    loop = make_loop()
    loop.steps.outputs = FullBucket()
    loop.run(Event())
    assert (queue.counts().in_flight, queue.counts().delayed) == (0, 1)


def test_without_work_it_ends_by_itself(make_loop):
    make_loop().run(Event())


def test_a_cancelled_image_runs_no_model_and_is_not_counted(make_loop, ask, inputs, outputs, queue, model):
    """Its answer is there, and its picture is gone."""
    cancelled, other = ask(grey(0), grey(255))
    outputs.put_prediction(Prediction.failed(cancelled, "cancelled", "It was cancelled."))
    inputs.delete(cancelled)
    answered = []
    loop = make_loop()
    loop.on_progress = lambda images, seconds: answered.append(images)
    loop.run(Event())
    assert model.batches == [1]
    assert sum(answered) == 1
    assert outputs.get_prediction(cancelled).error.code == "cancelled"
    assert outputs.get_prediction(other).label == "white"
    assert queue.counts().backlog == 0


def test_no_image_waits_for_the_slow_fetch_of_another(make_loop, ask, outputs, aws, on_call):
    slow, *others = ask(*[grey(250)] * 10)
    answered_first = Event()

    def delay(params):
        if params["Key"] == slow:
            eventually(lambda: all(outputs.get_prediction(one) for one in others))
            answered_first.set()

    on_call(aws.s3, "GetObject", delay)
    make_loop().run(Event())
    assert answered_first.is_set()
    assert outputs.get_prediction(slow).label == "white"


def test_several_threads_receive_while_the_queue_is_long_and_one_when_it_is_not(
    make_loop, ask, queue, aws, on_call
):
    receives = []

    def note(params):
        receives.append(threading.current_thread().name)

    on_call(aws.sqs, "ReceiveMessage", note)
    ask(*[grey(250)] * 60)
    make_loop().run(Event())
    assert len(set(receives)) > 1
    assert queue.counts().backlog == 0
    receives.clear()
    ask(grey(250))
    make_loop().run(Event())
    assert set(receives) == {"receive-0"}


def test_ten_messages_are_deleted_by_one_call(make_loop, ask, queue, aws, on_call):
    deleted = []
    ask(*[grey(250)] * 40)
    on_call(aws.sqs, "DeleteMessageBatch", lambda params: deleted.append(len(params["Entries"])))
    make_loop().run(Event())
    assert sum(deleted) == 40
    assert len(deleted) <= 10


def test_a_worker_that_may_not_receive_does_not_say_that_it_is_ready(make_loop, aws, on_call):
    """The controller would launch others in its place for ever."""

    def refuse(params):
        raise refusal("AccessDenied", "ReceiveMessage")

    on_call(aws.sqs, "ReceiveMessage", refuse)
    loop, told = make_loop(), []
    loop.on_progress = lambda images, seconds: told.append(images)
    loop.run(Event())
    assert told == []


def test_a_worker_that_may_not_receive_slices_says_that_it_is_ready_only_with_messages_of_requests(
    make_batch_loop, lab, aws, on_call, ask
):
    """With a batch alone, others would be launched in its place for ever."""

    def refuse(params):
        if params["QueueUrl"] == lab.queue.url:
            raise refusal("AccessDenied", "ReceiveMessage")

    on_call(aws.sqs, "ReceiveMessage", refuse)
    for asked in (0, 1):
        loop, told = make_batch_loop(), []
        loop.idle_seconds = 3
        loop.on_progress = lambda images, seconds, told=told: told.append(images)
        ask(*[grey(250)] * asked)
        loop.run(Event())
        assert sum(told) == asked
        assert bool(told) == bool(asked)


def test_an_image_that_waits_until_there_is_room_for_its_file_does_not_hang(make_loop, ask, outputs, queue):
    """The files before it may be large, and take their decoder for long."""
    loop, hung, ended = make_loop(), [], Event()
    loop.heartbeat.visibility_timeout, loop.heartbeat.on_hang = 1, lambda: hung.append("hung")
    loop.steps.budget.take(BYTES_AHEAD)
    [one] = ask(grey(250))
    loop.heartbeat.start(ended)
    with running(loop):
        eventually(lambda: loop.steps.budget.waiting)
        ended.wait(3)
        counts = queue.counts()
        loop.steps.budget.give(BYTES_AHEAD)
        eventually(lambda: outputs.get_prediction(one))
    ended.set()
    assert not hung
    assert counts == QueueCounts(visible=0, in_flight=1, delayed=0)
