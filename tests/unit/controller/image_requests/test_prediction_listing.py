from threading import Thread

import pytest

from cloud.image_id import ImageId, new_request_id
from controller.image_requests.prediction_listing import PredictionListing


class Outputs:
    """Keys in order, as S3 lists them, and how often it was asked."""

    def __init__(self):
        self.there: set[ImageId] = set()
        self.listings: list[tuple[str, str]] = []

    def answered(self, prefix, after=""):
        self.listings.append((prefix, after))
        return sorted(key for key in self.there if key.startswith(prefix) and key > after)

    def answer(self, request_id: str, *numbers: int) -> list[ImageId]:
        keys = [ImageId.make(request_id, n, "cat.jpg") for n in numbers]
        self.there |= set(keys)
        return keys


@pytest.fixture
def outputs() -> Outputs:
    return Outputs()


@pytest.fixture
def clock() -> list[float]:
    return [1000.0]


@pytest.fixture
def feed(outputs, clock) -> PredictionListing:
    return PredictionListing(outputs, lambda: clock[0])


def request(second: int, rest: str = "ab") -> str:
    return f"{0x6B000000 + second:08x}{rest * 10}"


def test_a_request_gets_its_own_answers_and_no_others(feed, outputs):
    one, other, third = request(1), request(2), request(2, "cd")
    expected = outputs.answer(one, 0, 1), outputs.answer(other, 5)
    waiting = [one, other, third]
    assert [feed.answered(r, waiting) for r in waiting] == [*expected, []]


def test_one_listing_serves_all_that_wait(feed, outputs):
    waiting = [request(n) for n in range(50)]
    for request_id in waiting:
        outputs.answer(request_id, 0)
        feed.answered(request_id, waiting)
    assert len(outputs.listings) == 1


def test_what_is_listed_begins_with_the_oldest_that_waits(feed, outputs):
    outputs.answer(request(0), *range(500))
    feed.answered(request(2), [request(2), request(3)])
    ((prefix, after),) = outputs.listings
    assert after == request(2)
    assert request(3).startswith(prefix)
    assert len(prefix) >= 7, "no more than is needed"


def test_a_new_answer_is_seen_a_moment_later(feed, outputs, clock):
    one = request(1)
    assert feed.answered(one, [one]) == []
    keys = outputs.answer(one, 0)
    clock[0] += 0.05
    assert feed.answered(one, [one]) == keys


def test_a_request_that_is_older_than_the_listing_is_listed_at_once(feed, outputs):
    """Two requests of one second may begin to wait in any order."""
    early, late = request(1, "11"), request(1, "ee")
    keys = outputs.answer(early, 0)
    assert feed.answered(late, [late]) == []
    assert feed.answered(early, [early, late]) == keys


def test_a_request_that_is_newer_than_the_listing_waits_for_the_next_one(feed, outputs, clock):
    one, newer = request(1), request(70_000)
    feed.answered(one, [one])
    keys = outputs.answer(newer, 0)
    clock[0] += 0.05
    assert feed.answered(newer, [one, newer]) == keys


def test_a_slow_bucket_is_listed_less_often(feed, outputs, clock):
    one, listed = request(1), outputs.answered

    def slow(*args, **more):
        clock[0] += 1.0
        return listed(*args, **more)

    outputs.answered = slow
    feed.answered(one, [one])
    clock[0] += 3.9
    feed.answered(one, [one])
    assert len(outputs.listings) == 1
    clock[0] += 0.2
    feed.answered(one, [one])
    assert len(outputs.listings) == 2


def test_threads_that_ask_at_once_share_a_listing(feed, outputs):
    waiting = [request(n) for n in range(20)]
    keys = {request_id: outputs.answer(request_id, 0) for request_id in waiting}
    found = {}
    threads = [Thread(target=lambda r=r: found.update({r: feed.answered(r, waiting)})) for r in waiting]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert found == keys
    assert len(outputs.listings) == 1


def test_request_ids_stand_in_the_order_of_their_time():
    assert request(0) < request(1) < request(2, "00")
    assert new_request_id()[:8] <= new_request_id()[:8]


def test_what_else_is_in_the_bucket_is_no_answer(outputs, feed):
    one = request(1)
    outputs.there |= {"fleet/state", "workers/i-1"}
    assert feed.answered(one, [one]) == []
