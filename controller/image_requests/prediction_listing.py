from collections.abc import Callable, Sequence
from os.path import commonprefix
from threading import Lock
from time import monotonic

from cloud.buckets import OutputBucket
from cloud.image_id import ImageId

FRESH_SECONDS = 0.04  # a listing is reused for at least this long
LISTING_SHARE = 0.2  # the largest share of the time that is spent on listing


class PredictionListing:
    """Finds the images that have predictions, with one listing for all requests that wait in this process.

    Request-ids begin with a timestamp, so the predictions for all requests since the oldest waiting one are
    adjacent in the output bucket.
    """

    def __init__(self, outputs: OutputBucket, clock: Callable[[], float] = monotonic) -> None:
        self.outputs, self.clock = outputs, clock
        self._lock = Lock()
        self._list_again_at = 0.0
        self._since = ""
        self._answered: dict[str, list[ImageId]] = {}

    def answered(self, request_id: str, waiting: Sequence[str]) -> list[ImageId]:
        """Returns the image-ids of `request_id` that have predictions, as of a moment ago.

        `waiting` are the request-ids that the listing should cover, including `request_id`. Raises CloudError
        when S3 cannot be read.
        """
        with self._lock:
            if request_id < self._since or self.clock() >= self._list_again_at:
                self._list(min(waiting), max(waiting))
            return self._answered.get(request_id, [])

    def _list(self, oldest: str, newest: str) -> None:
        started = self.clock()
        answered: dict[str, list[ImageId]] = {}
        prefix = commonprefix([oldest, newest])  # noqa: RUF071 - S3 compares characters, not path components
        for image_id in self.outputs.answered(prefix, after=oldest):
            answered.setdefault(image_id.request_id, []).append(image_id)
        self._answered, self._since = answered, oldest
        took = self.clock() - started
        self._list_again_at = started + max(FRESH_SECONDS, took / LISTING_SHARE)
