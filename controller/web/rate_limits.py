"""How many images each client may send: a token bucket for each. No Flask."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock

from controller.image_requests.errors import RequestRefused

WINDOW_SECONDS = 60
ROUNDING = 1e-6  # images, and seconds


class TooManyImages(RequestRefused):
    """So many images are never possible at once."""

    code = "too_many_images"


class OverQuota(RequestRefused):
    """So many images are possible later."""

    code = "over_quota"


@dataclass
class Bucket:
    images: float
    at: float
    """When it held so many."""


class Quota:
    """A minute's worth of images may be sent at once; what was sent comes back evenly within a minute. Each
    process counts for itself.
    """

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        """`per_minute`: images of one client; 0: as many as it likes."""
        self.per_minute, self.clock = per_minute, clock
        self._lock = Lock()
        self._buckets: dict[str, Bucket] = {}
        self._tidied_at = clock()

    @contextmanager
    def charge(self, client: str, images: int) -> Iterator[None]:
        """Takes them from the client's quota; gives them back when the block fails.

        OverQuota or TooManyImages before it.
        """
        self._take(client, images)
        try:
            yield
        except BaseException:
            self._take(client, -images)
            raise

    def headers(self, client: str) -> dict[str, str]:
        """How the client stands (draft-ietf-httpapi-ratelimit-headers)."""
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
                    f"{images:,} images are more than you may send now: of {most} in a minute"
                    f" {math.floor(bucket.images):,} are left. Try again in {wait} seconds.",
                    wait,
                )
            bucket.images -= images

    def _bucket(self, client: str) -> Bucket:
        """As it is now."""
        now = self.clock()
        if now - self._tidied_at > WINDOW_SECONDS:  # those that nobody drew from since are full
            self._buckets = {c: b for c, b in self._buckets.items() if b.at > self._tidied_at}
            self._tidied_at = now
        bucket = self._buckets.setdefault(client, Bucket(self.per_minute, now))
        bucket.images = min(
            self.per_minute, bucket.images + (now - bucket.at) * self.per_minute / WINDOW_SECONDS
        )
        bucket.at = now
        return bucket

    def _seconds(self, images: float) -> float:
        """Until so many have come back."""
        return images * WINDOW_SECONDS / self.per_minute
