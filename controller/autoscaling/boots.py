"""How long it takes from the first message for which there is no instance to a worker that is ready.

That time has five stages:

* detect: from before the first message is sent until the autoscaler calls RunInstances, or StartInstances for
  an instance that was stopped. It contains the rest of the sending, the observation of the fleet, and earlier
  launches that failed.
* API: until EC2 answers. If there was no capacity for the first choices, it contains their calls.
* pending: until the kernel of the instance starts. EC2 finds a host, makes the disk, and runs the firmware.
* boot: until the process of the worker starts.
* model: until the model is loaded, and the worker sends its first receive.

The controller measures the first two with its clock, the instance measures the last two with its own, and
what is left between them is pending. All times are those of AWS, so pending is as accurate as both of their
clocks (`cloud/clock.py`). The upload of the images comes before, and the first classification after that.
"""

from collections.abc import Sequence
from datetime import datetime
from statistics import median

from pydantic import BaseModel

from cloud.worker_reports import WorkerReport

BOOTS_KEPT = 20
STAGES = ("detect", "api", "pending", "boot", "model")


class Boot(BaseModel):
    """The five stages of one instance, in seconds. Those that nobody has measured are None."""

    instance_id: str
    ready_at: datetime
    started: bool = False
    """Whether the instance was stopped before, and was started again."""
    detect: float | None = None
    """It is known only if no instance was active when the autoscaler called RunInstances."""
    api: float | None = None
    pending: float
    boot: float
    model: float
    total: float | None = None
    """The sum of all five, or None if one is not known."""


class Call(BaseModel):
    """A call that launches or starts an instance."""

    sent_at: datetime | None = None
    """When the message that has waited longest was sent, if no instance was active; else None."""
    called_at: datetime
    answered_at: datetime


def boot_of(report: WorkerReport, launched_at: datetime, call: Call | None, *, started: bool) -> Boot | None:
    """Returns the stages of an instance whose worker has reported, or None if it does not tell its own.

    `launched_at` stands for the end of `call` if nothing is known of the call.
    """
    if report.boot is None:
        return None
    kernel_at, process_at = report.boot.kernel_at, report.boot.process_at
    stages = {
        "detect": seconds(call.sent_at, call.called_at) if call and call.sent_at else None,
        "api": seconds(call.called_at, call.answered_at) if call else None,
        "pending": seconds(call.answered_at if call else launched_at, kernel_at),
        "boot": seconds(kernel_at, process_at),
        "model": seconds(process_at, report.ready_at),
    }
    known = [stage for stage in stages.values() if stage is not None]
    total = round(sum(known), 3) if len(known) == len(STAGES) else None
    return Boot(
        instance_id=report.instance_id, ready_at=report.ready_at, started=started, total=total, **stages
    )


def seconds(start: datetime, end: datetime) -> float:
    return round(max(0.0, (end - start).total_seconds()), 3)


def medians(boots: Sequence[Boot], *, started: bool) -> dict[str, float]:
    """Returns the median of each stage and of the total, of the launches or of the starts.

    A stage that is not known in any of them is missing.
    """
    chosen = [boot for boot in boots if boot.started is started]
    known = {name: [s for b in chosen if (s := getattr(b, name)) is not None] for name in (*STAGES, "total")}
    return {name: round(median(values), 3) for name, values in known.items() if values}
