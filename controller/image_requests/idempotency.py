"""`Idempotency-Key`: however often a POST comes with the same key, wherever and when, it is one request.

An object for each key, `idempotency/<hash>` in the state bucket, is changed by conditional writes alone.
Whoever writes it first submits the request: it uploads the images, notes that they are accepted, and only
then sends their messages. Who comes later gets that request's answer. If the first one dies while it
uploads, a later POST takes over under the same request-id, so that the same objects are written again; if
it dies after that, recovery sends the messages.
https://datatracker.ietf.org/doc/html/draft-ietf-httpapi-idempotency-key-header-07
"""

import logging
import re
import secrets
from collections.abc import Sequence
from datetime import timedelta
from hashlib import sha256
from typing import Literal

from pydantic import BaseModel, ValidationError

from cloud.buckets import Bucket
from cloud.errors import CloudError, Conflict, NotFound
from controller.image_requests.errors import BadIdempotencyKey, IdempotencyKeyInUse, IdempotencyKeyReused
from controller.image_requests.upload import Upload

log = logging.getLogger(__name__)

PREFIX = "idempotency/"
KEY = re.compile(r"[!-~]{1,255}")
TAKEN_OVER_AFTER = timedelta(seconds=20)  # an upload that is older may be one whose process died
AGAIN_SECONDS = 2  # until a POST that came too early should come again


class Use(BaseModel):
    """What a key is used for."""

    request_id: str
    fingerprint: str
    """Of the files."""
    state: Literal["uploading", "accepted", "failed"]
    by: str
    """The POST that wrote this."""


class ClaimLost(Exception):
    """Another POST with the same key has brought the request further."""


class Claim:
    """The right to submit a request, as long as nobody has taken it over."""

    def __init__(self, bucket: Bucket, name: str, use: Use, etag: str) -> None:
        self.bucket, self.name, self.use, self.etag = bucket, name, use, etag
        self.request_id = use.request_id

    def accept(self) -> None:
        """All is uploaded. ClaimLost when another POST was first: then nothing may be sent."""
        while True:
            try:
                return self._write("accepted")
            except Conflict:
                found, etag, _ = read(self.bucket, self.name)
            if found.by == self.use.by and found.state == "accepted":  # boto3 had written it, and tried again
                return None
            if found.request_id != self.request_id or found.state == "accepted":
                raise ClaimLost
            self.etag = etag

    def release(self) -> bool:
        """The submission failed, so the key is free. False if another POST has taken over."""
        try:
            self._write("failed")
        except CloudError as error:
            log.warning("%s", error, extra={"request_id": self.request_id})
            return False
        return True

    def _write(self, state: Literal["accepted", "failed"]) -> None:
        self.use.state = state
        self.etag = self.bucket.write(self.name, self.use.model_dump_json().encode(), IfMatch=self.etag)


class IdempotencyKeys:
    def __init__(self, bucket: Bucket) -> None:
        self.bucket = bucket

    def claim(self, name: str, request_id: str, uploads: Sequence[Upload]) -> Claim | str:
        """The right to submit `uploads`, or the id of the request that they are already.

        IdempotencyKeyReused when the key belongs to other files, IdempotencyKeyInUse while it is not known
        what becomes of it.
        """
        new = Use(
            request_id=request_id,
            fingerprint=fingerprint(uploads),
            state="uploading",
            by=secrets.token_hex(8),
        )
        try:
            return self._claim(name, new, IfNoneMatch="*")
        except Conflict:
            found, etag, age = read(self.bucket, name)
        if found.by == new.by:  # boto3 had written it, and tried again
            return Claim(self.bucket, name, new, etag)
        if found.fingerprint == new.fingerprint:
            if found.state == "accepted":
                return found.request_id
            new.request_id = found.request_id
        elif found.state != "failed":
            raise IdempotencyKeyReused(
                "This Idempotency-Key was used for other files. Send these with a new key."
            )
        if found.state == "uploading" and age < TAKEN_OVER_AFTER:
            raise in_use()
        try:
            return self._claim(name, new, IfMatch=etag)
        except Conflict:
            raise in_use() from None

    def accepted(self, name: str) -> bool:
        return read(self.bucket, name)[0].state == "accepted"

    def _claim(self, name: str, use: Use, **condition: str) -> Claim:
        etag = self.bucket.write(name, use.model_dump_json().encode(), **condition)
        return Claim(self.bucket, name, use, etag)


def read(bucket: Bucket, name: str) -> tuple[Use, str, timedelta]:
    """What the key is used for, the object's ETag and its age. What cannot be read is free."""
    try:
        body, etag, age = bucket.read_aged(name)
    except NotFound:  # S3 refuses one of two writes at once before the other one is there
        raise in_use() from None
    try:
        return Use.model_validate_json(body), etag, age
    except ValidationError as error:
        log.error("s3://%s/%s is broken, so its key is free: %s", bucket.name, name, error)
        return Use(request_id="", fingerprint="", state="failed", by=""), etag, age


def in_use() -> IdempotencyKeyInUse:
    message = "A POST with this Idempotency-Key is being taken. Send yours again in a moment."
    return IdempotencyKeyInUse(message, retry_after=AGAIN_SECONDS)


def object_name(key: str, client: str = "") -> str:
    """Where the use of a client's key is kept. BadIdempotencyKey when it is none."""
    if not KEY.fullmatch(key):
        raise BadIdempotencyKey(
            "An Idempotency-Key is 1 to 255 visible ASCII characters without spaces, such as a UUID."
        )
    return PREFIX + sha256(f"{client}\n{key}".encode()).hexdigest()


def fingerprint(uploads: Sequence[Upload]) -> str:
    """Of names and contents, in their order."""
    names = [f"{upload.sha256} {upload.image_id.partition('/')[2]}" for upload in uploads]
    return sha256("\n".join(names).encode()).hexdigest()
