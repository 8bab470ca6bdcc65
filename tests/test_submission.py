import time
from hashlib import sha256
from io import BytesIO
from threading import Event, Timer

import pytest

from cloud.errors import CloudError
from cloud.image_id import image_id, new_request_id
from cloud.prediction import Failure, Prediction
from controller.intake import Upload
from controller.known_answers import KnownAnswers
from controller.open_requests import OpenRequests
from controller.submission import Submissions
from controller.watched import Watched
from tests.conftest import join_polling_threads, refusal


@pytest.fixture
def make(inputs, outputs, queue, settings, aws):
    """Processes of the controller. Their polling threads have ended when the test has."""
    made: list[Submissions] = []

    def make(request_timeout: float = 20) -> Submissions:
        known_answers = KnownAnswers(settings, aws.s3, outputs)
        made.append(
            Submissions(inputs, outputs, queue, OpenRequests(inputs, outputs), known_answers, request_timeout)
        )
        return made[-1]

    yield make
    for submissions in made:
        submissions.request_timeout = 0
        join_polling_threads()
        submissions.pool.shutdown()


@pytest.fixture
def submissions(make, work) -> Submissions:
    """With a worker that answers as soon as it is called."""
    made = make()
    made.look_at_fleet = work
    return made


def uploads(request_id: str, *names: str, refused: tuple[str, ...] = ()) -> list[Upload]:
    failure = Failure(code="not_an_image", message="This is a text file.")
    return [
        Upload(
            image_id(request_id, n, name),
            BytesIO(name.encode()),
            "image/png",
            failure if name in refused else None,
            sha256(name.encode()).hexdigest(),
        )
        for n, name in enumerate(names)
    ]


def submit(submissions: Submissions, *names: str, refused: tuple[str, ...] = ()):
    request_id = new_request_id()
    return submissions.submit(request_id, uploads(request_id, *names, refused=refused))


def test_images_go_in_and_answers_come_out_in_upload_order(submissions, inputs):
    watched = submit(submissions, "b.png", "a.png", "犬.png")
    assert watched.finished.wait(10)
    made = watched.answer()
    assert [(i.filename, i.status, i.label) for i in made.images] == [
        ("b.png", "classified", "tabby"),
        ("a.png", "classified", "tabby"),
        ("犬.png", "classified", "tabby"),
    ]
    assert inputs.read(made.images[2].image_id)[0] == "犬.png".encode()


def test_a_hundred_images_of_one_request_are_all_answered(submissions):
    watched = submit(submissions, *["cat.png"] * 100)
    assert watched.finished.wait(20)
    assert watched.answer().counts == {"waiting": 0, "classified": 100, "failed": 0}


def test_an_image_is_uploaded_before_its_message_is_sent(make, inputs, aws, on_call):
    """A worker may be quick."""
    submissions, there = make(), []
    on_call(
        aws.sqs,
        "SendMessageBatch",
        lambda params: there.extend(inputs.read(e["MessageBody"])[0] for e in params["Entries"]),
    )
    submit(submissions, "a.png", "b.png")
    assert there == [b"a.png", b"b.png"]


def test_a_refused_file_is_answered_at_once_and_never_sent(make, queue, inputs):
    submissions = make()
    watched = submit(submissions, "notes.txt", refused=("notes.txt",))
    assert submissions.waiting().just_sent == 0, "nobody is launched for it"
    assert watched.finished.wait(10)
    (image,) = watched.answer().images
    assert (image.status, image.error.code) == ("failed", "not_an_image")
    assert queue.counts().backlog == 0
    assert inputs.image_ids(watched.request_id) == []


def test_a_refused_file_does_not_hold_the_others_up(submissions):
    watched = submit(submissions, "a.png", "notes.txt", "b.png", refused=("notes.txt",))
    assert watched.finished.wait(10)
    assert [i.status for i in watched.answer().images] == ["classified", "failed", "classified"]


def test_the_fleet_is_looked_at_when_images_are_sent_and_when_all_are_answered(make, queue, work):
    submissions, backlogs = make(), []

    def look():
        backlogs.append(queue.counts().backlog)
        work()

    submissions.look_at_fleet = look
    watched = submit(submissions, "a.png", "b.png")
    assert watched.finished.wait(10)
    until = time.monotonic() + 10
    while len(backlogs) < 2 and time.monotonic() < until:
        Event().wait(0.01)
    assert backlogs == [2, 0]


def test_a_request_is_open_until_it_is_answered(make, inputs, outputs, work):
    submissions, open_requests = make(), OpenRequests(inputs, outputs)
    watched = submit(submissions, "a.png", "b.png")
    assert open_requests.get(watched.request_id).images == 2
    assert submissions.waiting().requests == (watched.request_id,)
    assert submissions.waiting().just_sent == 2
    closed = Event()
    submissions.look_at_fleet = closed.set
    work()
    assert closed.wait(10)
    assert open_requests.ids() == []
    assert submissions.waiting().requests == ()


def test_a_request_that_waits_too_long_gets_what_there_is_and_stays_open(make, inputs, outputs, queue):
    submissions = make(request_timeout=0.3)
    watched = submit(submissions, "a.png", "b.png")
    first, _ = watched.image_ids
    outputs.put_prediction(Prediction.classified(first, [("tabby", 0.9)]))
    assert watched.finished.wait(10)
    assert [i.status for i in watched.answer().images] == ["classified", "waiting"]
    assert OpenRequests(inputs, outputs).ids() == [watched.request_id]
    assert queue.counts().backlog == 2


def test_any_process_can_read_a_request_also_after_a_restart(submissions, make):
    watched = submit(submissions, "b.png", "notes.txt", "a.png", refused=("notes.txt",))
    assert watched.finished.wait(10)
    assert make().read(watched.request_id) == watched.answer()


def test_a_request_is_read_while_it_waits(make, outputs):
    submissions = make()
    watched = submit(submissions, "a.png", "b.png")
    for process in (submissions, make()):
        found = process.read(watched.request_id)
        assert [i.status for i in found.images] == ["waiting", "waiting"]
    outputs.put_prediction(Prediction.classified(watched.image_ids[1], [("tabby", 0.9)]))
    assert [i.status for i in make().read(watched.request_id).images] == ["waiting", "classified"]


def test_an_unknown_request_is_none(make):
    assert make().read(new_request_id()) is None


def test_an_upload_that_s3_refuses_asks_nothing(make, inputs, outputs, queue, aws, on_call):
    submissions = make()

    def refuse(params):
        if params["Key"].endswith("b.png"):
            raise refusal("SlowDown", "PutObject")

    on_call(aws.s3, "PutObject", refuse)
    with pytest.raises(CloudError, match="SlowDown"):
        submit(submissions, "a.png", "b.png", "c.png")
    assert queue.counts().backlog == 0
    assert OpenRequests(inputs, outputs).ids() == []
    assert submissions.waiting().requests == ()


def test_a_queue_that_refuses_is_an_error_too(make, inputs, outputs, aws, on_call):
    submissions = make()

    def refuse(params):
        raise refusal("ServiceUnavailable", "SendMessageBatch")

    on_call(aws.sqs, "SendMessageBatch", refuse)
    with pytest.raises(CloudError, match="ServiceUnavailable"):
        submit(submissions, "a.png")
    assert OpenRequests(inputs, outputs).ids() == []


def test_polling_outlives_an_s3_that_fails_for_a_while(make, work, aws, on_call, caplog):
    submissions, failures = make(), []

    def refuse(params):
        if len(failures) < 2:
            failures.append(1)
            raise refusal("InternalError", "ListObjectsV2")

    on_call(aws.s3, "ListObjectsV2", refuse)
    submissions.look_at_fleet = work
    watched = submit(submissions, "a.png")
    assert watched.finished.wait(10)
    assert not watched.unanswered
    assert "InternalError" in caplog.text


def test_an_answer_that_cannot_be_read_fails_its_image_and_not_the_request(make, outputs):
    submissions = make()
    watched = submit(submissions, "a.png", "b.png")
    broken, good = watched.image_ids
    outputs.write(broken, b"\x80\x04 pickle")
    outputs.put_prediction(Prediction.classified(good, [("tabby", 0.9)]))
    assert watched.finished.wait(10)
    failed, classified = watched.answer().images
    assert (failed.status, failed.error.code) == ("failed", "broken_answer")
    assert classified.label == "tabby"
    assert make().read(watched.request_id) == watched.answer()


def test_a_change_of_the_answer_after_the_first_is_not_taken(submissions, make, outputs):
    watched = submit(submissions, "a.png")
    assert watched.finished.wait(10)
    assert not outputs.put_prediction(Prediction.failed(watched.image_ids[0], "gave_up", "late"))
    assert make().read(watched.request_id) == watched.answer()


def test_many_requests_at_once_are_polled_with_few_listings(make, outputs, aws, on_call):
    submissions, listings = make(), []
    on_call(aws.s3, "ListObjectsV2", lambda params: listings.append(1))
    watched = [submit(submissions, "a.png") for _ in range(20)]
    Event().wait(0.5)
    before = len(listings)
    for one in watched:
        outputs.put_prediction(Prediction.classified(one.image_ids[0], [(one.request_id, 0.9)]))
    assert all(one.finished.wait(10) for one in watched)
    assert [one.answer().images[0].label for one in watched] == [one.request_id for one in watched]
    assert before < 40, "20 requests share a listing"


def test_a_long_wait_is_polled_slowly_and_a_short_one_quickly(make):
    submissions = make()
    assert submissions._pause(0) <= 0.05
    assert submissions._pause(2) == pytest.approx(0.2)
    assert submissions._pause(3600) == 1


def test_a_wait_that_began_before_the_watch_ends_with_it(make, outputs, monkeypatch):
    """The answer is complete in S3 before the process that watches the request has seen it."""
    submissions, watched = make(), submit(make(), "a.png")
    progress = submissions.open_requests.progress

    def watch_from_now_on(request):
        outputs.put_prediction(Prediction.classified(watched.image_ids[0], [("tabby", 0.9)]))
        submissions._watched[watched.request_id] = slow
        polled.start()
        return progress(request)

    def poll():
        slow.know(submissions.fetch(slow.image_ids))
        submissions._watched.clear()
        slow.end()

    slow, polled = Watched(watched.request_id, watched.image_ids), Timer(0.3, poll)
    monkeypatch.setattr(submissions.open_requests, "progress", watch_from_now_on)
    submissions.wait(watched.request_id, 10)
    assert slow.finished.is_set()
    assert submissions.read(watched.request_id).complete
