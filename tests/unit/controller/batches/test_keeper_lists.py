"""Listings that were abandoned, or that fail, and what the keeper makes of them."""

from datetime import timedelta

import pytest

from cloud.clock import now
from cloud.errors import CloudError
from controller.batches import keeper as module
from controller.batches.keeper import MOST_IN_VAIN
from local.driver import eventually
from tests.support.aws_errors import refusal
from tests.support.batch_work import (
    BATCH,
    SOURCE,
    batch_of,
    listed_images,
    photos,
    slices_in,
)


def test_an_abandoned_listing_is_taken_over_after_a_minute(store, aws, slices, keeper, on_reply):
    photos(aws.s3, "1.jpg")
    age = [50]

    def ago(reply):
        for item in reply.get("Contents", []):
            item["LastModified"] = now() - timedelta(seconds=age[0])

    on_reply(aws.s3, "ListObjectsV2", ago)
    store.put(batch_of(created_at=now() - timedelta(minutes=5)))
    keeper.look()
    assert store.listed(BATCH) is None
    age[0] = 70
    keeper.look()
    assert store.listed(BATCH).images == 1
    assert len(slices_in(slices)) == 1


@pytest.fixture
def refused(aws, on_call):
    """The tries to list the bucket of the user, each of which S3 refuses."""
    tries = []

    def refuse(params):
        if params["Bucket"] == SOURCE:
            tries.append(params)
            raise refusal("InvalidToken", "ListObjectsV2")

    on_call(aws.s3, "ListObjectsV2", refuse)
    return tries


def test_a_listing_that_fails_goes_on_in_a_minute_and_not_at_once(store, keeper, refused, monkeypatch):
    monkeypatch.setattr(module, "TAKEN_OVER_AFTER", timedelta(seconds=3))
    store.put(batch_of(created_at=now() - timedelta(minutes=5)))
    eventually(lambda: keeper.look() and refused)
    for _ in range(3):
        keeper.look()
    assert len(refused) == 1
    eventually(lambda: keeper.look() and len(refused) == 2)


def test_a_batch_that_cannot_be_listed_ends_some_time_with_the_reason(store, keeper, refused, monkeypatch):
    monkeypatch.setattr(module, "TAKEN_OVER_AFTER", timedelta(seconds=-10))
    assert_ends(store, keeper, "AWS says InvalidToken")


def assert_ends(store, keeper, reason):
    """A batch whose listing never gets on is tried MOST_IN_VAIN times, and then ends with the reason."""
    store.put(batch_of())
    for _ in range(MOST_IN_VAIN):
        assert store.cancelled(BATCH) is None
        keeper.look()
    assert reason in store.cancelled(BATCH)
    keeper.look()
    assert store.open() == []


def test_a_batch_that_cannot_be_listed_ends_though_s3_fails_at_its_end(store, keeper, refused, monkeypatch):
    monkeypatch.setattr(module, "TAKEN_OVER_AFTER", timedelta(seconds=-10))
    monkeypatch.setattr(module, "MOST_IN_VAIN", 2)
    cancel, failures = store.cancel, [CloudError("S3 fails", "SlowDown")]

    def once_in_vain(batch_id, why):
        if failures:
            raise failures.pop()
        cancel(batch_id, why)

    monkeypatch.setattr(store, "cancel", once_in_vain)
    store.put(batch_of())
    for _ in range(3):
        assert store.cancelled(BATCH) is None
        keeper.look()
    assert "AWS says InvalidToken" in store.cancelled(BATCH)


@pytest.fixture
def failing_source(monkeypatch):
    """Lets S3 list one page of a source, of the keys that a function returns, and then fail."""

    def lets(keys_after):
        def pages(s3, batch, after=""):
            yield listed_images(*keys_after(after))
            raise CloudError("S3 fails", "InternalError")

        monkeypatch.setattr("controller.batches.lister.pages", pages)
        monkeypatch.setattr(module, "TAKEN_OVER_AFTER", timedelta(seconds=-10))

    return lets


def test_a_batch_of_which_a_later_page_cannot_be_listed_ends_some_time(store, keeper, failing_source):
    """The pages before it can be listed each time, but fill no manifest."""
    failing_source(lambda after: ["1.jpg", "2.jpg"])
    assert_ends(store, keeper, "AWS says InternalError")


def test_a_listing_that_fails_again_and_again_but_gets_on_is_not_ended(
    store, keeper, failing_source, monkeypatch
):
    monkeypatch.setattr(module, "MOST_IN_VAIN", 2)
    monkeypatch.setattr("controller.batches.listing.MANIFEST_IMAGES", 1)
    monkeypatch.setattr("controller.batches.missing.MANIFEST_IMAGES", 1)
    failing_source(lambda after: [f"{int(after.removesuffix('.jpg') or 0) + 1:02}.jpg"])
    store.put(batch_of())
    for _ in range(5):
        keeper.look()
    assert store.cancelled(BATCH) is None
    assert [number for number, _ in store.manifests(BATCH)] == [0, 1, 2, 3, 4]
