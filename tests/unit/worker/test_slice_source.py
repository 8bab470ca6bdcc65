"""What becomes of objects in a bucket of the user that cannot be read, or not as they were listed."""

import pytest
from botocore.exceptions import ClientError

from tests.support.batches import BUCKET
from tests.support.small_worker import grey
from worker.slice_source import MOST_BYTES


@pytest.fixture
def reads(aws, on_call):
    """The arguments of each read of the bucket, by key."""
    found: dict[str, dict[str, str]] = {}

    def note(params):
        if params["Bucket"] == BUCKET:
            found[params["Key"]] = dict(params)

    on_call(aws.s3, "GetObject", note)
    return found


def test_each_object_that_cannot_be_classified_says_why(make_batch_loop, finish, lab, aws, reads):
    good = lab.put("ordinary name.png", grey(250))
    odd = lab.put("odd/../+ %2F\n犬?&#.png", grey(3))
    gone, changed = lab.put("gone.png", grey(1)), lab.put("changed.png", grey(1))
    archived = lab.put("archived.png", grey(1)).model_copy(update={"archived": True})
    empty, large = lab.put("empty.png", b""), lab.put("large.png", b"1")
    large = large.model_copy(update={"size": MOST_BYTES + 1})
    aws.s3.delete_object(Bucket=BUCKET, Key="gone.png")
    lab.put("changed.png", grey(2))
    batch = lab.ask_listed([good, odd, gone, changed, archived, empty, large])
    finish(make_batch_loop())
    rows = lab.rows(batch)
    assert [row.label for row in rows[:2]] == ["white", "black"]
    assert [row.error.code for row in rows[2:]] == [
        "image_missing",
        "changed",
        "archived",
        "empty_file",
        "too_large",
    ]
    assert set(reads) == {good.key, odd.key, gone.key, changed.key}


REFUSALS = {
    "closed.png": ("AccessDenied", "Access Denied", ["s3:GetObject", "kms:Decrypt", "requester_pays"]),
    "encrypted.png": ("AccessDenied", "not authorized to perform: kms:Decrypt", ["needs kms:Decrypt"]),
    "disabled.png": ("KMS.DisabledException", "the key is disabled", ["must be enabled"]),
    "glacier.png": ("InvalidObjectState", "the storage class is GLACIER", ["Restore it"]),
}
"""The code and the message of S3, and what the row says, by key."""


def test_a_refusal_names_what_is_missing_and_is_tried_once(make_batch_loop, finish, lab, aws, on_call):
    batch, calls = lab.ask_listed([lab.put(key, grey(250)) for key in REFUSALS]), []

    def refuse(params):
        if params["Key"] in REFUSALS:
            calls.append(params["Key"])
            code, message, _ = REFUSALS[params["Key"]]
            raise ClientError({"Error": {"Code": code, "Message": message}}, "GetObject")

    on_call(aws.s3, "GetObject", refuse)
    finish(make_batch_loop())
    rows = lab.rows(batch)
    assert [row.error.code for row in rows] == ["access_denied"] * 3 + ["archived"]
    assert all(row.error.retryable for row in rows)
    for row in rows:
        _, _, said = REFUSALS[row.key]
        assert all(part in row.error.message for part in said), row
    assert sorted(calls) == sorted(REFUSALS)


def test_a_later_round_reads_the_objects_as_they_are_now(make_batch_loop, finish, lab, reads):
    grown = lab.put("grown.png", grey(3)).model_copy(update={"size": 5})
    changed = lab.put("changed.png", grey(3))
    lab.put("changed.png", grey(250))
    restored = lab.put("restored.png", grey(250)).model_copy(update={"archived": True})
    batch = lab.ask_listed([changed, grown, restored], round=2)
    finish(make_batch_loop())
    assert [row.label for row in lab.rows(batch)] == ["white", "black", "white"]
    assert all("IfMatch" not in arguments for arguments in reads.values())
    assert [result.round for result in lab.store.results(batch.batch_id)] == [2]


def test_the_first_round_reads_only_what_was_listed_and_pays_if_it_must(make_batch_loop, finish, lab, reads):
    image = lab.put("cat.png", grey(250))
    batch = lab.ask_listed([image], requester_pays=True)
    finish(make_batch_loop())
    assert lab.rows(batch)[0].label == "white"
    assert reads["cat.png"]["IfMatch"] == image.etag
    assert reads["cat.png"]["RequestPayer"] == "requester"


def test_a_file_that_has_become_too_large_is_not_read(make_batch_loop, finish, lab, aws, on_reply):
    image = lab.put("cat.png", grey(250))

    def grow(reply):
        if reply.get("ETag") == image.etag:
            reply["ContentLength"] = MOST_BYTES + 1

    batch = lab.ask_listed([image], round=2)
    on_reply(aws.s3, "GetObject", grow)
    finish(make_batch_loop())
    (row,) = lab.rows(batch)
    assert row.error.code == "too_large"
