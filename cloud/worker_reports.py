"""The reports by which the workers tell the controller that they are ready, and what they have done."""

import logging
from collections import Counter
from datetime import datetime
from typing import Annotated

from pydantic import AfterValidator, AwareDatetime, BaseModel, Field

from cloud.boot_times import BootTimes
from cloud.buckets import Bucket, JsonObjects
from cloud.errors import CloudError
from cloud.prices import CallKind

log = logging.getLogger(__name__)

PREFIX = "workers/"
LARGEST_REPORT = 20_000
"""The most bytes of a report that are read. It has some 500."""
MOST = 1_000_000_000
"""The most images, seconds or calls of one kind that are believed."""


def check_calls(calls: Counter[str]) -> Counter[str]:
    """Returns counts of calls that are possible. Raises ValueError for others."""
    if not calls.keys() <= set(CallKind) or not all(0 <= count <= MOST for count in calls.values()):
        raise ValueError("there are no such calls, or not so many")
    return calls


Calls = Annotated[Counter[str], AfterValidator(check_calls)]
Seconds = Annotated[float, Field(ge=0, le=MOST), AfterValidator(lambda seconds: round(seconds, 3))]
"""Whoever forges a shorter time than a millisecond must not make a worker infinitely fast."""
Text = Annotated[str, Field(max_length=1000)]


class WorkerReport(BaseModel):
    """A worker's report. A worker writes its first one when its model is loaded and it may receive."""

    instance_id: Text
    model: Text
    engine: Text = ""
    precision: Text = ""
    ready_at: AwareDatetime
    """When the worker had loaded its model."""
    boot: BootTimes | None = None
    """When its machine and its process started, or None if it does not tell."""
    seen_at: AwareDatetime
    """When the worker wrote this report."""
    images: int = Field(0, ge=0, le=MOST)
    """The number of images so far for which the worker has written a prediction or made a row of a batch."""
    classified: int | None = Field(None, ge=0, le=MOST)
    """How many of them the model has classified, or None if the worker does not tell.

    The others failed before, perhaps by the thousand in a second, and say nothing of the worker's speed.
    """
    busy_seconds: Seconds = 0
    """The time that the worker has spent on images so far."""
    calls: Calls = Counter()
    """The calls of AWS that the worker has made so far, by `CallKind`, including the PUT of this report."""
    draining: bool = False
    """Whether the worker takes no more messages."""


class WorkerReports:
    """Reads and writes the reports, which are in the state bucket under the keys `workers/<instance-id>`."""

    def __init__(self, state: Bucket) -> None:
        self.state = state
        self._reports = JsonObjects(state, WorkerReport, largest=LARGEST_REPORT)

    def put(self, report: WorkerReport) -> None:
        self._reports.write(f"{PREFIX}{report.instance_id}", report)

    def get(self, instance_id: str) -> WorkerReport | None:
        """Returns the last report of the instance, or None when there is none that can be read.

        A worker that was taken over may write anything, and must not stop the autoscaler with it. A report
        that S3 fails to give is none either: all that is lost is a line of the bill.
        """
        try:
            found = self._reports.get(f"{PREFIX}{instance_id}")
        except CloudError as error:
            log.error("%s", error)
            return None
        except Exception:
            log.exception("the report of %s cannot be read", instance_id)
            return None
        return found if found and found.instance_id == instance_id else None

    def seen(self) -> dict[str, datetime]:
        """Returns when each instance wrote its last report, by instance id. Only lists the bucket."""
        return {key.removeprefix(PREFIX): at for key, at in self.state.listing(PREFIX)}

    def delete(self, instance_id: str) -> None:
        self.state.delete(f"{PREFIX}{instance_id}")
