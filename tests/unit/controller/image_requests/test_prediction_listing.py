from contextlib import AbstractContextManager, ExitStack
from threading import Event

import pytest

from cloud.errors import CloudError
from cloud.image_id import ImageId, new_request_id, shard_and_time
from cloud.prediction import Prediction
from controller.image_requests import prediction_listing
from controller.image_requests.prediction_listing import Followed, PredictionListing
from local.driver import eventually

SHARD = "abcdef"


class Outputs:
    """Keys in order, as S3 lists them, and how often it was asked."""

    def __init__(self):
        self.there: set[ImageId] = set()
        self.listings: list[tuple[str, str]] = []
        self.reads: list[ImageId] = []
        self.errors: list[Exception] = []

    def get_prediction(self, image_id):
        self.reads.append(image_id)
        if self.errors:
            raise self.errors.pop()
        return Prediction.classified(image_id, [("tabby", 0.9)]) if image_id in self.there else None

    def answered(self, prefix, after=""):
        self.listings.append((prefix, after))
        if self.errors:
            raise self.errors.pop()
        return sorted(key for key in self.there if key.startswith(prefix) and key > after)

    def answer(self, request_id: str, *numbers: int) -> list[ImageId]:
        keys = [ImageId.make(request_id, n, "cat.jpg") for n in numbers]
        self.there |= set(keys)
        return keys


@pytest.fixture
def outputs() -> Outputs:
    return Outputs()


@pytest.fixture
def listing(outputs) -> PredictionListing:
    return PredictionListing(outputs, SHARD)


def request(second: int, rest: str = "ab") -> str:
    return f"{SHARD}{0x6B000000 + second:08x}{rest * 9}"


def images(request_id: str, number: int) -> list[ImageId]:
    return [ImageId.make(request_id, n, "cat.jpg") for n in range(number)]


def follow(listing: PredictionListing, request_id: str, number: int) -> AbstractContextManager[Followed]:
    return listing.follow(request_id, images(request_id, number))


def test_a_request_gets_its_own_predictions_and_no_others(listing, outputs):
    one, other = request(1), request(2)
    outputs.answer(request(2, "cd"), 0)
    keys, others = outputs.answer(one, 0, 1), outputs.answer(other, 5)
    with (
        follow(listing, one, 2) as followed,
        follow(listing, other, 6) as followed_too,
    ):
        assert followed.wait(10) == keys
        assert followed_too.wait(10) == others


def test_each_prediction_is_handed_out_once(listing, outputs):
    one = request(1)
    first = outputs.answer(one, 0)
    with follow(listing, one, 2) as followed:
        assert followed.wait(10) == first
        second = outputs.answer(one, 1)
        assert followed.wait(10) == second
        assert followed.wait(0.3) == []


def test_the_prediction_of_an_image_that_waits_alone_is_read_and_not_listed(listing, outputs):
    (key,) = images(request(1), 1)
    with listing.follow(request(1), [key]) as followed:
        eventually(lambda: len(outputs.reads) > 1)
        outputs.answer(request(1), 0)
        assert followed.wait(10) == [key]
        assert followed.read[key].label == "tabby"
    assert outputs.listings == []


def test_the_last_image_of_a_request_is_read_too(listing, outputs):
    keys = images(request(1), 3)
    outputs.answer(request(1), 0, 2)
    with listing.follow(request(1), keys) as followed:
        assert followed.wait(10) == [keys[0], keys[2]]
        outputs.answer(request(1), 1)
        assert followed.wait(10) == [keys[1]]
        assert list(followed.read) == [keys[1]]
    assert len(outputs.listings) == 1


def test_images_that_were_answered_without_a_worker_do_not_count_as_those_that_wait(listing, outputs):
    keys = images(request(1), 4)
    outputs.answer(request(1), 0, 3)
    with listing.follow(request(1), keys[1:3] + keys[3:]) as followed:
        assert followed.wait(10) == [keys[0], keys[3]]
        assert followed.missing == set(keys[1:3])
        outputs.answer(request(1), 1)
        assert followed.wait(10) == [keys[1]]
        outputs.answer(request(1), 2)
        assert followed.wait(10) == [keys[2]]


def test_one_listing_serves_all_that_wait(listing, outputs):
    waiting = [request(n) for n in range(50)]
    for request_id in waiting:
        outputs.answer(request_id, 0)
    with ExitStack() as stack:
        followed = [stack.enter_context(follow(listing, request_id, 1)) for request_id in waiting]
        assert all(one.wait(10) for one in followed)
    assert len(outputs.listings) < 10


def test_what_is_listed_begins_with_the_oldest_that_waits(listing, outputs):
    outputs.answer(request(0), *range(500))
    keys = outputs.answer(request(2), 0)
    with (
        follow(listing, request(2), 2) as followed,
        follow(listing, request(3), 1),
    ):
        assert followed.wait(10) == keys
    assert set(outputs.listings) == {(SHARD, shard_and_time(request(2)))}


def test_of_two_requests_of_one_second_the_one_that_sorts_first_may_come_later(listing, outputs):
    early, late = request(1, "11"), request(1, "ee")
    with follow(listing, late, 1), follow(listing, early, 1) as followed:
        assert followed.wait(10 if outputs.answer(early, 0) else 0)


def test_the_listings_end_when_nothing_waits_and_begin_again(listing, outputs):
    for second in range(2):
        keys = outputs.answer(request(second), 0)
        with follow(listing, request(second), 1) as followed:
            assert followed.wait(10) == keys
        eventually(lambda: not listing._runs)
    before = len(outputs.listings)
    Event().wait(0.2)
    assert len(outputs.listings) == before


@pytest.mark.parametrize("error", [CloudError("SlowDown"), RuntimeError("SlowDown")])
def test_a_listing_that_fails_is_made_again(listing, outputs, error, caplog):
    outputs.errors = [error]
    keys = outputs.answer(request(1), 0)
    with follow(listing, request(1), 1) as followed:
        assert followed.wait(10) == keys
    assert "SlowDown" in caplog.text


def test_a_request_that_holds_the_listings_back_is_left_out(listing, outputs, monkeypatch):
    monkeypatch.setattr(prediction_listing, "NEEDLESS", 10)
    monkeypatch.setattr(prediction_listing, "LONG_SECONDS", 0.2)
    outputs.answer(request(2), *range(20))
    with (
        follow(listing, request(1), 1) as slow,
        follow(listing, request(3), 2) as other,
    ):
        assert slow.wait(10) is None
        keys = outputs.answer(request(3), 0)
        assert other.wait(10) == keys
    assert outputs.listings[-1] == (SHARD, shard_and_time(request(3)))


def test_many_that_wait_long_share_one_listing_while_others_among_them_are_answered(
    listing, outputs, monkeypatch
):
    """After a cold start, a thousand requests wait, and workers answer them in no order."""
    monkeypatch.setattr(prediction_listing, "LONG_SECONDS", 0)
    for n in range(1, 4000, 2):
        outputs.answer(request(n), 0)
    with ExitStack() as stack:
        waiting = [stack.enter_context(follow(listing, request(n), 1)) for n in range(0, 2000, 2)]
        eventually(lambda: len(outputs.listings) >= 6)
        assert not [one for one in waiting if one.wait(0) is None]


def test_several_requests_that_hold_the_listings_back_are_left_out_together(listing, outputs, monkeypatch):
    monkeypatch.setattr(prediction_listing, "NEEDLESS", 10)
    monkeypatch.setattr(prediction_listing, "LONG_SECONDS", 0.2)
    outputs.answer(request(5), *range(50))
    with ExitStack() as stack:
        slow = [stack.enter_context(follow(listing, request(n), 1)) for n in range(3)]
        other = stack.enter_context(follow(listing, request(9), 1))
        assert [one.wait(10) for one in slow] == [None] * 3
        keys = outputs.answer(request(9), 0)
        assert other.wait(10) == keys
    assert {shard_and_time(request(n)) for n in (1, 2)}.isdisjoint(after for _, after in outputs.listings)


def test_a_wait_can_be_ended(listing):
    with follow(listing, request(1), 1) as followed:
        listing.wake(request(1))
        assert followed.wait(10) == []
    listing.wake(request(1))


def test_request_ids_of_a_shard_are_in_the_order_of_their_time():
    assert request(0) < request(1) < request(2, "00")
    assert shard_and_time(new_request_id(SHARD)) <= shard_and_time(new_request_id(SHARD))
