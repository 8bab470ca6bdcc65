"""What becomes of a slice whose worker dies, is told to end, or fails."""

from threading import Event

import pytest

from local.driver import eventually
from tests.support.aws_errors import refusal
from tests.support.small_worker import MAX_RECEIVES, grey, running


def test_a_slice_that_comes_a_second_time_is_halved_unread(make_batch_loop, finish, lab):
    batch = lab.ask(*[grey(250)] * 9)
    lab.queue.give_back(lab.queue.receive(1, 0))  # to SQS, the same as the end of a visibility timeout
    finish(make_batch_loop())
    assert sorted((one.start, one.rows) for one in lab.store.results(batch.batch_id)) == [(0, 4), (4, 5)]
    assert len(lab.first_rows(batch)) == len(lab.rows(batch)) == 9
    assert lab.queue.counts().backlog == 0


def test_a_picture_that_kills_workers_is_found_and_answered_and_the_others_get_their_labels(
    make_batch_loop, lab, aws, on_call
):
    batch = lab.ask(*[grey(250)] * 8)
    dying = Event()

    def die(params):
        if params["Key"] == "005.png":
            dying.set()
            raise SystemExit

    on_call(aws.s3, "GetObject", die)
    deaths = 0
    while lab.queue.counts().backlog:
        loop = make_batch_loop()
        with running(loop):
            eventually(lambda: dying.is_set() or not lab.queue.counts().backlog, 60)
            if dying.is_set():
                deaths += 1
                for hand in loop.slices.in_hand[:]:  # nothing more is heard of this worker
                    if 5 in hand.part:
                        loop.slices.in_hand.remove(hand)
                        messages = [hand.message]
        if dying.is_set():
            lab.queue.give_back(messages)
            dying.clear()
    assert deaths == 3 + MAX_RECEIVES - 1  # with 8, 4 and 2 images, and those alone
    rows = lab.first_rows(batch)
    assert len(rows) == len(lab.rows(batch)) == 8
    assert rows.pop("005.png").error.code == "gave_up"
    assert {row.label for row in rows.values()} == {"white"}


def test_a_worker_that_was_thought_dead_writes_its_rows_too_and_the_first_ones_count(
    make_batch_loop, finish, lab, model
):
    batch, asleep, wakes = lab.ask(*[grey(250)] * 4), Event(), Event()

    def sleep() -> None:
        if not asleep.is_set():
            asleep.set()
            wakes.wait(60)

    frozen = make_batch_loop()
    model.on_classify = sleep
    with running(frozen) as stop:
        assert asleep.wait(60)
        eventually(lambda: model.batches[0] + frozen.pipeline.ready._queue.qsize() == 4)
        stop.set()
        lab.queue.give_back([hand.message for hand in frozen.slices.in_hand])
        finish(make_batch_loop())
        first = lab.first_rows(batch)
        assert len(first) == 4
        wakes.set()
    assert len(lab.rows(batch)) == 8
    assert lab.first_rows(batch) == first
    assert lab.queue.counts().backlog == 0


def test_told_to_stop_it_writes_what_is_done_and_gives_the_rest_back(make_batch_loop, finish, lab, model):
    batch, stop = lab.ask(*[grey(250)] * 60), Event()
    model.on_classify = stop.set
    make_batch_loop().run(stop)
    done = len(lab.rows(batch))
    assert 0 < done < 60
    assert (lab.queue.counts().visible, lab.queue.counts().in_flight) == (1, 0)
    model.on_classify = lambda: None
    finish(make_batch_loop())
    first, second = sorted(lab.store.results(batch.batch_id), key=lambda one: one.start)
    assert (first.rows, second.rows) == (done, 60 - done), "the rest is not halved"
    assert [row.position for row in lab.rows(batch)] == list(range(60))


def test_ends_that_were_asked_for_are_no_tries(make_batch_loop, finish, lab, aws, on_call):
    batch, stops = lab.ask(grey(250)), [Event() for _ in range(MAX_RECEIVES)]
    told = iter(stops)

    def stop(params):
        if params["Key"].endswith("cancelled"):
            next(told, Event()).set()

    on_call(aws.s3, "GetObject", stop)
    for one in stops:
        make_batch_loop().run(one)
        assert lab.rows(batch) == []
        assert lab.queue.counts().visible == 1
    finish(make_batch_loop())
    assert [row.label for row in lab.rows(batch)] == ["white"]


@pytest.mark.parametrize("operation", ["SendMessageBatch", "DeleteMessageBatch"])
def test_a_drain_that_sqs_refuses_leaves_the_message(make_batch_loop, lab, aws, model, on_call, operation):
    batch, stop = lab.ask(*[grey(250)] * 60), Event()

    def refuse(params):
        if params["QueueUrl"] == lab.queue.url:
            raise refusal("ServiceUnavailable", operation)

    model.on_classify = stop.set
    on_call(aws.sqs, operation, refuse)
    make_batch_loop().run(stop)
    assert lab.queue.counts().in_flight == 1
    assert lab.rows(batch)


def test_an_image_with_which_the_model_fails_is_given_up_and_the_others_are_not(
    make_batch_loop, finish, lab, model
):
    batch = lab.ask(*[grey(250)] * 5, grey(3))
    classify = model.classify

    def fail(images, labels):
        if any(image[0, 0, 0] < 100 for image in images):
            raise RuntimeError("out of memory")
        return classify(images, labels)

    model.classify = fail
    finish(make_batch_loop())
    rows = lab.first_rows(batch)
    assert len(rows) == len(lab.rows(batch)) == 6
    assert rows.pop("005.png").error.code == "gave_up"
    assert {row.label for row in rows.values()} == {"white"}
    assert lab.queue.counts().backlog == 0
