"""The sources of batches in `make run`: their buckets, and what batches and the AWS CLI ask of them."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import boto3.s3.transfer
import pytest
from botocore.exceptions import ClientError

from local.__main__ import HERE, announce
from local.endpoint import Endpoint
from local.sources import SOURCES, put_examples, source_buckets
from tests.support.local_aws import client_of

PART = 5 * 2**20  # the smallest part of S3


@pytest.fixture
def s3(endpoint: Endpoint) -> Any:
    endpoint.reset()
    client = client_of(endpoint, "s3")
    client.create_bucket(Bucket="photos")
    return client


def synced(endpoint: Endpoint, folder: Path) -> str:
    """What `aws s3 sync` says that it has uploaded."""
    access = {"AWS_ENDPOINT_URL": endpoint.url, "AWS_DEFAULT_REGION": endpoint.region}
    kept = {k: v for k, v in os.environ.items() if not k.startswith("AWS_")}
    done = subprocess.run(
        [Path(sys.executable).with_name("aws"), "s3", "sync", str(folder), "s3://photos/", "--no-progress"],
        env=kept | access | endpoint.key.environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_folder_is_synced_and_then_only_what_has_changed(endpoint, s3, tmp_path):
    names = ["cat.jpg", "of 2024/ä b+&.jpg", "empty.png", "large.png"]
    for name in names:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"" if name == "empty.png" else name.encode() * 10)
    (tmp_path / "large.png").write_bytes(os.urandom(2 * PART))  # the CLI uploads it in parts
    for name in names:
        os.utime(tmp_path / name, (1, 1))  # S3's times are of whole seconds, so a new file may seem newer
    assert synced(endpoint, tmp_path).count("upload:") == len(names)
    found = s3.list_objects_v2(Bucket="photos")["Contents"]
    assert {item["Key"]: item["Size"] for item in found} == {
        name: (tmp_path / name).stat().st_size for name in names
    }
    (tmp_path / "cat.jpg").write_bytes(b"another cat")
    assert synced(endpoint, tmp_path).count("upload:") == 1


def test_a_listing_has_pages_that_go_on_after_a_key_and_tell_storage_classes(s3):
    for n in range(7):
        s3.put_object(Bucket="photos", Key=f"pets/{n}.jpg", Body=b"x" * n)
    s3.put_object(Bucket="photos", Key="pets/old.jpg", Body=b"x", StorageClass="GLACIER")
    s3.put_object(Bucket="photos", Key="people/face.jpg", Body=b"x")
    pages = s3.get_paginator("list_objects_v2").paginate(
        Bucket="photos", Prefix="pets", StartAfter="pets/1.jpg", PaginationConfig={"PageSize": 3}
    )
    found = [[item["Key"] for item in page["Contents"]] for page in pages]
    assert found == [[f"pets/{n}.jpg" for n in (2, 3, 4)], ["pets/5.jpg", "pets/6.jpg", "pets/old.jpg"]]
    items = s3.list_objects_v2(Bucket="photos", Prefix="pets/")["Contents"]
    assert [item["StorageClass"] for item in items] == ["STANDARD"] * 7 + ["GLACIER"]
    assert all(item["ETag"] == s3.head_object(Bucket="photos", Key=item["Key"])["ETag"] for item in items)


def test_an_object_that_has_changed_since_it_was_listed_is_not_read(s3):
    s3.put_object(Bucket="photos", Key="cat.jpg", Body=b"a cat")
    [listed] = s3.list_objects_v2(Bucket="photos")["Contents"]
    reply = s3.get_object(Bucket="photos", Key="cat.jpg", IfMatch=listed["ETag"])
    assert reply["Body"].read() == b"a cat"
    s3.put_object(Bucket="photos", Key="cat.jpg", Body=b"a dog")
    with pytest.raises(ClientError) as error:
        s3.get_object(Bucket="photos", Key="cat.jpg", IfMatch=listed["ETag"])
    assert error.value.response["Error"]["Code"] in ("PreconditionFailed", "412")


def test_an_object_of_several_parts_is_read_by_the_etag_of_its_listing(s3, tmp_path):
    body = os.urandom(2 * PART)
    (tmp_path / "large.tif").write_bytes(body)
    parts = boto3.s3.transfer.TransferConfig(multipart_threshold=PART, multipart_chunksize=PART)
    s3.upload_file(str(tmp_path / "large.tif"), "photos", "large.tif", Config=parts)
    [listed] = s3.list_objects_v2(Bucket="photos")["Contents"]
    assert listed["ETag"].endswith('-2"')
    reply = s3.get_object(Bucket="photos", Key="large.tif", IfMatch=listed["ETag"])
    assert reply["Body"].read() == body


def test_an_object_in_an_archive_is_not_read(s3):
    s3.put_object(Bucket="photos", Key="old.jpg", Body=b"x", StorageClass="GLACIER")
    with pytest.raises(ClientError) as error:
        s3.get_object(Bucket="photos", Key="old.jpg")
    assert error.value.response["Error"]["Code"] == "InvalidObjectState"


def test_whoever_pays_gets_the_object(s3):
    s3.put_object(Bucket="photos", Key="cat.jpg", Body=b"x")
    assert s3.list_objects_v2(Bucket="photos", RequestPayer="requester")["KeyCount"] == 1
    reply = s3.get_object(Bucket="photos", Key="cat.jpg", RequestPayer="requester")
    assert reply["Body"].read() == b"x"


def test_each_bucket_of_the_sources_is_made_once(settings):
    sources = ("s3://photos/pets", "s3://scans", "s3://photos/zoo")
    assert source_buckets(settings.model_copy(update={"batch_sources": sources})) == ["photos", "scans"]
    assert source_buckets(settings) == []


def test_there_are_photos_to_try_a_batch_with_where_batches_may_read_them(s3, settings):
    put_examples(s3, ["scans"])
    s3.create_bucket(Bucket="examples")
    sources = settings.model_copy(update={"batch_sources": tuple(SOURCES.split(","))})
    put_examples(s3, source_buckets(sources))
    found = [item["Key"] for item in s3.list_objects_v2(Bucket="examples")["Contents"]]
    assert found == ["cat.jpg", "coffee.jpg", "rocket.jpg"]


def test_what_is_printed_has_the_lines_that_ask_for_a_batch_and_sync_a_folder(capsys):
    system = "http://127.0.0.1:8000/", False, "http://127.0.0.1:4566", Path("logs"), HERE / "aws.env"
    announce(*system, SOURCES.split(","))
    said = capsys.readouterr().out
    assert "curl -d source=s3://examples http://127.0.0.1:8000/batches\n" in said
    assert "(. aws.env; aws s3 sync FOLDER s3://photos)\n" in said
    announce(*system, [])
    assert "batch" not in capsys.readouterr().out
