"""Limits how many images each client may send, with one token bucket per client."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock

from controller.image_requests.errors import RequestRefused

WINDOW_SECONDS = 60  # quotas are given in images per minute
ROUNDING = 1e-6  # tolerance for floating-point errors, in images and in seconds


class TooManyImages(RequestRefused):
    """The request has more images than the client may ever send at once."""

    code = "too_many_images"


class OverQuota(RequestRefused):
    """The request has more images than the client may send now. The same request may succeed later."""

    code = "over_quota"


@dataclass
class Bucket:
    """The quota that one client has left."""

    images: float
    """How many images the client could send at the time `at`."""
    at: float
    """A time in seconds, by the clock of the Quota."""


class Quota:
    """Limits the images that each client may send in a minute.

    A client may use the whole quota at once. A used quota refills at a constant rate within a minute. Each
    process counts separately.
    """

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        """`per_minute` is the number of images that each client may send in a minute. 0 means no limit."""
        self.per_minute, self.clock = per_minute, clock
        self._lock = Lock()
        self._buckets: dict[str, Bucket] = {}
        self._tidied_at = clock()

    @contextmanager
    def charge(self, client: str, images: int) -> Iterator[None]:
        """Deducts `images` from the client's quota, and returns them if the block raises an exception.

        Raises OverQuota or TooManyImages before the block starts if the quota is too small.
        """
        self._take(client, images)
        try:
            yield
        except BaseException:
            self._take(client, -images)
            raise

    def headers(self, client: str) -> dict[str, str]:
        """Returns the headers that tell the client its remaining quota, or none if there is no limit.

        The format follows draft-ietf-httpapi-ratelimit-headers.
        """
        if not self.per_minute:
            return {}
        with self._lock:
            left = self._bucket(client).images
        full = math.ceil(self._seconds(self.per_minute - left))
        return {
            "RateLimit-Policy": f'"images";q={self.per_minute};w={WINDOW_SECONDS}',
            "RateLimit": f'"images";r={max(0, math.floor(left))};t={full}',
        }

    def _take(self, client: str, images: int) -> None:
        if not self.per_minute:
            return
        most = f"{self.per_minute:,}"
        if images > self.per_minute:
            raise TooManyImages(
                f"{images:,} images at once are more than you may send in a minute."
                f" Send at most {most} in one request."
            )
        with self._lock:
            bucket = self._bucket(client)
            if images > bucket.images + ROUNDING:
                wait = max(1, math.ceil(self._seconds(images - bucket.images) - ROUNDING))
                raise OverQuota(
                    f"You may send {most} images a minute, and {math.floor(bucket.images):,} now."
                    f" For {images:,}, try again in {wait} seconds.",
                    wait,
                )
            bucket.images -= images

    def _bucket(self, client: str) -> Bucket:
        """Returns the client's bucket, refilled up to the present."""
        now = self.clock()
        if now - self._tidied_at > WINDOW_SECONDS:
            # A bucket that was not used since the last cleanup is full, so it need not be kept.
            self._buckets = {c: b for c, b in self._buckets.items() if b.at > self._tidied_at}
            self._tidied_at = now
        bucket = self._buckets.setdefault(client, Bucket(self.per_minute, now))
        bucket.images = min(
            self.per_minute, bucket.images + (now - bucket.at) * self.per_minute / WINDOW_SECONDS
        )
        bucket.at = now
        return bucket

    def _seconds(self, images: float) -> float:
        """Returns how many seconds it takes until `images` have been refilled."""
        return images * WINDOW_SECONDS / self.per_minute
