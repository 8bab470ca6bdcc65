"""Caches predictions by the content of the image, for as long as the model stays the same.

A worker writes what it has learned in batches, as objects `cache/<model choice>/<time left>-<random>` in the
state bucket. The time left until the year 2100 falls, so the newest batches are the first ones of a listing.
Each controller process keeps what it has read in memory. Of the versions of a choice (see model_version.py),
the one that counts is that of the newest prediction. Whatever S3 fails at, the cache does without, and logs a
warning.
"""

import logging
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Executor
from datetime import datetime, timedelta
from itertools import islice
from threading import Lock

from cloud.buckets import Bucket, JsonObjects
from cloud.clock import now
from cloud.errors import CloudError
from cloud.model_version import choice_of
from cloud.prediction import Prediction, Status

log = logging.getLogger(__name__)

PREFIX = "cache/"
END_OF_TIME = 4_102_444_800  # the year 2100, in seconds since 1970
WRITE_SECONDS = 5.0  # the longest that a prediction waits for others before it is written
WRITE_PREDICTIONS = 100  # the number of predictions that are written together
READ_SECONDS = 5.0  # the shortest time between two listings of a process
LISTED = 1000  # the newest batches, which are those that a process reads
KEPT = 50_000  # the predictions that a process keeps in memory, 1 KB each
LARGEST_KEPT = 5000  # bytes of a prediction; a larger one is not kept
LARGEST_BATCH = 1_000_000  # bytes of a batch that is read; those of a hundred predictions have some 100 KB
READ_AT_ONCE = 8  # batches; each may hold 14 MB of memory if a worker that was taken over wrote it
READING_SECONDS = 5.0  # after which the batches that are left are not read, because requests wait meanwhile
SKEW = timedelta(minutes=1)  # of the clocks of workers; a prediction that is made later than that is not kept


class CacheWriter:
    """Collects the predictions of a worker's model and writes them. Threads may share it."""

    def __init__(self, state: Bucket, version: str, clock: Callable[[], float] = time.monotonic) -> None:
        """`version` is the version of the model. Without one, nothing is written."""
        self.version, self.clock = version, clock
        self._batches = JsonObjects(state, dict[str, Prediction])
        self._learned: dict[str, Prediction] = {}
        self._since = 0.0
        self._lock = Lock()

    def add(self, sha256: str, prediction: Prediction) -> None:
        """Adds the prediction for an image, unless it is a failure: the next try may succeed."""
        if not self.version or prediction.status is not Status.CLASSIFIED:
            return
        with self._lock:
            if not self._learned:
                self._since = self.clock()
            self._learned[sha256] = prediction
            full = len(self._learned) >= WRITE_PREDICTIONS
        if full:
            self.write()

    def write_if_due(self) -> None:
        """Writes the predictions that have waited for WRITE_SECONDS. Must be called from time to time."""
        if self._learned and self.clock() - self._since >= WRITE_SECONDS:
            self.write()

    def write(self) -> None:
        """Writes what was added."""
        with self._lock:
            learned, self._learned = self._learned, {}
        if not learned:
            return
        newest_first = f"{END_OF_TIME - int(now().timestamp()):010d}-{secrets.token_hex(4)}"
        key = f"{PREFIX}{choice_of(self.version)}/{newest_first}"
        try:
            self._batches.write(key, learned)
        except CloudError as error:
            log.warning("%s", error)


class PredictionCache:
    """The predictions that a controller process knows. Threads may share it."""

    def __init__(self, state: Bucket, pool: Executor, clock: Callable[[], float] = time.monotonic) -> None:
        self.state, self.pool, self.clock = state, pool, clock
        self._batches = JsonObjects(state, dict[str, Prediction], largest=LARGEST_BATCH)
        self._known: OrderedDict[tuple[str, str], bytes] = OrderedDict()  # by version and SHA-256
        self._newest: dict[str, tuple[datetime, str]] = {}
        """The time of the newest prediction and its version, by choice."""
        self._read_keys: dict[str, set[str]] = {}
        self._read_at: dict[str, float] = {}
        self._reading, self._lock = Lock(), Lock()

    def get(self, choice: str, sha256: str) -> Prediction | None:
        """Returns the prediction that workers with this choice would make, or None when it is not known."""
        with self._lock:
            _, version = self._newest.get(choice, (None, ""))
            if (found := self._known.get((version, sha256))) is None:
                return None
            self._known.move_to_end((version, sha256))
        return Prediction.model_validate_json(found)

    def put(self, sha256: str, prediction: Prediction) -> None:
        """Keeps the prediction in memory, and forgets those that were not asked for the longest.

        A failure is not kept, and neither is a prediction whose model's version or time is unknown, or that
        no worker makes: it is too large, or was made in the future.
        """
        version, answered_at = prediction.model_version, prediction.answered_at
        if prediction.status is not Status.CLASSIFIED or not version or not answered_at:
            return
        kept = prediction.model_dump_json(exclude_defaults=True).encode()
        if len(kept) + len(sha256) > LARGEST_KEPT or answered_at > now() + SKEW:
            return
        with self._lock:
            newest = self._newest.get(choice_of(version))
            if newest is None or newest[0] <= answered_at:
                self._newest[choice_of(version)] = answered_at, version
            self._known[version, sha256] = kept
            self._known.move_to_end((version, sha256))
            if len(self._known) > KEPT:
                self._known.popitem(last=False)

    def read(self, choice: str) -> None:
        """Reads what the workers have written since the last time, at most once in READ_SECONDS."""
        with self._reading:
            if self.clock() - self._read_at.get(choice, float("-inf")) < READ_SECONDS:
                return
            self._read_new(choice)
            self._read_at = {choice: self.clock()}

    def _read_new(self, choice: str) -> None:
        """Reads the newest batches first, until there are as many predictions as are kept."""
        try:
            keys = list(islice(self.state.keys(f"{PREFIX}{choice}/"), LISTED))
        except CloudError as error:
            log.warning("the cached predictions are not known: %s", error)
            return
        new = [key for key in keys if key not in self._read_keys.get(choice, ())]
        found: list[dict[str, Prediction]] = []
        until = self.clock() + READING_SECONDS
        for start in range(0, len(new), READ_AT_ONCE):
            if sum(map(len, found)) >= KEPT or self.clock() >= until:
                log.info("%d older batches of cached predictions are not read", len(new) - start)
                break
            found += self.pool.map(self._read_batch, new[start : start + READ_AT_ONCE])
        for batch in reversed(found):  # the newest are kept the longest
            for sha256, prediction in batch.items():
                self.put(sha256, prediction)
        self._read_keys = {choice: set(keys)}

    def _read_batch(self, key: str) -> dict[str, Prediction]:
        try:
            return self._batches.get(key) or {}
        except CloudError as error:
            log.warning("a cached prediction is not used: %s", error)
            return {}
