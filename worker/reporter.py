"""Writes the report of this worker to the state bucket."""

import logging
import time

from cloud.boot_times import BootTimes
from cloud.call_counts import CallCounts
from cloud.clock import now
from cloud.errors import CloudError
from cloud.worker_reports import WorkerReport, WorkerReports
from worker.pipeline import Classifier

REPORT_SECONDS = 5  # the shortest time between two reports of a worker that runs

log = logging.getLogger(__name__)


class Reporter:
    """Counts what this worker has done, and writes it into the report every few seconds.

    `calls` are the calls of AWS of this process. When S3 fails, a warning is logged, and the next report
    makes up for it.
    """

    def __init__(
        self, reports: WorkerReports, instance_id: str, classifier: Classifier, calls: CallCounts
    ) -> None:
        started = now()
        self.reports, self.calls = reports, calls
        self.report = WorkerReport(
            instance_id=instance_id,
            model=classifier.model,
            engine=classifier.engine,
            precision=classifier.precision,
            ready_at=started,
            boot=BootTimes.of_this_process(started),
            seen_at=started,
        )
        self._written_at = 0.0

    def add(self, images: int, seconds: float, classified: int) -> None:
        """Adds new predictions and rows, and the seconds that they took. Writes the report if one is due.

        `classified` is how many images the model has classified so far.
        """
        self.report.images += images
        self.report.busy_seconds += seconds
        self.report.classified = classified
        if time.monotonic() - self._written_at >= REPORT_SECONDS:
            self.write()

    def end(self) -> None:
        """Writes the last report, which says that the worker takes no more messages.

        A worker that has written none was never ready, and writes none now.
        """
        if self._written_at:
            self.report.draining = True
            self.write()

    def write(self) -> None:
        self._written_at = time.monotonic()
        self.report.seen_at = now()
        self.report.calls = self.calls.with_next_write()
        try:
            self.reports.put(self.report)
        except CloudError as error:
            log.warning("%s", error)
