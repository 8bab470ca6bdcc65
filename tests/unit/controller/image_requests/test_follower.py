import threading
from threading import Event

import pytest

from cloud.prediction import Prediction
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
