"""Lists and reads the objects of a user's bucket. The functions raise CloudError when S3 fails."""

from collections.abc import Iterator
from typing import Any

from cloud.batches.batch import Batch, ListedImage
from cloud.clients import S3Client
from cloud.errors import calling

ARCHIVED = {"GLACIER", "DEEP_ARCHIVE"}


def pages(s3: S3Client, batch: Batch, after: str = "") -> Iterator[list[ListedImage]]:
    """Yields all objects of a batch's source whose keys sort after `after`, up to 1,000 at a time."""
    with calling(f"list {batch.source}"):
        for page in s3.get_paginator("list_objects_v2").paginate(
            Bucket=batch.bucket, Prefix=batch.prefix, StartAfter=after, **payer(batch)
        ):
            yield [
                ListedImage(
                    key=item["Key"],
                    etag=item["ETag"],
                    size=item["Size"],
                    archived=item.get("StorageClass") in ARCHIVED,
                )
                for item in page.get("Contents", [])
            ]


def open_object(s3: S3Client, batch: Batch, key: str) -> tuple[Iterator[bytes], int]:
    """Returns an object of a batch's bucket in chunks of at most 64 KiB, and its size in bytes.

    Raises NotFound when there is no such object. Reading the chunks raises BotoCoreError when S3 fails.
    """
    with calling(f"read s3://{batch.bucket}/{key}"):
        reply = s3.get_object(Bucket=batch.bucket, Key=key, **payer(batch))
    return reply["Body"].iter_chunks(65536), reply["ContentLength"]


def payer(batch: Batch) -> dict[str, Any]:
    """Returns the argument of a call of S3 that says that the caller pays for it, if that is so."""
    return {"RequestPayer": "requester"} if batch.requester_pays else {}
