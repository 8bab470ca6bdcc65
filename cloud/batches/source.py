"""Lists and reads the objects of a user's bucket. The functions raise CloudError when S3 fails."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from io import BytesIO
from itertools import chain
from typing import Any

from cloud.batches.batch import Batch, ListedImage
from cloud.clients import S3Client
from cloud.errors import NotFound, calling
from cloud.image_file import BadImage, check_header

ARCHIVED = {"GLACIER", "DEEP_ARCHIVE"}


def pages(s3: S3Client, batch: Batch, after: str = "") -> Iterator[list[ListedImage]]:
    """Yields all objects of a batch's source whose keys sort after `after`, up to 1,000 at a time."""
    with calling(f"list {batch.source}"):
        for page in s3.get_paginator("list_objects_v2").paginate(
            Bucket=batch.bucket,
            Prefix=batch.prefix,
            StartAfter=after,
            OptionalObjectAttributes=["RestoreStatus"],
            **payer(batch),
        ):
            yield [
                ListedImage(
                    key=item["Key"],
                    etag=item["ETag"],
                    size=item["Size"],
                    archived=is_archived(item),
                )
                for item in page.get("Contents", [])
            ]


def is_archived(item: Mapping[str, Any]) -> bool:
    """Returns whether an object must be restored before it can be read. `item` is how S3 lists it."""
    restored = "RestoreExpiryDate" in item.get("RestoreStatus", {})
    return item.get("StorageClass") in ARCHIVED and not restored


@dataclass(frozen=True)
class Picture:
    """An object of a batch's bucket that begins as a picture does."""

    chunks: Iterator[bytes]
    """At most 64 KiB each. Reading them raises BotoCoreError when S3 fails."""
    size: int
    """Bytes."""
    content_type: str


def open_picture(s3: S3Client, batch: Batch, key: str) -> Picture:
    """Raises NotFound when there is no such object, or when it is no picture."""
    with calling(f"read s3://{batch.bucket}/{key}"):
        reply = s3.get_object(Bucket=batch.bucket, Key=key, **payer(batch))
        chunks = reply["Body"].iter_chunks(65536)
        first = next(chunks, b"")
    try:
        content_type = check_header(BytesIO(first))
    except BadImage as error:
        reply["Body"].close()
        raise NotFound(f"s3://{batch.bucket}/{key} is not shown: {error}") from error
    return Picture(chain([first], chunks), reply["ContentLength"], content_type)


def payer(batch: Batch) -> dict[str, Any]:
    """Returns the argument of a call of S3 that says that the caller pays for it, if that is so."""
    return {"RequestPayer": "requester"} if batch.requester_pays else {}
