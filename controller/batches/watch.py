"""Knows how far each batch is, with one reading for all who ask at about the same time."""

from collections import OrderedDict
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


class WatchedBatch:
    """What this process knows of one batch. Raises CloudError when it must read and S3 fails."""

    def __init__(self, store: BatchStore, batch: Batch, price_per_hour: float) -> None:
        self.store, self.batch, self.price_per_hour = store, batch, price_per_hour
        self.answered = Answered(store)
        self._readings: SharedReading[Progress] = SharedReading(FRESH_SECONDS, LARGEST_SHARE)
        self._finding: SharedReading[Findings] = SharedReading(FINDINGS_SECONDS, LARGEST_SHARE)
        self._last: Progress | None = None
        self._newest: dict[str, list[Row]] = {}
        """The rows of the newest results, by the keys of their objects. They take 4 KB each."""

    def progress(self) -> Progress:
        """Returns how far the batch is, or was some seconds ago."""
        return self._readings.get(self.read)

    def read(self) -> Progress:
        """Returns how far the batch is now."""
        self._last = read_progress(self.store, self.batch, self.answered, self.price_per_hour, self._last)
        if self._last.summary:
            self._newest = {}
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
        self._newest = {one.key: self._newest.get(one.key) or self._rows(one) for one in newest}
        rows = [row for found in self._newest.values() for row in found]
        return find(rows, len(rows))

    def _rows(self, one: Result) -> list[Row]:
        try:
            return self.store.rows(one)
        except NotFound:
            return []


class Watch:
    """What this process knows of batches."""

    def __init__(self, store: BatchStore, price_per_hour: float) -> None:
        self.store, self.price_per_hour = store, price_per_hour
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

    def know(self, batch: Batch) -> WatchedBatch:
        with self._lock:
            new = WatchedBatch(self.store, batch, self.price_per_hour)
            known = self._known.setdefault(batch.batch_id, new)
            if len(self._known) > MOST_BATCHES:
                self._known.popitem(last=False)
            return known
