"""Treats all POSTs with the same `Idempotency-Key` as one request, whichever process receives them.

Each key has an object `idempotency/<hash>` in the state bucket, which is changed only by conditional writes.
The POST that creates the object submits the request: it uploads the images, marks them as accepted, and only
then sends their messages. Later POSTs with the key return the answer to that request. If the process dies
during the upload, a later POST takes over with the same request-id, so it overwrites the same objects. If the
process dies after that, recovery sends the messages.

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
TAKEN_OVER_AFTER = timedelta(seconds=20)  # the process of an older upload may have died
AGAIN_SECONDS = 2  # the Retry-After of a POST whose key is in use


class Use(BaseModel):
    """The content of a key's object: the request that the key belongs to, and its state."""

    request_id: str
    fingerprint: str
    """A hash of the names and contents of the files."""
    state: Literal["uploading", "accepted", "failed"]
    by: str
    """The random id of the POST that wrote this object."""


class ClaimLost(Exception):
    """Another POST with the same key has taken over the request, or has completed its upload."""


class Claim:
    """The right to submit a request, until another POST takes it over."""

    def __init__(self, uses: JsonObjects[Use], name: str, use: Use, etag: str, taken_over: bool) -> None:
        self.uses, self.name, self.use, self.etag = uses, name, use, etag
        self.request_id = use.request_id
        self.taken_over = taken_over
        """Whether the request-id is that of an earlier POST, and may be old."""

    def accept(self) -> None:
        """Notes that every image is uploaded, so that the messages may be sent.

        Raises ClaimLost when another POST was faster; the messages must not be sent then. Raises CloudError
        when S3 fails.
        """
        while True:
            try:
                return self._write("accepted")
            except Conflict:
                stored = read(self.uses, self.name)
            found = stored.value
            if found.request_id != self.request_id or found.state == "accepted":
                raise ClaimLost
            self.etag = stored.etag

    def release(self) -> bool:
        """Frees the key after a failed submission. Returns False if another POST took over or S3 fails."""
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
        """Returns the right to submit `uploads`, or the request-id under which they were accepted before.

        Raises IdempotencyKeyReused when the key belongs to other files, IdempotencyKeyInUse while another
        POST with the key is in progress, and CloudError when S3 fails.
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
            return self._claim(name, new, new.request_id != request_id, IfMatch=stored.etag)
        except Conflict:
            raise in_use() from None

    def accepted(self, name: str) -> bool:
        """Whether the images of the key's request are uploaded."""
        return read(self.uses, name).value.state == "accepted"

    def _claim(self, name: str, use: Use, taken_over: bool = False, **condition: str) -> Claim:
        etag = self.uses.write(name, use, **condition)
        return Claim(self.uses, name, use, etag, taken_over)


def read(uses: JsonObjects[Use], name: str) -> Stored[Use]:
    """Returns the use of the key, with its ETag and age. A broken object counts as a free key.

    Raises IdempotencyKeyInUse when the object does not exist yet, and CloudError when S3 fails.
    """
    if stored := uses.read(name):
        return stored
    raise in_use()  # S3 may refuse one of two concurrent writes before the other is visible


def free(name: str) -> Use:
    """The use of a key that another request may take."""
    return Use(request_id="", fingerprint="", state="failed", by="")


def in_use() -> IdempotencyKeyInUse:
    message = "A POST with this Idempotency-Key is being taken. Send yours again in a moment."
    return IdempotencyKeyInUse(message, retry_after=AGAIN_SECONDS)


def object_name(key: str, client: str) -> str:
    """Returns the name of the object for a client's key. Raises BadIdempotencyKey for a malformed key.

    The keys of each `client` are a namespace of their own, so a key that is easily guessed, such as `1`,
    leads to nobody else's request.
    """
    if not KEY.fullmatch(key):
        raise BadIdempotencyKey(
            "An Idempotency-Key is 1 to 255 visible ASCII characters without spaces, such as a UUID."
        )
    return PREFIX + sha256(f"{client}\n{key}".encode()).hexdigest()


def fingerprint(uploads: Sequence[Upload]) -> str:
    """Returns a hash of the names and contents of the files, in upload order."""
    names = [f"{upload.sha256} {upload.image_id.name}" for upload in uploads]
    return sha256("\n".join(names).encode()).hexdigest()
