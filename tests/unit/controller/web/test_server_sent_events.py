import json
from threading import Thread
from types import SimpleNamespace

import pytest

from cloud.image_id import ImageId, new_request_id
from cloud.prediction import Prediction
from controller.dashboard.wait_estimate import Wait
from controller.image_requests.watched_request import WatchedRequest
from controller.web.image_numbers import ImageNumbers
from controller.web.server_sent_events import KEEP_ALIVE_SECONDS, LONGEST_SECONDS, EventStreams
from tests.support.clocks import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def waits() -> list[Wait]:
    """What the forecast says, one after the other; the last one stays."""
    return [Wait(state="queued", message="In the queue.")]


@pytest.fixture
def streams(clock, waits) -> EventStreams:
    forecast = SimpleNamespace(wait=lambda waiting: waits.pop(0) if len(waits) > 1 else waits[0])
    return EventStreams(forecast, clock)


@pytest.fixture
def watched() -> WatchedRequest:
    request_id = new_request_id()
    return WatchedRequest(request_id, [ImageId.make(request_id, n, "犬.png") for n in range(3)])


def know(watched: WatchedRequest, *numbers: int) -> None:
    new = [watched.image_ids[n] for n in numbers if watched.image_ids[n] not in watched.predictions]
    made = {i: Prediction.classified(i, [("tabby", 0.9)]) for i in new}
    watched.know({**watched.predictions, **made})


def read(text: str) -> tuple[str, str, dict]:
    """The name, the id and the data of an event."""
    lines = text.removesuffix("\n\n").split("\n")
    name, sent, data = (
        line.removeprefix(f"{field}: ") for line, field in zip(lines, ["event", "id", "data"], strict=True)
    )
    return name, sent, json.loads(data)


def events(streams: EventStreams, watched: WatchedRequest, given: str = ""):
    found = streams.events(watched, ImageNumbers(given))
    assert next(found).startswith("retry: ")
    return found


def test_a_stream_says_how_it_is_then_each_answer_and_at_last_that_it_is_done(streams, watched):
    stream = events(streams, watched)
    name, sent, data = read(next(stream))
    assert (name, sent) == ("state", "")
    assert data == {
        "state": "queued",
        "message": "In the queue.",
        "estimate_seconds": None,
        "counts": {"waiting": 3, "classified": 0, "failed": 0},
        "complete": False,
    }
    know(watched, 2)
    name, sent, data = read(next(stream))
    assert (name, sent, data["counts"]["waiting"]) == ("state", "", 2)
    name, sent, data = read(next(stream))
    assert (name, sent, data["label"], data["filename"]) == ("image", "2", "tabby", "犬.png")
    assert data == watched.images()[2].model_dump(mode="json")
    know(watched, 0, 1)
    rest = [read(text) for text in stream]
    assert [(name, sent) for name, sent, _ in rest] == [("image", "0,2"), ("image", "0-2"), ("state", "0-2")]
    assert (rest[-1][2]["state"], rest[-1][2]["complete"]) == ("done", True)


def test_who_comes_again_gets_what_it_has_not(streams, watched):
    know(watched, 0, 1)
    stream = events(streams, watched, "0,17")
    assert read(next(stream))[:2] == ("state", "0")
    assert read(next(stream))[:2] == ("image", "0-1")
    know(watched, 2)
    assert [read(text)[:2] for text in stream] == [("image", "0-2"), ("state", "0-2")]


def test_an_image_that_waits_again_is_sent_again(streams, watched):
    """Somebody sent a failed one once more."""
    know(watched, 0)
    stream = events(streams, watched)
    assert [read(next(stream))[:2] for _ in range(2)] == [("state", ""), ("image", "0")]
    watched.know({})
    assert read(next(stream))[2]["counts"]["waiting"] == 3
    know(watched, 0)
    assert [read(next(stream))[:2] for _ in range(2)] == [("state", "0"), ("image", "0")]
    watched.know({})
    other = events(streams, watched, "0")
    assert read(next(other))[:2] == ("state", "")
    know(watched, 0)
    assert [read(next(other))[:2] for _ in range(2)] == [("state", ""), ("image", "0")]


def test_a_complete_request_is_told_at_once_and_whole(streams, watched):
    know(watched, 0, 1, 2)
    names = [read(text)[0] for text in events(streams, watched)]
    assert names == ["image"] * 3 + ["state"]
    assert [read(text)[0] for text in events(streams, watched, "0-2")] == ["state"]


def test_a_change_of_what_the_fleet_does_is_told_and_no_change_is_not(streams, watched, waits):
    launching = Wait(state="launching", message="Starting 1 instance.", estimate_seconds=40)
    waits[:] = [waits[0], waits[0], waits[0], launching]
    stream = events(streams, watched)
    assert read(next(stream))[2]["state"] == "queued"
    assert read(next(stream))[2]["state"] == "launching"


def test_a_quiet_stream_keeps_its_connection_and_ends_after_its_time(streams, watched, clock):
    def pass_seconds(known, seconds):
        clock.now += seconds

    watched.wait_for_change = pass_seconds
    began = clock.now
    stream = events(streams, watched)
    first = next(stream)
    assert next(stream) == first
    assert clock.now - began == pytest.approx(KEEP_ALIVE_SECONDS, abs=2)
    assert set(stream) == {first}
    assert clock.now - began == pytest.approx(LONGEST_SECONDS, abs=2)


def test_a_stream_ends_when_its_process_shall(streams, watched):
    stream = events(streams, watched)
    next(stream)
    streams.process_stays = lambda: False
    assert list(stream) == []


def test_the_last_answers_are_told_although_the_request_ends_while_it_is_looked_at(streams, watched):
    look = watched.images

    def images():
        found = look()
        if watched.unanswered:
            know(watched, 0, 1, 2)
            watched.end()
        return found

    stream = events(streams, watched)
    watched.images = images
    rest = [read(text) for text in stream]
    assert [name for name, _, _ in rest] == ["state", "image", "image", "image", "state"]
    assert rest[-1][2]["state"] == "done"


def test_a_stream_ends_when_nobody_watches_any_more_so_that_its_client_comes_again(streams, watched):
    stream = events(streams, watched)
    next(stream)
    ender = Thread(target=watched.end)
    ender.start()
    assert list(stream) == []
    ender.join()


def test_thousands_of_images_are_all_sent(streams):
    request_id = new_request_id()
    watched = WatchedRequest(request_id, [ImageId.make(request_id, n, "cat.png") for n in range(5000)])
    know(watched, *range(0, 5000, 2))
    stream = events(streams, watched)
    found = [read(next(stream))[0] for _ in range(2501)]
    know(watched, *range(5000))
    found += [read(text)[0] for text in stream]
    assert found.count("image") == 5000
