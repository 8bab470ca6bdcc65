import logging
import time

from cloud.clock import now
from cloud.errors import CloudError
from cloud.worker_reports import WorkerReport, WorkerReports

REPORT_SECONDS = 5

log = logging.getLogger(__name__)


class Reporter:
    """Writes this worker's report: when it is ready, then at most every few seconds, and at its end."""

    def __init__(self, reports: WorkerReports, instance_id: str, model: str) -> None:
        started = now()
        self.reports = reports
        self.report = WorkerReport(instance_id=instance_id, model=model, ready_at=started, seen_at=started)
        self.last = 0.0

    def __call__(self, images: int, seconds: float) -> None:
        """After a batch, or without one: `images` were answered in so many `seconds`."""
        self.report.images += images
        self.report.busy_seconds += seconds
        if time.monotonic() - self.last >= REPORT_SECONDS:
            self.write()

    def write(self) -> None:
        self.last = time.monotonic()
        self.report.seen_at = now()
        try:
            self.reports.put(self.report)
        except CloudError as error:
            log.warning("%s", error)
