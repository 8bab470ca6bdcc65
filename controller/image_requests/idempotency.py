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

from pydantic import BaseModel

from cloud.buckets import Bucket, JsonObjects, Stored
from cloud.errors import CloudError, Conflict
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

    def __init__(self, uses: JsonObjects[Use], name: str, use: Use, etag: str) -> None:
        self.uses, self.name, self.use, self.etag = uses, name, use, etag
        self.request_id = use.request_id

    def accept(self) -> None:
        """All is uploaded. ClaimLost when another POST was first: then nothing may be sent."""
        while True:
            try:
                return self._write("accepted")
            except Conflict:
                stored = read(self.uses, self.name)
            found = stored.value
            if found.by == self.use.by and found.state == "accepted":  # boto3 had written it, and tried again
                return None
            if found.request_id != self.request_id or found.state == "accepted":
                raise ClaimLost
            self.etag = stored.etag

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
        self.etag = self.uses.write(self.name, self.use, IfMatch=self.etag)


class IdempotencyKeys:
    def __init__(self, bucket: Bucket) -> None:
        self.uses = JsonObjects(bucket, Use, in_place_of_broken=free)

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
            stored = read(self.uses, name)
        found = stored.value
        if found.by == new.by:  # boto3 had written it, and tried again
            return Claim(self.uses, name, new, stored.etag)
        if found.fingerprint == new.fingerprint:
            if found.state == "accepted":
                return found.request_id
            new.request_id = found.request_id
        elif found.state != "failed":
            raise IdempotencyKeyReused(
                "This Idempotency-Key was used for other files. Send these with a new key."
            )
        if found.state == "uploading" and stored.age < TAKEN_OVER_AFTER:
            raise in_use()
        try:
            return self._claim(name, new, IfMatch=stored.etag)
        except Conflict:
            raise in_use() from None

    def accepted(self, name: str) -> bool:
        return read(self.uses, name).value.state == "accepted"

    def _claim(self, name: str, use: Use, **condition: str) -> Claim:
        return Claim(self.uses, name, use, self.uses.write(name, use, **condition))


def read(uses: JsonObjects[Use], name: str) -> Stored[Use]:
    """What the key is used for. Raises IdempotencyKeyInUse when that is not to be seen yet."""
    if stored := uses.read(name):
        return stored
    raise in_use()  # S3 refuses one of two writes at once before the other one is there


def free(name: str) -> Use:
    """The use of a key that another request may take."""
    return Use(request_id="", fingerprint="", state="failed", by="")


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
