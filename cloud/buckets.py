"""Reads and writes the objects in the three S3 buckets. The methods raise CloudError when S3 fails."""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import IO, Any, Generic, TypeVar

from pydantic import TypeAdapter, ValidationError

from cloud.clients import S3Client
from cloud.errors import Broken, CloudError, Conflict, NotFound, Withheld, calling
from cloud.failure_code import FailureCode
from cloud.image_id import ImageId
from cloud.prediction import Prediction, Preview
from cloud.s3_url import bucket_and_key_of

log = logging.getLogger(__name__)

T = TypeVar("T")

LARGEST_PREDICTION = 200_000
"""The most bytes of a prediction that are read. It has some 500, or 80 KB more with the largest preview."""

MOST_TEXT = 10_000
"""The most characters of a prediction without its preview. A process keeps those of 1,000 images at once."""


class TooLarge(Exception):
    """An object is larger than whoever wrote it makes them."""


def at_most(size: int | None) -> Callable[[int], None]:
    """Returns what raises TooLarge for an object of more than `size` bytes, and allows any without a size."""

    def admit(found: int) -> None:
        if size is not None and found > size:
            raise TooLarge(f"it has {found:,} bytes")

    return admit


class Bucket:
    def __init__(self, s3: S3Client, name: str) -> None:
        self.s3, self.name = s3, name

    def check(self) -> None:
        """Raises CloudError when the bucket cannot be reached."""
        with calling(f"reach the bucket {self.name}"):
            self.s3.head_bucket(Bucket=self.name)

    def read(
        self, key: str, admit: Callable[[int], None] = lambda size: None, **more: Any
    ) -> tuple[bytes, str]:
        """Returns the content of an object and its ETag. Raises NotFound when there is no such object.

        `admit` is called with the number of bytes before they are read, and may wait until there is room.
        `more` are further arguments of boto3's get_object. Raises Conflict when a condition among them
        (IfMatch) does not hold.
        """
        with calling(f"read s3://{self.name}/{key}"):
            reply = self.s3.get_object(Bucket=self.name, Key=key, **more)
            admit(reply["ContentLength"])
            return reply["Body"].read(), reply["ETag"]

    def read_aged(self, key: str) -> tuple[bytes, str, timedelta]:
        """Does what `read` does, and also returns the time since the object was written.

        The time has a resolution of one second, and is measured by the clock of S3 alone.
        """
        with calling(f"read s3://{self.name}/{key}"):
            reply = self.s3.get_object(Bucket=self.name, Key=key)
            date = parsedate_to_datetime(reply["ResponseMetadata"]["HTTPHeaders"]["date"])
            return reply["Body"].read(), reply["ETag"], date - reply["LastModified"]

    def etag(self, key: str) -> str:
        """Returns the ETag of an object, which changes whenever its content does.

        Raises NotFound when there is no such object.
        """
        with calling(f"look at s3://{self.name}/{key}"):
            return self.s3.head_object(Bucket=self.name, Key=key)["ETag"]

    def write(self, key: str, body: bytes | IO[bytes], **more: Any) -> str:
        """Writes an object and returns its ETag. `more` are further arguments of boto3's put_object.

        Raises Conflict when a condition among them (IfMatch, IfNoneMatch) does not hold. If a reply is lost,
        boto3 repeats the write, and S3 refuses the repetition. The write has succeeded nevertheless if
        `body` is what is stored, so a conditional write should have a body that no other process writes.
        That cannot be seen without the permission to read the object; the write then counts as refused.
        """
        try:
            with calling(f"write s3://{self.name}/{key}"):
                return self.s3.put_object(Bucket=self.name, Key=key, Body=body, **more)["ETag"]
        except Conflict as conflict:
            if conflict.repeated and (etag := self._etag_of(key, body)):
                return etag
            raise

    def _etag_of(self, key: str, body: bytes | IO[bytes]) -> str | None:
        """Returns the ETag of the object if `body` is its content and it can be read."""
        try:
            stored, etag = self.read(key, at_most(len(body) if isinstance(body, bytes) else None))
        except (CloudError, TooLarge) as error:
            log.warning("%s", error)
            return None
        return etag if stored == body else None

    def delete(self, key: str) -> None:
        """Deletes an object, if there is one."""
        with calling(f"delete s3://{self.name}/{key}"):
            self.s3.delete_object(Bucket=self.name, Key=key)

    def keys(self, prefix: str, after: str = "") -> Iterator[str]:
        """Yields in sorted order the keys that begin with `prefix` and sort after `after`.

        Calls ListObjectsV2 once for each 1,000 keys.
        """
        return (key for key, _ in self.listing(prefix, after))

    def listing(self, prefix: str, after: str = "") -> Iterator[tuple[str, datetime]]:
        """Yields the same keys as `keys`, each with the time at which its object was written."""
        with calling(f"list s3://{self.name}/{prefix}"):
            for page in self.s3.get_paginator("list_objects_v2").paginate(
                Bucket=self.name, Prefix=prefix, StartAfter=after
            ):
                for item in page.get("Contents", []):
                    yield item["Key"], item["LastModified"]

    def names(self, folder: str) -> Iterator[str]:
        """Yields what lies directly in a folder, whose name ends with "/", and so do those of its folders."""
        with calling(f"list s3://{self.name}/{folder}"):
            for page in self.s3.get_paginator("list_objects_v2").paginate(
                Bucket=self.name, Prefix=folder, Delimiter="/"
            ):
                yield from (item["Key"].removeprefix(folder) for item in page.get("Contents", []))
                yield from (item["Prefix"].removeprefix(folder) for item in page.get("CommonPrefixes", []))


def bucket_and_key(s3: S3Client, url: str) -> tuple[Bucket, str]:
    """Returns the bucket and the key that `s3://bucket/key` names."""
    name, key = bucket_and_key_of(url)
    return Bucket(s3, name), key


def read_url(s3: S3Client, url: str) -> bytes:
    """Returns the content of the object at `s3://bucket/key`. Raises NotFound when there is none."""
    bucket, key = bucket_and_key(s3, url)
    return bucket.read(key)[0]


@dataclass(frozen=True)
class Stored(Generic[T]):
    """The value of an object, with its ETag and its age."""

    value: T
    etag: str
    age: timedelta
    """The time since the object was written, to the second, measured by the clock of S3 alone."""


class JsonObjects(Generic[T]):
    """Reads and writes values of one type as JSON objects in a bucket.

    `kind` is that type, which pydantic must know how to validate. Reading an object that is not valid raises
    Broken. If there is a function `in_place_of_broken`, the error is logged instead, and the function is
    called with the object's key and returns the value to use. If there is a `largest` size in bytes, `get`
    takes larger objects for broken, and does not read them. To `get`, an object that S3 withholds is broken,
    too, because a worker that was taken over may store what nobody can read.
    """

    def __init__(
        self,
        bucket: Bucket,
        kind: type[T],
        in_place_of_broken: Callable[[str], T] | None = None,
        largest: int | None = None,
    ) -> None:
        self.bucket, self.in_place_of_broken, self.largest = bucket, in_place_of_broken, largest
        self._kind = TypeAdapter(kind)

    def get(self, key: str) -> T | None:
        """Returns None when there is no such object."""
        try:
            body, _ = self.bucket.read(key, at_most(self.largest))
        except NotFound:
            return None
        except (TooLarge, Withheld) as error:
            return self._broken(key, error)
        return self._parse(key, body)

    def read(self, key: str) -> Stored[T] | None:
        """Does what `get` does, and also returns the object's ETag and age."""
        try:
            body, etag, age = self.bucket.read_aged(key)
        except NotFound:
            return None
        return Stored(self._parse(key, body), etag, age)

    def write(self, key: str, value: T, **condition: str) -> str:
        """Returns the new ETag. Raises Conflict when a condition (IfMatch, IfNoneMatch) does not hold."""
        body = self._kind.dump_json(value, exclude_none=True)
        return self.bucket.write(key, body, ContentType="application/json", **condition)

    def _parse(self, key: str, body: bytes) -> T:
        try:
            return self._kind.validate_json(body)
        except (ValidationError, RecursionError) as error:
            return self._broken(key, error)

    def _broken(self, key: str, error: Exception) -> T:
        message = f"s3://{self.bucket.name}/{key} is broken: {error}"
        if self.in_place_of_broken is None:
            raise Broken(message) from error
        log.error("%s", message)
        return self.in_place_of_broken(key)


class InputBucket(Bucket):
    """The bucket of the uploaded images. The keys are image-ids."""

    def put_image(self, image_id: ImageId, body: IO[bytes], content_type: str) -> None:
        self.write(image_id, body, ContentType=content_type)

    def put_placeholder(self, image_id: ImageId) -> None:
        """Writes an empty object in place of a refused file: both buckets then have the same keys."""
        self.write(image_id, b"")

    def open_image(self, image_id: ImageId) -> tuple[Iterator[bytes], str]:
        """Returns the file in chunks of at most 64 KiB, and its content type, as they were uploaded.

        Raises NotFound when there is no such image, or only a placeholder. Reading the chunks raises
        BotoCoreError when S3 fails.
        """
        with calling(f"read s3://{self.name}/{image_id}"):
            reply = self.s3.get_object(Bucket=self.name, Key=image_id)
        if not reply["ContentLength"]:
            raise NotFound(f"s3://{self.name}/{image_id} is only a placeholder")
        return reply["Body"].iter_chunks(65536), reply["ContentType"]

    def image_ids(self, request_id: str) -> list[ImageId]:
        """Returns the image-ids of the request's stored images, in the order of their keys."""
        return list(self.stored(request_id))

    def stored(self, prefix: str, after: str = "") -> dict[ImageId, datetime]:
        """Returns when each stored image was stored, by image-id, in the order of the keys.

        Only image-ids are returned that begin with `prefix` and sort after `after`.
        """
        return dict(images(self, prefix, after))


class OutputBucket(Bucket):
    """The bucket of the predictions, which are stored as JSON. The keys are image-ids."""

    def __init__(self, s3: S3Client, name: str) -> None:
        super().__init__(s3, name)
        self._predictions = JsonObjects(
            self, Prediction, in_place_of_broken=unreadable_prediction, largest=LARGEST_PREDICTION
        )
        self._previews = JsonObjects(
            self, Preview, in_place_of_broken=lambda key: Preview(), largest=LARGEST_PREDICTION
        )

    def put_prediction(self, prediction: Prediction) -> bool:
        """Writes the prediction, unless the image has one already. Returns whether it was written.

        The preview of a PreviewedPrediction is written with it.
        """
        body = prediction.model_dump_json(exclude_none=True).encode()
        try:
            self.write(prediction.image_id, body, ContentType="application/json", IfNoneMatch="*")
        except Conflict:
            return False
        return True

    def put_or_get_prediction(self, prediction: Prediction) -> Prediction:
        """Writes the prediction, unless the image has one already. Returns the one that it has then."""
        if self.put_prediction(prediction):
            return prediction
        return self.get_prediction(prediction.image_id) or prediction

    def get_prediction(self, image_id: ImageId) -> Prediction | None:
        """Returns None while the image has no prediction.

        In place of an object that is no valid prediction of this image, returns a failed one, so that no
        client waits forever.
        """
        found = self._predictions.get(image_id)
        if found and (found.image_id != image_id or len(found.model_dump_json()) > MOST_TEXT):
            return unreadable_prediction(image_id)
        return found

    def get_preview(self, image_id: ImageId) -> bytes | None:
        """Returns the preview of an image as a JPEG file, or None when it has none, or has it no more.

        A cached prediction has the preview of the earlier image, for as long as that one is stored.
        """
        found = self._previews.get(image_id)
        if found and found.preview_of and found.preview_of != image_id:
            found = self._previews.get(found.preview_of)
        return found.preview if found else None

    def answered(self, prefix: str, after: str = "") -> list[ImageId]:
        """Returns the image-ids that have a prediction, in the order of their keys.

        `prefix` is a request-id, or the beginning of several. Only image-ids that sort after `after` are
        returned. Calls ListObjectsV2 once for each 1,000 of them.
        """
        return [image_id for image_id, _ in images(self, prefix, after)]


def images(bucket: Bucket, prefix: str, after: str) -> Iterator[tuple[ImageId, datetime]]:
    """Yields the keys of the bucket that are image-ids, each with the time at which its object was written.

    Any other key is skipped with a warning.
    """
    for key, at in bucket.listing(prefix, after):
        try:
            yield ImageId(key), at
        except ValueError as error:
            log.warning("a stray object in the bucket %s is ignored: %s", bucket.name, error)


def unreadable_prediction(key: str) -> Prediction:
    reason = "The answer to this image cannot be read."
    return Prediction.failed(ImageId(key), FailureCode.BROKEN_ANSWER, reason, answered_at=None)
