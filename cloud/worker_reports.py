"""The reports by which the workers tell the controller that they are ready, and what they have done."""

from collections import Counter
from datetime import datetime

from pydantic import BaseModel

from cloud.boot_times import BootTimes
from cloud.buckets import Bucket, JsonObjects

PREFIX = "workers/"


class WorkerReport(BaseModel):
    """A worker's report. A worker writes its first one when its model is loaded."""

    instance_id: str
    model: str
    engine: str = ""
    precision: str = ""
    ready_at: datetime
    """When the worker had loaded its model."""
    boot: BootTimes | None = None
    """When its machine and its process started, or None if it does not tell."""
    seen_at: datetime
    """When the worker wrote this report."""
    images: int = 0
    """The number of images so far for which the worker has written a prediction or made a row of a batch."""
    busy_seconds: float = 0
    """The time that the worker has spent on images so far."""
    calls: Counter[str] = Counter()
    """The calls of AWS that the worker has made so far, by `CallKind`, including the PUT of this report."""
    draining: bool = False
    """Whether the worker takes no more messages."""


class WorkerReports:
    """Reads and writes the reports, which are in the state bucket under the keys `workers/<instance-id>`."""

    def __init__(self, state: Bucket) -> None:
        self.state = state
        self._reports = JsonObjects(state, WorkerReport)

    def put(self, report: WorkerReport) -> None:
        self._reports.write(f"{PREFIX}{report.instance_id}", report)

    def get(self, instance_id: str) -> WorkerReport | None:
        """Returns the last report of the instance, or None when there is none."""
        return self._reports.get(f"{PREFIX}{instance_id}")

    def seen(self) -> dict[str, datetime]:
        """Returns when each instance wrote its last report, by instance id. Only lists the bucket."""
        return {key.removeprefix(PREFIX): at for key, at in self.state.listing(PREFIX)}

    def delete(self, instance_id: str) -> None:
        self.state.delete(f"{PREFIX}{instance_id}")
