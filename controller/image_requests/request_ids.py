"""Makes request-ids that a guess can be told from without asking AWS.

A request-id ends with a MAC of what comes before it. The key of the MAC is an object in the state bucket,
which the first process creates with a conditional write, and which each process reads about once an hour.
"""

import hmac
import logging
import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from threading import Lock

from cloud.buckets import Bucket
from cloud.errors import CloudError, Conflict, NotFound
from cloud.image_id import is_request_id, new_request_id

log = logging.getLogger(__name__)

KEY_OBJECT = "request-ids/key"
KEY_BYTES = 32
MAC_DIGITS = 6  # one guess in 16 million comes through
CONFIRM_SECONDS = 3600  # how long a process relies on the key before it reads it again
RENEW_AFTER = timedelta(hours=1)  # the lifecycle rule of the bucket deletes what was written long ago


class RequestIds:
    """The request-ids of one process, which begin with `shard`. All processes have the same key."""

    def __init__(self, state: Bucket, shard: str, clock: Callable[[], float] = time.monotonic) -> None:
        self.state, self.shard, self.clock = state, shard, clock
        self._key = b""
        self._confirm_at = 0.0
        self._lock = Lock()

    def new(self) -> str:
        """Returns the id of a new request. Raises CloudError when S3 fails and the key was never read."""
        beginning = new_request_id(self.shard)[:-MAC_DIGITS]
        return beginning + mac(self._current_key(), beginning)

    def genuine(self, text: str) -> bool:
        """Returns whether `text` is a request-id that a process of this system has made.

        Raises CloudError when S3 fails and the key was never read.
        """
        if not is_request_id(text):
            return False
        beginning, given = text[:-MAC_DIGITS], text[-MAC_DIGITS:]
        return hmac.compare_digest(given, mac(self._current_key(), beginning))

    def _current_key(self) -> bytes:
        with self._lock:
            if not self._key or self.clock() >= self._confirm_at:
                try:
                    self._key = self._stored_key()
                except CloudError as error:
                    if not self._key:
                        raise
                    log.warning("%s", error)
                self._confirm_at = self.clock() + CONFIRM_SECONDS
            return self._key

    def _stored_key(self) -> bytes:
        """Returns the key of all processes. Creates it if there is none, and renews it if it is old."""
        while True:
            try:
                key, etag, age = self.state.read_aged(KEY_OBJECT)
            except NotFound:
                key = self._key or secrets.token_bytes(KEY_BYTES)
                with suppress(Conflict):
                    self.state.write(KEY_OBJECT, key, IfNoneMatch="*")
                    return key
            else:
                if age > RENEW_AFTER:
                    with suppress(Conflict):
                        self.state.write(KEY_OBJECT, key, IfMatch=etag)
                return key


def mac(key: bytes, beginning: str) -> str:
    return hmac.new(key, beginning.encode(), "sha256").hexdigest()[:MAC_DIGITS]
