from datetime import timedelta
from itertools import count

import pytest
from botocore.exceptions import ClientError

from cloud.batches.batch import Manifest
from cloud.clock import now
from cloud.errors import CloudError
from controller.batches import listing
from controller.batches.lister import pages
from tests.support.batch_work import (
    BATCH,
    SOURCE,
    batch_of,
    list_whole,
    photos,
    positions,
    slices_in,
    work_on,
)

ODD = [
    "/leading.jpg",
    "a b+c%2F&?#.jpg",
    "quotes \"'`.jpg",
    "new\nline\ttab.jpg",
    "snö-雪-🐱.jpg",
    "e\u0301.jpg",
    "é.jpg",
    "=1+1.jpg",
    "../up/./x.jpg",
    "UPPER.JPG",
    f"{'l' * 1020}.jpg",
]


@pytest.fixture
def small_manifests(monkeypatch):
    """Manifests of three images, of which two are held back."""
    for where in ("controller.batches.listing", "controller.batches.missing", "controller.batches.progress"):
        monkeypatch.setattr(f"{where}.MANIFEST_IMAGES", 3)
    monkeypatch.setattr(listing, "HELD_BACK", 2)


def keys_of(store, batch_id=BATCH):
    found = []
    for number, _ in store.manifests(batch_id):
        found += [image.key for image in store.manifest(batch_id, number).images]
    return found


def test_every_image_is_in_a_manifest_and_in_a_slice(store, aws, slices, lister, small_manifests):
    names = [f"cats/{n:02}.jpg" for n in range(8)]
    photos(aws.s3, *names, "dogs/1.jpg")
    list_whole(lister, batch_of("cats/"))
    assert keys_of(store) == names
    assert positions(slices_in(slices)) == [(n // 3, n % 3) for n in range(8)]
    listed = store.listed(BATCH)
    assert (listed.images, listed.manifests, listed.bytes, listed.failure) == (8, 3, 40, "")


def test_odd_keys_stay_exactly_as_they_are(store, aws, slices, lister):
    photos(aws.s3, *ODD)
    list_whole(lister, batch_of())
    assert keys_of(store) == sorted(ODD)


def test_a_listing_goes_on_after_any_odd_key(store, aws, slices, lister, monkeypatch):
    photos(aws.s3, *ODD)
    images = [image for page in pages(aws.s3, batch_of()) for image in page]
    for full in range(1, len(ODD) + 1):
        for where in ("controller.batches.listing", "controller.batches.missing"):
            monkeypatch.setattr(f"{where}.MANIFEST_IMAGES", full)
        batch_id = f"{full:032x}"
        store.put_manifest(batch_id, 0, Manifest(images=tuple(images[:full])))
        list_whole(lister, batch_of(batch_id=batch_id))
        assert keys_of(store, batch_id) == sorted(ODD)


def test_a_listing_that_finds_no_images_for_long_says_that_it_goes_on(store, aws, slices, on_call):
    """Else another process would take it over, and send again what still waits in the queue."""
    seconds = [0]
    going = listing.Listing(store, slices, batch_of(), lambda: None, clock=lambda: seconds[0])
    puts = []
    on_call(aws.s3, "PutObject", lambda params: puts.append(params["Key"]))
    for seconds[0] in (10, 19, 21, 30, 40, 42):
        going.note_life()
    assert puts == 2 * [f"open-batches/{BATCH}"]


def test_images_that_are_found_slowly_do_not_wait_for_the_end_of_the_listing(
    store, aws, slices, small_manifests
):
    """Instances are launched for them. In a large bucket with few images, these would idle for hours."""
    photos(aws.s3, *[f"{n}.jpg" for n in range(4)])
    seconds, woken = [0], []
    going = listing.Listing(store, slices, batch_of(), lambda: woken.append(1), clock=lambda: seconds[0])
    for page in pages(aws.s3, batch_of()):
        for image in page:
            going.add(image)
    for seconds[0] in (10, 19):
        going.note_life()
        assert slices_in(slices) == []
    seconds[0] = 21
    going.note_life()
    assert positions(slices_in(slices)) == [(0, 0), (0, 1), (0, 2)]
    assert woken
    going.finish()
    assert positions(slices_in(slices)) == [(1, 0)]


def test_a_cancelled_listing_ends_although_it_finds_no_images(store, slices):
    """Else it would go through a bucket of any size, and open the batch again and again."""
    seconds = [0]
    going = listing.Listing(store, slices, batch_of(), lambda: None, clock=lambda: seconds[0])
    store.cancel(BATCH, "It was cancelled.")
    going.note_life()
    seconds[0] = 21
    with pytest.raises(listing.Stopped):
        going.note_life()
    assert store.open() == []


def test_what_is_no_image_is_counted(store, aws, slices, lister):
    photos(aws.s3, "a.JPG", "b.txt", "folder/")
    photos(aws.s3, "folder_$folder$", "empty.png", body=b"")
    list_whole(lister, batch_of())
    assert keys_of(store) == ["a.JPG", "empty.png"]
    assert store.listed(BATCH).other_objects == 3


def test_without_suffixes_all_objects_but_folders_are_images(store, aws, slices, lister):
    photos(aws.s3, "a", "b.txt", "folder/", "e")
    photos(aws.s3, "folder_$folder$", body=b"")
    list_whole(lister, batch_of(suffixes=()))
    assert keys_of(store) == ["a", "b.txt", "e"]


def test_no_more_images_are_listed_than_the_limit(store, aws, slices, lister):
    photos(aws.s3, "1.jpg", "2.jpg", "3.jpg")
    list_whole(lister, batch_of(limit=2))
    assert keys_of(store) == ["1.jpg", "2.jpg"]
    assert store.listed(BATCH).truncated


@pytest.mark.parametrize("limit", [None, 5])
def test_no_more_images_are_listed_than_manifests_can_have(store, aws, slices, lister, monkeypatch, limit):
    """Beyond that, the order of the keys is not that of the manifests, and rows would be lost."""
    monkeypatch.setattr("controller.batches.lister.MOST_IMAGES", 2)
    photos(aws.s3, "1.jpg", "2.jpg", "3.jpg")
    list_whole(lister, batch_of(limit=limit))
    assert keys_of(store) == ["1.jpg", "2.jpg"]
    assert store.listed(BATCH).truncated


def test_a_limit_that_is_just_reached_leaves_nothing_out(store, aws, slices, lister):
    photos(aws.s3, "1.jpg", "2.jpg")
    list_whole(lister, batch_of(limit=2))
    assert not store.listed(BATCH).truncated


def test_archived_objects_are_marked(store, aws, slices, lister):
    for name in ("STANDARD", "GLACIER", "DEEP_ARCHIVE", "GLACIER_IR"):
        aws.s3.put_object(Bucket=SOURCE, Key=f"{name}.jpg", Body=b"x", StorageClass=name)
    list_whole(lister, batch_of())
    archived = {image.key for image in store.manifest(BATCH, 0).images if image.archived}
    assert archived == {"GLACIER.jpg", "DEEP_ARCHIVE.jpg"}


def test_an_archived_object_of_which_there_is_a_restored_copy_is_none(
    store, aws, slices, lister, on_call, on_reply
):
    """S3 says so only if it is asked, and moto never says it."""
    restored = {"IsRestoreInProgress": False, "RestoreExpiryDate": now() + timedelta(days=1)}
    found = {"archived.jpg": None, "restored.jpg": restored, "restoring.jpg": {"IsRestoreInProgress": True}}
    for name in found:
        aws.s3.put_object(Bucket=SOURCE, Key=name, Body=b"x", StorageClass="GLACIER")
    asked = []

    def tell(parsed):
        for item in parsed.get("Contents", []):
            if "RestoreStatus" in asked[-1] and (status := found.get(item["Key"])):
                item["RestoreStatus"] = status

    on_call(aws.s3, "ListObjectsV2", lambda params: asked.append(params.get("OptionalObjectAttributes", [])))
    on_reply(aws.s3, "ListObjectsV2", tell)
    list_whole(lister, batch_of())
    archived = [image.key for image in store.manifest(BATCH, 0).images if image.archived]
    assert archived == ["archived.jpg", "restoring.jpg"]


def test_an_empty_prefix_is_listed_to_its_end(store, slices, lister):
    list_whole(lister, batch_of("nothing/"))
    assert store.listed(BATCH).images == 0
    assert slices_in(slices) == []


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        ("NoSuchBucket", f"There is no bucket {SOURCE}."),
        ("AccessDenied", "s3:ListBucket"),
    ],
)
def test_a_source_that_cannot_be_listed_is_explained(store, aws, slices, lister, on_call, code, sentence):
    def refuse(params):
        if params["Bucket"] == SOURCE:
            raise ClientError({"Error": {"Code": code}}, "ListObjectsV2")

    on_call(aws.s3, "ListObjectsV2", refuse)
    list_whole(lister, batch_of())
    assert sentence in store.listed(BATCH).failure


def test_a_failure_that_may_pass_ends_nothing(store, aws, slices, lister, on_call):
    def refuse(params):
        if params["Bucket"] == SOURCE:
            raise ClientError({"Error": {"Code": "SlowDown"}}, "ListObjectsV2")

    on_call(aws.s3, "ListObjectsV2", refuse)
    with pytest.raises(CloudError):
        list_whole(lister, batch_of())
    assert store.listed(BATCH) is None


def test_a_state_bucket_that_refuses_is_not_taken_for_the_source(store, aws, slices, lister, on_call):
    photos(aws.s3, "1.jpg")

    def refuse(params):
        raise ClientError({"Error": {"Code": "AccessDenied"}}, "PutObject")

    on_call(aws.s3, "PutObject", refuse)
    with pytest.raises(CloudError):
        list_whole(lister, batch_of())
    assert store.listed(BATCH) is None


def test_requesters_pay_where_they_say_so(store, aws, slices, lister, on_call):
    payers = []
    on_call(aws.s3, "ListObjectsV2", lambda params: payers.append(params.get("RequestPayer")))
    list_whole(lister, batch_of(requester_pays=True))
    assert "requester" in payers


class Killed(BaseException):
    """The process is gone."""


def test_a_lister_that_dies_at_any_call_loses_and_repeats_no_image(
    store, aws, slices, lister, small_manifests, on_call
):
    """Whatever the call at which it dies, the next lister goes on, and every image is sent."""
    names = [f"{n:02}.jpg" for n in range(11)]
    photos(aws.s3, *names)
    left = [0]

    def die(params):
        left[0] -= 1
        if left[0] == 0:
            raise Killed

    for client, operation in (
        (aws.s3, "PutObject"),
        (aws.s3, "GetObject"),
        (aws.s3, "ListObjectsV2"),
        (aws.sqs, "SendMessageBatch"),
    ):
        on_call(client, operation, die)
    for calls in count(1):
        batch = batch_of(batch_id=f"{calls:032x}")
        left[0] = calls
        try:
            list_whole(lister, batch)
        except Killed:
            list_whole(lister, batch)
        else:
            break
        left[0] = 0
        assert keys_of(store, batch.batch_id) == names
        assert set(positions(slices_in(slices))) == {(n // 3, n % 3) for n in range(11)}
        assert store.listed(batch.batch_id).images == 11
    assert calls > 10, "it has died at each of its calls"


def test_a_lister_that_takes_over_sends_only_what_has_no_result(store, aws, slices, lister, small_manifests):
    photos(aws.s3, *[f"{n}.jpg" for n in range(6)])
    list_whole(lister, batch_of())
    for part in slices_in(slices):
        if part.manifest == 0:
            work_on(store, part.with_only([1, 2]))
    store.state.delete(f"batches/{BATCH}/listed.json")
    list_whole(lister, batch_of())
    assert positions(slices_in(slices)) == [(0, 0), (1, 0), (1, 1), (1, 2)]


def test_objects_that_come_after_the_end_was_reached_are_not_listed(
    store, aws, slices, lister, small_manifests
):
    """A manifest that is not full is the last one, so that the number of images follows from the totals."""
    photos(aws.s3, "1.jpg", "2.jpg")
    list_whole(lister, batch_of())
    store.state.delete(f"batches/{BATCH}/listed.json")
    photos(aws.s3, "3.jpg")
    list_whole(lister, batch_of())
    assert keys_of(store) == ["1.jpg", "2.jpg"]
    assert store.listed(BATCH).images == 2


def test_a_batch_that_was_cut_at_its_limit_says_so_though_its_lister_died(store, aws, slices, lister):
    photos(aws.s3, "1.jpg", "2.jpg", "3.jpg")
    list_whole(lister, batch_of(limit=2))
    store.state.delete(f"batches/{BATCH}/listed.json")
    list_whole(lister, batch_of(limit=2))
    assert (store.listed(BATCH).images, store.listed(BATCH).truncated) == (2, True)


def test_of_two_listers_one_stops_and_all_is_listed(store, aws, slices, lister, small_manifests, on_call):
    """The second one lists all while the first one is between two pages."""
    names = [f"{n:02}.jpg" for n in range(11)]
    photos(aws.s3, *names)
    puts = []

    def overtake(params):
        puts.append(params["Key"])
        if len(puts) == 2:
            list_whole(lister, batch_of())

    on_call(aws.s3, "PutObject", overtake)
    list_whole(lister, batch_of())
    assert keys_of(store) == names
    assert set(positions(slices_in(slices))) == {(n // 3, n % 3) for n in range(11)}
    assert len([key for key in puts if key.endswith("listed.json")]) == 1


def test_a_cancelled_batch_is_listed_no_further(store, aws, slices, lister, small_manifests):
    photos(aws.s3, *[f"{n}.jpg" for n in range(6)])
    store.cancel(BATCH, "It was cancelled.")
    list_whole(lister, batch_of())
    assert keys_of(store) == []
    assert store.listed(BATCH) is None
