"""Whether what is in the buckets of the local AWS is still there, as it was, in the next run."""

from pathlib import Path
from typing import Any

import pytest

from local.endpoint import Endpoint
from local.kept_buckets import CannotRead, load, save
from tests.support.local_aws import client_of

KEYS = (
    "a/1",
    "a/2",
    "ä b+&<'\"/ü%2F",
    "trailing/",
    "/leading",
    "//",
    "../up",
    "x" * 1000,
    "ü/",
    "y" * 200 + "/",
    "é\nb",
    "n\0l",
)


@pytest.fixture
def s3(endpoint: Endpoint) -> Any:
    endpoint.reset()
    client = client_of(endpoint, "s3")
    for bucket in ("one", "two"):
        client.create_bucket(Bucket=bucket)
    return client


def contents(s3: Any, bucket: str) -> dict[str, tuple]:
    keys = [found["Key"] for found in s3.list_objects_v2(Bucket=bucket).get("Contents", [])]
    replies = {key: s3.get_object(Bucket=bucket, Key=key) for key in keys}
    names = ("ContentType", "Metadata", "ETag", "LastModified")
    return {key: (r["Body"].read(), *(r[name] for name in names)) for key, r in replies.items()}


def in_the_next_run(endpoint: Endpoint, s3: Any, folder: Path, most_bytes: int = 10**9) -> int:
    left_out = save(folder, ["one", "two"], most_bytes)
    endpoint.reset()
    for bucket in ("one", "two"):
        s3.create_bucket(Bucket=bucket)
    load(folder, ["one", "two"])
    return left_out


def test_objects_keep_their_bytes_headers_and_times(endpoint, s3, tmp_path):
    for number, key in enumerate(KEYS):
        metadata = {"sha": "ab" * 32, "name": "cat%20é.jpg".encode("ascii", "ignore").decode()}
        body = bytes([number]) * number * 1000
        s3.put_object(Bucket="one", Key=key, Body=body, ContentType="image/jpeg", Metadata=metadata)
    s3.put_object(Bucket="two", Key="empty", Body=b"")
    before = contents(s3, "one"), contents(s3, "two")
    assert len(before[0]) == len(KEYS)
    assert in_the_next_run(endpoint, s3, tmp_path / "kept") == 0
    assert (contents(s3, "one"), contents(s3, "two")) == before


def test_a_bucket_that_was_never_saved_stays_empty(s3, tmp_path):
    load(tmp_path / "nowhere", ["one", "two"])
    assert not contents(s3, "one")


def test_the_newest_objects_are_kept_when_there_is_not_room_for_all(endpoint, s3, tmp_path):
    for number in range(5):
        s3.put_object(Bucket="one", Key=f"{number}", Body=bytes(100))
    assert in_the_next_run(endpoint, s3, tmp_path, most_bytes=250) == 3
    assert list(contents(s3, "one")) == ["3", "4"]


def test_nobody_else_can_read_what_is_kept(endpoint, s3, tmp_path):
    save(tmp_path / "kept", ["one"], 1000)
    assert (tmp_path / "kept").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    "damage", [lambda data: data[: len(data) // 2], lambda data: bytes(range(1, 251)) * 40]
)
def test_a_damaged_file_is_named(endpoint, s3, tmp_path, damage):
    s3.put_object(Bucket="one", Key="photo", Body=bytes(100_000))
    save(tmp_path, ["one"], 10**9)
    file = tmp_path / "one.tar"
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(CannotRead, match=r"one\.tar is damaged"):
        load(tmp_path, ["one"])
