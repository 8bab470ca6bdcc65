import time

import pytest

from cloud.errors import CloudError
from cloud.image_id import ImageId
from cloud.prediction import Prediction
from controller.image_requests.idempotency import Claim, IdempotencyKeys
from controller.image_requests.journal import Journal
from tests.support.aws_errors import refusal
from tests.support.submissions import bodies, recover, submit, uploads


def test_images_go_in_and_answers_come_out_in_upload_order(process, inputs):
    watched = submit(process, "b.png", "a.png", "犬.png")
    assert watched.finished.wait(10)
    made = watched.result()
    assert [(i.filename, i.status, i.label) for i in made.images] == [
        ("b.png", "classified", "tabby"),
        ("a.png", "classified", "tabby"),
        ("犬.png", "classified", "tabby"),
    ]
    assert inputs.read(made.images[2].image_id)[0] == "犬.png".encode()


def test_a_hundred_images_of_one_request_are_all_answered(process):
    watched = submit(process, *["cat.png"] * 100)
    assert watched.finished.wait(20)
    assert watched.result().counts == {"waiting": 0, "classified": 100, "failed": 0}


def test_an_image_is_uploaded_before_its_message_is_sent(make, inputs, aws, on_call):
    """A worker may be quick."""
    process, there = make(), []
    on_call(
        aws.sqs,
        "SendMessageBatch",
        lambda params: there.extend(inputs.read(e["MessageBody"])[0] for e in params["Entries"]),
    )
    submit(process, "a.png", "b.png")
    assert there == [b"a.png", b"b.png"]


def test_a_refused_file_is_answered_at_once_and_neither_kept_nor_sent(make, queue, inputs, outputs):
    process = make()
    watched = submit(process, "notes.txt", refused=("notes.txt",))
    assert process.polling.waiting().just_sent == 0, "nobody is launched for it"
    assert watched.finished.wait(10)
    (image,) = watched.result().images
    assert (image.status, image.error.code) == ("failed", "not_an_image")
    assert queue.counts().backlog == 0
    assert inputs.read(image.image_id)[0] == b"", "an empty object takes its place"
    assert inputs.image_ids(watched.request_id) == outputs.answered(watched.request_id)


def test_a_refused_file_does_not_hold_the_others_up(process):
    watched = submit(process, "a.png", "notes.txt", "b.png", refused=("notes.txt",))
    assert watched.finished.wait(10)
    assert [i.status for i in watched.result().images] == ["classified", "failed", "classified"]


def test_an_upload_that_s3_refuses_asks_nothing(make, inputs, outputs, queue, aws, on_call, state):
    process = make()

    def refuse(params):
        if params["Key"].endswith("b.png"):
            raise refusal("SlowDown", "PutObject")

    on_call(aws.s3, "PutObject", refuse)
    with pytest.raises(CloudError, match="SlowDown"):
        submit(process, "a.png", "b.png", "c.png")
    assert queue.counts().backlog == 0
    assert list(inputs.keys("")) == [], "nobody asks for what was uploaded"
    assert Journal(state, inputs, outputs).markers() == []
    assert process.polling.waiting().requests == ()


def test_an_upload_that_an_error_ends_stores_nothing_afterwards(make, inputs, outputs, state, aws, on_call):
    process = make()

    def fail(images):
        raise RuntimeError("a bug")

    def be_slow(params):
        if params["Bucket"] == inputs.name:
            time.sleep(0.2)

    process.submissions.deduplication.find = fail
    on_call(aws.s3, "PutObject", be_slow)
    with pytest.raises(RuntimeError, match="a bug"):
        submit(process, "a.png", "b.png")
    process.submissions.pool.shutdown()
    assert Journal(state, inputs, outputs).markers() == []
    assert list(inputs.keys("")) == []


def test_an_upload_whose_file_cannot_be_read_asks_nothing_and_frees_its_key(
    make, inputs, outputs, queue, state
):
    """As when the disk fails that holds it."""
    process, keys = make(), IdempotencyKeys(state)
    for name in (None, "key"):
        request_id = process.request_ids.new()
        sent = uploads(request_id, "a.png", "b.png")
        claim = keys.claim(name, request_id, sent) if name else None
        sent[1].stream.close()
        with pytest.raises(ValueError, match="closed file"):
            process.submissions.submit(request_id, sent, claim)
    assert isinstance(
        keys.claim("key", process.request_ids.new(), uploads(request_id, "a.png", "b.png")), Claim
    )
    assert queue.counts().backlog == 0
    assert {ImageId(key).request_id for key in inputs.keys("")} == {request_id}, "the other one has no key"
    assert [marker.name for marker in Journal(state, inputs, outputs).markers()] == [request_id]


def test_what_s3_took_of_an_upload_and_does_not_delete_is_answered(
    make, inputs, outputs, queue, aws, on_call, state
):
    """And its process can be idle afterwards."""
    process, down = make(), [1]

    def refuse(params):
        if down and params["Key"].endswith("b.png"):
            raise refusal("SlowDown", "PutObject")

    def refuse_all(params):
        if down:
            raise refusal("SlowDown", "DeleteObject")

    on_call(aws.s3, "PutObject", refuse)
    on_call(aws.s3, "DeleteObject", refuse_all)
    with pytest.raises(CloudError, match="SlowDown"):
        submit(process, "a.png", "b.png")
    down.clear()
    recover(queue, outputs, Journal(state, inputs, outputs))
    assert bodies(queue) == list(inputs.keys("")) != []
    for key in inputs.keys(""):
        outputs.put_prediction(Prediction.failed(ImageId(key), "broken", "x"))
    recover(queue, outputs, process.submissions.journal)
    assert process.submissions.journal.markers() == []


@pytest.mark.parametrize("carried_out", [False, True])
def test_a_queue_that_refuses_is_an_error_and_what_is_stored_is_answered(
    make, inputs, outputs, queue, work, aws, on_call, on_reply, state, carried_out
):
    """The refused file has its answer already, and SQS may have taken the messages nevertheless."""
    process, down = make(), [1]

    def refuse(_):
        if down:
            raise refusal("ServiceUnavailable", "SendMessageBatch")

    (on_reply if carried_out else on_call)(aws.sqs, "SendMessageBatch", refuse)
    with pytest.raises(CloudError, match="ServiceUnavailable"):
        submit(process, "a.png", "notes.txt", refused=("notes.txt",))
    down.clear()
    assert queue.counts().backlog == carried_out
    work()
    recover(queue, outputs, Journal(state, inputs, outputs))
    work()
    assert list(outputs.keys("")) == list(inputs.keys(""))
    assert len(list(inputs.keys(""))) == 2
    recover(queue, outputs, process.submissions.journal)
    assert process.submissions.journal.markers() == []


def test_a_marker_says_that_a_request_waits_before_anything_of_it_is_stored(make, inputs, aws, on_call):
    """If the process dies after that, another one finds the request."""
    stored_before = []

    def be_slow(params):
        if params["Key"].startswith("open/"):
            time.sleep(0.2)
            stored_before.extend(inputs.keys(""))

    on_call(aws.s3, "PutObject", be_slow)
    submit(make(), "a.png", "b.png")
    assert stored_before == []


def test_the_files_are_closed_while_the_request_waits(make):
    process = make()
    request_id = process.request_ids.new()
    files = uploads(request_id, "a.png", "notes.txt", refused=("notes.txt",))
    process.submissions.submit(request_id, files)
    assert all(file.stream.closed for file in files)
