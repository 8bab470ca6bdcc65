"""Knows how far each batch is, with one reading for all who ask at about the same time."""

from collections import OrderedDict
from collections.abc import Callable
from functools import lru_cache
from threading import Lock

from cloud.batches.batch import Batch, Row
from cloud.batches.store import BatchStore, Result
from cloud.errors import NotFound
from cloud.shared_reading import SharedReading
from controller.batches.findings import Findings, find
from controller.batches.missing import Answered
from controller.batches.progress import Progress, read_progress

FRESH_SECONDS = 2.0
FINDINGS_SECONDS = 10.0
LARGEST_SHARE = 0.25  # of the time is spent on reading a batch, however large it is
MOST_BATCHES = 200  # are remembered
MOST_RESULTS = 200  # result objects of all batches whose rows are remembered, in at most 0.2 MB each
MOST_TEXT = 2000  # characters of a row with its first label alone; its key may have 1,024


class WatchedBatch:
    """What this process knows of one batch. Raises CloudError when it must read and S3 fails."""

    def __init__(
        self,
        store: BatchStore,
        batch: Batch,
        price_per_hour: float,
        rows: Callable[[Result], list[Row]],
    ) -> None:
        """`rows` returns the rows of a result object, as `Watch.rows` does."""
        self.store, self.batch, self.price_per_hour, self.rows = store, batch, price_per_hour, rows
        self.answered = Answered(store)
        self._readings: SharedReading[Progress] = SharedReading(FRESH_SECONDS, LARGEST_SHARE)
        self._finding: SharedReading[Findings] = SharedReading(FINDINGS_SECONDS, LARGEST_SHARE)
        self._last: Progress | None = None

    def progress(self) -> Progress:
        """Returns how far the batch is, or was some seconds ago if it had not finished then.

        Another process may have begun a retry since a batch has finished, and whoever asked for that must not
        see the end of the round before. To read a batch that has finished takes one or two calls.
        """
        if self._last and self._last.summary:
            self.forget()
        return self._readings.get(self.read)

    def read(self) -> Progress:
        """Returns how far the batch is now."""
        self._last = read_progress(self.store, self.batch, self.answered, self.price_per_hour, self._last)
        return self._last

    def forget(self) -> None:
        """Makes the next caller read, because something has changed."""
        self._readings = SharedReading(FRESH_SECONDS, LARGEST_SHARE)

    def findings(self, progress: Progress) -> Findings:
        """Returns what was found in all rows of a finished batch, and in the newest ones of another."""
        if progress.summary or not progress.tally.newest:
            return progress.summary or Findings()
        return self._finding.get(lambda: self._find_newest(progress))

    def _find_newest(self, progress: Progress) -> Findings:
        newest = progress.tally.newest
        return find((row for one in newest for row in self._rows(one)), sum(one.rows for one in newest))

    def _rows(self, one: Result) -> list[Row]:
        try:
            return self.rows(one)
        except NotFound:
            return []


class Watch:
    """What this process knows of batches."""

    def __init__(self, store: BatchStore, price_per_hour: float) -> None:
        self.store, self.price_per_hour = store, price_per_hour
        self._rows = lru_cache(MOST_RESULTS)(self.rows)
        self._lock = Lock()
        self._known: OrderedDict[str, WatchedBatch] = OrderedDict()

    def of(self, batch_id: str) -> WatchedBatch | None:
        """Returns None when there is no such batch. Raises CloudError when S3 fails."""
        with self._lock:
            if known := self._known.get(batch_id):
                self._known.move_to_end(batch_id)
                return known
        batch = self.store.get(batch_id)
        return self.know(batch) if batch else None

    def rows(self, result: Result) -> list[Row]:
        """Returns the rows of a result object, each with its first label alone.

        Those with more than MOST_TEXT are left out. Raises NotFound when it has expired, and CloudError when
        S3 fails.
        """
        rows = [row.model_copy(update={"predictions": ()}) for row in self.store.rows(result)]
        return [row for row in rows if len(row.model_dump_json()) <= MOST_TEXT]

    def know(self, batch: Batch) -> WatchedBatch:
        with self._lock:
            new = WatchedBatch(self.store, batch, self.price_per_hour, self._rows)
            known = self._known.setdefault(batch.batch_id, new)
            if len(self._known) > MOST_BATCHES:
                self._known.popitem(last=False)
            return known
