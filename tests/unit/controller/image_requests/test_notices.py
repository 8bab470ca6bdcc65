"""Whoever subscribes to the topic is told of each request that is complete, whatever fails in between."""

from datetime import datetime, timedelta

import pytest

from cloud.clients import sns_client
from cloud.clock import now
from cloud.image_id import ImageId, new_request_id
from cloud.notices import Notice, Topic
from cloud.prediction import Prediction
from controller.image_requests import notices as module
from controller.image_requests.journal import Journal
from controller.image_requests.notices import IDLE_SECONDS, PREFIX
from tests.support.aws_errors import refusal
from tests.support.submissions import submit
from tests.support.threads import join_threads
from tests.support.topics import Subscribed


@pytest.fixture
def topic(aws):
    return Subscribed(sns_client("us-east-1"), aws.sqs)


@pytest.fixture
def told(make, work, topic):
    """A process that tells the topic, with a worker that answers at once."""
    made = make(notify_topic=topic.arn)
    made.polling.wake_autoscaler = work
    return made


@pytest.fixture
def other(make, topic):
    """Another process, an hour later."""
    made = make(notify_topic=topic.arn)
    made.cancel_retry.recovery.clock = lambda: now() + timedelta(hours=1)
    return made


@pytest.fixture
def noted(state):
    """What is noted and not yet told."""
    return lambda: list(state.keys(PREFIX))


@pytest.fixture
def later(monkeypatch):
    """Lets so much time pass since everything was noted."""

    def pass_(seconds: float) -> None:
        monkeypatch.setattr(module, "now", lambda: now() + timedelta(seconds=seconds))

    return pass_


@pytest.fixture
def refuse(on_call):
    """`refuse(client, operation, times)`: AWS refuses the call so often."""

    def refuse(client, operation, times):
        left = [times]

        def say_no(params):
            if left[0]:
                left[0] -= 1
                raise refusal("InternalError", operation)

        on_call(client, operation, say_no)

    return refuse


def finish(process, *names, **more) -> str:
    """Sends a request and waits until it has ended. Returns its id."""
    watched = submit(process, *names, **more)
    assert watched.finished.wait(10)
    join_threads("poll-")
    return watched.request_id


def publish_next(notices) -> None:
    """Does what a thread of the process does once something is noted. It would wait for that."""
    assert notices._queue.qsize()
    notices.publish_next()


def test_a_request_that_is_complete_is_told_with_its_counts(told, topic, noted):
    request_id = finish(told, "cat.png", "text.txt", refused=("text.txt",))
    publish_next(told.notices)
    [notice] = topic.received()
    assert datetime.fromisoformat(notice.pop("at")) <= now()
    assert notice == {
        "kind": "request",
        "id": request_id,
        "path": f"/requests/{request_id}",
        "status": "failed",
        "counts": {"classified": 1, "failed": 1},
        "attributes": {"kind": "request", "status": "failed"},
    }
    assert noted() == []


def test_a_request_of_which_nothing_must_be_classified_is_told_too(told, topic):
    request_id = finish(told, "text.txt", refused=("text.txt",))
    publish_next(told.notices)
    assert [notice["id"] for notice in topic.received()] == [request_id]


def test_it_is_noted_before_the_marker_goes(told, state, noted, on_call, aws):
    seen = []

    def look(params):
        if params["Key"].startswith("open/"):
            seen.append(noted())

    on_call(aws.s3, "DeleteObject", look)
    request_id = finish(told, "cat.png")
    assert [[key.startswith(f"{PREFIX}{request_id}-") for key in keys] for keys in seen] == [[True]]


def test_a_process_that_dies_after_the_last_answer_is_made_up_for(
    inputs, outputs, state, other, topic, noted
):
    theirs = Journal(state, inputs, outputs)
    complete, waits = new_request_id(theirs.shard), new_request_id(theirs.shard)
    for request_id in (complete, waits):
        theirs.open(request_id)
        inputs.put_placeholder(ImageId.make(request_id, 0, "cat.png"))
    outputs.put_prediction(Prediction.classified(ImageId.make(complete, 0, "cat.png"), [("tabby", 0.75)]))
    recovery = other.cancel_retry.recovery
    recovery.settle()
    assert (noted(), len(theirs.markers())) == ([], 1)
    outputs.put_prediction(Prediction.classified(ImageId.make(waits, 0, "cat.png"), [("tabby", 0.75)]))
    recovery.settle()
    assert theirs.markers() == []
    publish_next(other.notices)
    assert {notice["id"]: notice["status"] for notice in topic.received()} == {
        complete: "classified",
        waits: "classified",
    }
    assert noted() == []


def test_a_marker_stays_until_it_is_noted_what_must_be_told(inputs, outputs, state, other, refuse, aws):
    theirs = Journal(state, inputs, outputs)
    theirs.open(new_request_id(theirs.shard))
    refuse(aws.s3, "PutObject", 1)
    other.cancel_retry.recovery.settle()
    assert len(theirs.markers()) == 1
    other.cancel_retry.recovery.settle()
    assert theirs.markers() == []


def test_a_process_that_dies_before_it_publishes_is_made_up_for(told, other, topic, later, noted):
    request_id = finish(told, "cat.png")
    other.notices.look()
    assert topic.received() == []
    later(61)
    other.notices.look()
    assert [notice["id"] for notice in topic.received()] == [request_id]
    assert noted() == []
    other.notices.look()
    assert topic.received() == []


def test_what_sns_refuses_is_tried_again(told, topic, refuse, later, noted):
    request_id = finish(told, "cat.png")
    refuse(told.notices.topic.sns, "Publish", 2)
    publish_next(told.notices)
    later(61)
    with pytest.raises(Exception, match="InternalError"):
        told.notices.look()
    assert (topic.received(), len(noted())) == ([], 1)
    told.notices.look()
    assert [notice["id"] for notice in topic.received()] == [request_id]
    assert noted() == []


def test_a_request_is_answered_though_it_cannot_be_noted_and_is_told_later(
    told, other, topic, on_call, aws, noted
):
    broken = [True]

    def refuse_notes(params):
        if broken[0] and params["Key"].startswith(PREFIX):
            raise refusal("InternalError", "PutObject")

    on_call(aws.s3, "PutObject", refuse_notes)
    request_id = finish(told, "cat.png")
    assert told.polling.read(request_id).complete
    broken[0] = False
    other.cancel_retry.recovery.settle()
    publish_next(other.notices)
    assert [notice["id"] for notice in topic.received()] == [request_id]


def test_a_request_that_nobody_polls_is_told_when_it_is_cancelled(make, other, topic):
    dead = make(notify_topic=topic.arn)
    dead.polling.request_timeout = 0
    request_id = finish(dead, "cat.png")
    other.cancel_retry.cancel(request_id)
    publish_next(other.notices)
    assert [notice["status"] for notice in topic.received()] == ["failed"]


def test_what_cannot_be_read_keeps_nothing_else_from_being_told(told, state, topic, later):
    state.write(f"{PREFIX}0", b"broken")
    request_id = finish(told, "cat.png")
    later(61)
    told.notices.look()
    assert [notice["id"] for notice in topic.received()] == [request_id]


def test_what_no_longer_fits_into_the_queue_is_told_at_the_next_look(make, topic, monkeypatch, later):
    monkeypatch.setattr(module, "MOST_QUEUED", 1)
    notices = make(notify_topic=topic.arn).notices
    for id in ("a", "b"):
        notices.tell(Notice(kind="request", id=id, path=f"/requests/{id}", status="classified", counts={}))
    publish_next(notices)
    assert [notice["id"] for notice in topic.received()] == ["a"]
    later(61)
    notices.look()
    assert [notice["id"] for notice in topic.received()] == ["b"]


def test_it_looks_again_within_a_minute_while_something_is_left_and_seldom_otherwise(told, later):
    notices, time = told.notices, [0.0]
    notices.clock = lambda: time[0]
    finish(told, "cat.png")
    notices.look()
    assert notices.clock() >= notices._look_at
    later(61)
    notices.look()
    assert notices._look_at == IDLE_SECONDS


def test_without_a_topic_nothing_is_noted_and_sns_is_not_called(process, make, inputs, outputs, state, noted):
    finish(process, "cat.png")
    theirs = Journal(state, inputs, outputs)
    theirs.open(new_request_id(theirs.shard))
    process.cancel_retry.recovery.clock = lambda: now() + timedelta(hours=1)
    process.cancel_retry.recovery.settle()
    assert (theirs.markers(), noted()) == ([], [])
    assert process.notices.topic.sns is None


def test_a_topic_is_called_in_its_own_region(aws):
    assert Topic("arn:aws:sns:eu-west-1:123456789012:done").sns.meta.region_name == "eu-west-1"
