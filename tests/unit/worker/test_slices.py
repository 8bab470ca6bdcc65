import logging
import time
from collections import Counter
from threading import Event

import pytest

from cloud.batches.slice import Slice
from cloud.request_queue import RequestQueue
from local.driver import eventually
from tests.support.aws_errors import refusal
from tests.support.batches import BUCKET
from tests.support.exposition import by_outcome
from tests.support.small_worker import grey
from worker import metrics
from worker.__main__ import slices_of_batches
from worker.held import FEWEST
from worker.postponing import MOST_POSTPONED
from worker.slices import Slices


def test_each_image_gets_a_row_and_a_slice_gets_one_object(make_batch_loop, finish, lab, outputs):
    batch = lab.ask(grey(250), b"no picture", grey(3), top_k=1)
    loop, counted = make_batch_loop(), []
    loop.on_progress = lambda images, seconds: counted.append((images, seconds))
    before = by_outcome(metrics.IMAGES)
    finish(loop)
    assert [(row.position, row.key, row.label) for row in lab.rows(batch)] == [
        (0, "000.png", "white"),
        (1, "001.png", None),
        (2, "002.png", "black"),
    ]
    white, text, _ = lab.rows(batch)
    assert [(one.label, one.confidence) for one in white.predictions] == [("white", 0.9)]
    assert (text.status, text.error.code) == ("failed", "not_an_image")
    (result,) = lab.store.results(batch.batch_id)
    assert (result.rows, result.failures, result.start, result.end) == (3, 1, 0, 3)
    assert lab.queue.counts().backlog == 0
    assert sum(images for images, _ in counted) == 3
    assert loop.pipeline.classified == 2, "the speed of a worker is that of these"
    assert 0 < sum(seconds for _, seconds in counted) < 5
    assert by_outcome(metrics.IMAGES) - before == Counter(classified=2, failed=1)


def test_the_answer_cache_learns_nothing_from_batches(make_batch_loop, finish, lab):
    batch = lab.ask(grey(250))
    loop, remembered = make_batch_loop(), []
    loop.remember = lambda sha256, prediction: remembered.append(sha256)
    finish(loop)
    assert len(lab.rows(batch)) == 1
    assert remembered == []


def test_one_line_of_the_log_tells_of_a_slice(make_batch_loop, finish, lab, caplog):
    batch = lab.ask(*[grey(250)] * 12)
    with caplog.at_level(logging.INFO):
        finish(make_batch_loop())
    (line,) = [record for record in caplog.records if hasattr(record, "batch_id")]
    assert (line.batch_id, line.manifest, line.rows, line.failures) == (batch.batch_id, 0, 12, 0)


def test_the_next_slice_is_received_while_the_one_before_is_in_the_pipeline(
    make_batch_loop, finish, lab, model
):
    batch = lab.ask(*[grey(250)] * 10, slices=[range(5), range(5, 10)])
    loop, most = make_batch_loop(), []

    def note() -> None:
        if not most:
            eventually(lambda: len(loop.slices.in_hand) == 2)
            most.append(2)

    model.on_classify = note
    finish(loop)
    assert most == [2]
    assert len(lab.rows(batch)) == 10


def test_the_times_of_slices_add_up_to_that_of_the_worker(make_batch_loop, finish, lab, model):
    batch = lab.ask(*[grey(250)] * 30, slices=[range(10), range(10, 20), range(20, 30)])
    model.on_classify = lambda: time.sleep(0.05)
    began = time.monotonic()
    finish(make_batch_loop())
    seconds = sum(result.milliseconds for result in lab.store.results(batch.batch_id)) / 1000
    assert 0.05 * len(model.batches) <= seconds < time.monotonic() - began


def test_images_of_slices_are_held_within_a_limit_of_their_own(make_batch_loop, finish, lab, aws, on_call):
    batch = lab.ask(*[grey(250)] * (3 * FEWEST))
    goes_on, started = Event(), []

    def block(params):
        if params["Bucket"] == BUCKET:
            started.append(params["Key"])
            goes_on.wait(10)

    on_call(aws.s3, "GetObject", block)
    loop, most = make_batch_loop(), []

    def look(images, seconds):
        if len(started) >= FEWEST:
            most.append(len(started))
        if len(most) > 2:
            goes_on.set()

    loop.on_progress = look
    finish(loop)
    assert most[:3] == [FEWEST] * 3
    assert len(lab.rows(batch)) == 3 * FEWEST


def test_no_slice_is_received_while_images_of_requests_fill_the_worker(
    make_batch_loop, finish, lab, ask, outputs, aws, settings, on_call
):
    batch, goes_on = lab.ask(grey(3)), Event()
    ids = ask(*[grey(250)] * 30)

    def block(params):
        if params["Bucket"] == settings.input_bucket:
            goes_on.wait(10)

    on_call(aws.s3, "GetObject", block)
    loop, looks = make_batch_loop(), []
    loop.queue_is_long.set()  # else the slice may be received before the first image

    def look(images, seconds):
        if len(loop.held) >= FEWEST:
            looks.append(lab.queue.counts().visible)
        if len(looks) > 3:
            goes_on.set()

    loop.on_progress = look
    finish(loop)
    assert looks[:4] == [1] * 4
    assert [row.label for row in lab.rows(batch)] == ["black"]
    assert all(outputs.get_prediction(one).label == "white" for one in ids)


def test_an_idle_worker_asks_for_slices_every_five_seconds(make_batch_loop, lab, aws, on_call):
    asked = []
    on_call(aws.sqs, "ReceiveMessage", lambda params: asked.append(params["QueueUrl"]))
    loop = make_batch_loop()
    loop.idle_seconds = 2.5
    loop.run(Event())
    assert Counter(asked)[lab.queue.url] == 1
    assert len(asked) > 2


def test_a_worker_whose_system_has_no_batch_queue_asks_once(
    make_loop, lab, aws, ask, outputs, on_call, caplog
):
    [image_id] = ask(grey(250))
    loop, looked_up = make_loop(), []
    nowhere = RequestQueue(aws.sqs, "nowhere")
    loop.slices = Slices(nowhere, lab.store, lab.s3, loop.pipeline, 3)
    on_call(aws.sqs, "GetQueueUrl", lambda params: looked_up.append(params["QueueName"]))
    loop.idle_seconds = 1.5
    loop.run(Event())
    assert looked_up.count("nowhere") == 1
    assert "takes no part in batches" in caplog.text
    assert outputs.get_prediction(image_id).label == "white"


def test_what_nobody_needs_or_knows_is_dropped(make_batch_loop, finish, lab, aws, on_call, caplog):
    cancelled, unlisted = lab.ask(grey(250)), lab.ask(grey(250))
    lab.store.cancel(cancelled.batch_id, "Its client has cancelled it.")
    aws.s3.delete_object(Bucket=lab.store.state.name, Key=f"batches/{unlisted.batch_id}/manifests/00000.json")
    lab.queue.send(["junk", Slice.of("0" * 32, 0, [0]).model_dump_json()])
    reads = []
    on_call(aws.s3, "GetObject", lambda params: reads.append(params["Bucket"]))
    finish(make_batch_loop())
    assert lab.queue.counts().backlog == 0
    assert lab.rows(cancelled) == lab.rows(unlisted) == []
    assert BUCKET not in reads
    for reason in (
        "was cancelled: Its client has cancelled it.",
        f"{unlisted.batch_id} has no manifest 0",
        "'junk' is no slice",
        f"there is no batch {'0' * 32}",
    ):
        assert reason in caplog.text


def test_the_batch_and_its_manifest_are_read_once_for_all_slices(make_batch_loop, finish, lab, aws, on_call):
    batch = lab.ask(*[grey(250)] * 6, slices=[[0, 1], [2, 3], [4, 5]])
    reads = []
    on_call(aws.s3, "GetObject", lambda params: reads.append(params["Key"].rpartition("/")[2]))
    finish(make_batch_loop())
    found = Counter(name for name in reads if not name.endswith(".png"))
    assert found == {"batch.json": 1, "00000.json": 1, "cancelled": 3}
    assert len(lab.rows(batch)) == 6


def test_a_fetch_that_s3_fails_is_tried_again(make_batch_loop, finish, lab, aws, on_call, monkeypatch):
    monkeypatch.setattr("worker.slices.FETCH_PAUSES", (0.01, 0.01))
    batch, tries = lab.ask(grey(250), grey(3)), Counter()

    def refuse(params):
        tries[params["Key"]] += 1
        if params["Key"] == "001.png" or (params["Key"] == "000.png" and tries["000.png"] < 3):
            raise refusal("SlowDown", "GetObject")

    on_call(aws.s3, "GetObject", refuse)
    finish(make_batch_loop())
    good, bad = lab.rows(batch)
    assert good.label == "white"
    assert (bad.error.code, bad.error.retryable) == ("storage_failed", True)
    assert "in 3 attempts (SlowDown)" in bad.error.message
    assert tries["001.png"] == 3


def test_a_slice_whose_rows_cannot_be_written_is_made_again_and_is_not_to_blame(
    make_batch_loop, finish, lab, aws, on_call
):
    batch, refused = lab.ask(grey(250), grey(3)), []

    def refuse(params):
        if params["Key"].endswith(".jsonl") and len(refused) < 5:
            refused.append(params["Key"])
            raise refusal("ServiceUnavailable", "PutObject")

    on_call(aws.s3, "PutObject", refuse)
    finish(make_batch_loop())
    assert len(refused) == 5
    (result,) = lab.store.results(batch.batch_id)
    assert result.rows == 2
    assert lab.queue.counts().backlog == 0


def test_the_message_is_extended_while_its_images_are_worked_on(
    make_batch_loop, finish, lab, aws, model, on_call
):
    batch, extended = lab.ask(*[grey(250)] * 30), []
    on_call(aws.sqs, "ChangeMessageVisibilityBatch", lambda params: extended.append(params["QueueUrl"]))
    loop, ended = make_batch_loop(), Event()
    loop.heartbeat.visibility_timeout = 1
    loop.heartbeat.start(ended)
    model.on_classify = lambda: time.sleep(0.3)
    finish(loop)
    ended.set()
    assert extended.count(lab.queue.url) >= 2
    assert len(lab.rows(batch)) == 30


def test_a_worker_without_sources_takes_no_slices_and_one_with_some_does(settings, aws, make_loop):
    pipeline = make_loop().pipeline
    assert slices_of_batches(settings, aws, pipeline) is None
    found = slices_of_batches(settings.model_copy(update={"batch_sources": ("s3://lab/",)}), aws, pipeline)
    assert found
    assert found.queue.name == "test-requests-batches"
    assert found.facts.store.outputs.name == settings.output_bucket


@pytest.mark.parametrize(
    ("operation", "end"), [("PutObject", ".jsonl"), ("GetObject", "/cancelled")], ids=["write", "read"]
)
def test_a_slice_whose_rows_nobody_may_write_or_begin_is_given_up_some_time(
    make_batch_loop, finish, lab, aws, on_call, operation, end
):
    """Else its batch would never end, and keep instances for good."""
    batch, refused = lab.ask(grey(250), grey(3)), []

    def refuse(params):
        if params["Key"].endswith(end):
            refused.append(params["Key"])
            raise refusal("AccessDenied", operation)

    on_call(aws.s3, operation, refuse)
    finish(make_batch_loop())
    assert len(refused) == MOST_POSTPONED + 1
    assert lab.rows(batch) == []
