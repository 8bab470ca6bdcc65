from collections.abc import Callable, Sequence
from os.path import commonprefix
from time import monotonic
from typing import NamedTuple

from cloud.buckets import OutputBucket
from cloud.image_id import ImageId
from controller.image_requests.shared_reading import SharedReading

FRESH_SECONDS = 0.04  # a listing is reused for at least this long
LISTING_SHARE = 0.2  # the largest share of the time that is spent on listing


class Listing(NamedTuple):
    since: str
    """The oldest request-id that the listing covers."""
    answered: dict[str, list[ImageId]]
    """The image-ids that have predictions, by request-id."""


class PredictionListing:
    """Finds the images that have predictions, with one listing for all requests that wait in this process.

    Request-ids begin with a timestamp, so the predictions for all requests since the oldest waiting one are
    adjacent in the output bucket.
    """

    def __init__(self, outputs: OutputBucket, clock: Callable[[], float] = monotonic) -> None:
        self.outputs = outputs
        self._listings: SharedReading[Listing] = SharedReading(FRESH_SECONDS, LISTING_SHARE, clock)

    def answered(self, request_id: str, waiting: Sequence[str]) -> list[ImageId]:
        """Returns the image-ids of `request_id` that have predictions, as of a moment ago.

        `waiting` are the request-ids that the listing should cover, including `request_id`. Raises CloudError
        when S3 cannot be read.
        """
        listing = self._listings.get(
            lambda: self._list(min(waiting), max(waiting)), lambda last: last.since <= request_id
        )
        return listing.answered.get(request_id, [])

    def _list(self, oldest: str, newest: str) -> Listing:
        answered: dict[str, list[ImageId]] = {}
        prefix = commonprefix([oldest, newest])  # noqa: RUF071 - S3 compares characters, not path components
        for image_id in self.outputs.answered(prefix, after=oldest):
            answered.setdefault(image_id.request_id, []).append(image_id)
        return Listing(oldest, answered)
