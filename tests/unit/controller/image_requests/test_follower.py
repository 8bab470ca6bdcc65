import threading
import time
from threading import Event, Timer
from types import SimpleNamespace

import pytest

from cloud.prediction import Prediction
from controller.image_requests import stored_requests
from controller.image_requests.watched_request import WatchedRequest
from local.driver import eventually
from tests.support.aws_errors import refusal
from tests.support.submissions import submit


@pytest.fixture
def request_(make):
    """Of another process."""
    return submit(make(), "a.png", "b.png")


@pytest.fixture
def following(make):
    found = make().follower
    yield found
    eventually(lambda: not [t for t in threading.enumerate() if t.name.startswith("follow-")])


def answer(outputs, image_id: str) -> None:
    outputs.put_prediction(Prediction.classified(image_id, [("tabby", 0.9)]))


def test_a_request_that_this_process_watches_is_not_followed_once_more(make):
    process = make()
    watched = submit(process, "a.png")
    with process.follower.follow(watched.request_id) as found:
        assert found is watched


def test_all_who_wait_are_let_go_before_the_process_ends(make, request_):
    process = make()
    own = submit(process, "a.png")
    with process.follower.follow(request_.request_id) as other:
        process.follower.let_go()
        assert other.finished.is_set()
    assert own.finished.is_set()
    assert own.unanswered


def test_a_request_of_another_process_is_followed_until_it_is_complete(following, request_, outputs):
    with following.follow(request_.request_id) as found:
        assert found.unanswered == 2
        for n, image_id in enumerate(request_.image_ids, 1):
            answer(outputs, image_id)
            eventually(lambda n=n: len(found.predictions) == n)


def test_many_streams_of_a_request_ask_s3_as_one_does(following, request_, aws, on_call):
    request_.end()
    listed: list[str] = []
    on_call(aws.s3, "ListObjectsV2", lambda params: listed.append(params["Bucket"]))
    ready, over = threading.Barrier(31), Event()

    def stream() -> None:
        with following.follow(request_.request_id):
            ready.wait(20)
            over.wait(20)

    threads = [threading.Thread(target=stream) for _ in range(30)]
    for thread in threads:
        thread.start()
    ready.wait(20)
    assert listed.count("test-input") == 1
    over.set()
    for thread in threads:
        thread.join()
    assert not following._shared


def test_clients_that_wait_for_a_request_ask_s3_as_one_does(following, request_, outputs, aws, on_call):
    request_.end()
    listed: list[str] = []
    on_call(aws.s3, "ListObjectsV2", lambda params: listed.append(params["Bucket"]))
    threads = [threading.Thread(target=following.wait, args=[request_.request_id, 20]) for _ in range(30)]
    for thread in threads:
        thread.start()
    eventually(lambda: "test-output" in listed[2:])
    assert listed.count("test-input") == 1
    for image_id in request_.image_ids:
        answer(outputs, image_id)
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()


def test_a_wait_ends_when_the_request_is_complete_or_the_time_is_over(following, request_, outputs):
    began = time.monotonic()
    following.wait(request_.request_id, 0.3)
    assert 0.3 <= time.monotonic() - began < 3
    answers = threading.Timer(0.3, lambda: [answer(outputs, image_id) for image_id in request_.image_ids])
    answers.start()
    following.wait(request_.request_id, 60)
    assert time.monotonic() - began < 20


def test_who_waits_for_a_request_of_another_process_wakes_the_autoscaler(following, request_):
    """That process may have died."""
    wakes = []
    following.polling.wake_autoscaler = lambda: wakes.append(1)
    following.wait(request_.request_id, 0)
    assert wakes == [1]


def test_a_request_that_is_sent_again_is_read_anew(following, request_, outputs):
    for image_id in request_.image_ids:
        answer(outputs, image_id)
    with following.follow(request_.request_id) as before:
        assert before.finished.is_set()
        outputs.delete(request_.image_ids[0])
        with following.follow(request_.request_id) as found:
            assert found.unanswered == 1


def test_a_process_that_has_no_thread_left_does_not_wait(make, request_, monkeypatch):
    def refuse():
        raise RuntimeError("can't start new thread")

    fake = SimpleNamespace(start=refuse)
    monkeypatch.setattr("controller.image_requests.follower.Thread", lambda **_: fake)
    with make().follower.follow(request_.request_id) as found:
        assert found.finished.is_set()
        assert found.unanswered == 2


def test_nobody_asks_s3_once_the_last_stream_has_ended(following, request_):
    with following.follow(request_.request_id) as first, following.follow(request_.request_id) as second:
        assert first is second
    assert first.finished.is_set()


def test_an_unknown_request_is_none_and_leaves_nothing(following):
    with following.follow("0" * 32) as found:
        assert found is None
    assert not following._shared


def test_an_s3_that_fails_for_a_while_is_asked_again(following, request_, outputs, aws, on_call, caplog):
    failures = []

    def refuse(params):
        if threading.current_thread().name.startswith("follow-") and not failures:
            failures.append(1)
            raise refusal("InternalError", "ListObjectsV2")

    with following.follow(request_.request_id) as found:
        on_call(aws.s3, "ListObjectsV2", refuse)
        for image_id in request_.image_ids:
            answer(outputs, image_id)
        eventually(lambda: not found.unanswered)
    assert "InternalError" in caplog.text


def test_an_answer_that_was_taken_back_is_known_no_more(following, request_, outputs):
    answer(outputs, request_.image_ids[0])
    with following.follow(request_.request_id) as found:
        assert found.unanswered == 1
        outputs.delete(request_.image_ids[0])
        eventually(lambda: found.unanswered == 2)


def test_who_follows_a_request_that_is_deleted_does_not_wait_for_more(
    following, request_, inputs, monkeypatch
):
    monkeypatch.setattr(stored_requests, "FIRST_LOOK_SECONDS", 0.05)
    with following.follow(request_.request_id) as found:
        for image_id in request_.image_ids:
            inputs.delete(image_id)
        assert found.finished.wait(20)


def test_a_wait_that_began_before_the_watch_ends_with_it(make, outputs, monkeypatch):
    """The answer is complete in S3 before the process that watches the request has seen it."""
    process, watched = make(), submit(make(), "a.png")
    load = process.polling.stored.load

    def watch_from_now_on(request_id):
        outputs.put_prediction(Prediction.classified(watched.image_ids[0], [("tabby", 0.9)]))
        process.polling._watched[watched.request_id] = slow
        polled.start()
        return load(request_id)

    def poll():
        slow.know(process.polling.stored.fetch(slow.image_ids))
        process.polling._watched.clear()
        slow.end()

    slow, polled = WatchedRequest(watched.request_id, watched.image_ids), Timer(0.3, poll)
    with monkeypatch.context() as context:
        context.setattr(process.polling.stored, "load", watch_from_now_on)
        process.follower.wait(watched.request_id, 10)
    assert slow.finished.is_set()
    assert process.polling.read(watched.request_id).complete
