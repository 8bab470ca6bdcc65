from collections.abc import Callable, Sequence
from os.path import commonprefix
from threading import Lock
from time import monotonic

from cloud.buckets import OutputBucket

FRESH_SECONDS = 0.04
LISTING_SHARE = 0.2  # of the time, at most


class PredictionListing:
    """Which images are answered: one listing serves every request that waits in this process.

    Request-ids begin with their time, so the answers to all requests since the oldest that waits lie
    side by side in the output bucket.
    """

    def __init__(self, outputs: OutputBucket, clock: Callable[[], float] = monotonic) -> None:
        self.outputs, self.clock = outputs, clock
        self._lock = Lock()
        self._list_again_at = 0.0
        self._since = ""
        self._answered: dict[str, list[str]] = {}

    def answered(self, request_id: str, waiting: Sequence[str]) -> list[str]:
        """The answered images of one of the requests that are `waiting`, as of a moment ago."""
        with self._lock:
            if request_id < self._since or self.clock() >= self._list_again_at:
                self._list(min(waiting), max(waiting))
            return self._answered.get(request_id, [])

    def _list(self, oldest: str, newest: str) -> None:
        started = self.clock()
        answered: dict[str, list[str]] = {}
        prefix = commonprefix([oldest, newest])  # noqa: RUF071 - of characters, as S3 has it
        for key in self.outputs.keys(prefix, after=oldest):
            answered.setdefault(key.partition("/")[0], []).append(key)
        self._answered, self._since = answered, oldest
        took = self.clock() - started
        self._list_again_at = started + max(FRESH_SECONDS, took / LISTING_SHARE)
