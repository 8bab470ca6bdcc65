"""Keeps the shared state in step with what EC2 shows: who runs, who ended, who never got ready."""

import logging
from collections.abc import Container, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from cloud.clock import now
from cloud.worker_reports import WorkerReports
from controller.autoscaling.ec2_fleet import Instance
from controller.autoscaling.fleet_state import FleetState, Launched

log = logging.getLogger(__name__)

LAUNCH_LAG_SECONDS = 60  # DescribeInstances may not show a new instance at once
CAPACITY_AGAIN_SECONDS = 15  # until the next launch when EC2 had no capacity


class Overdue(NamedTuple):
    """Ids of instances."""

    late: list[str]
    silent: list[str]


class InstanceLedger:
    """Times in seconds. An instance is late when it is not ready after `boot_timeout`, and silent when its
    worker, which reports every few seconds, has not done so for `silent_after`: it hangs, or is frozen.
    """

    def __init__(self, reports: WorkerReports, boot_timeout: float, silent_after: float) -> None:
        self.reports, self.boot_timeout, self.silent_after = reports, boot_timeout, silent_after

    def update(self, state: FleetState, instances: Sequence[Instance]) -> Overdue:
        """Books what has ended since the last look, and tells who will do no work."""
        active = {i.instance_id: i for i in instances if i.active}
        shown = {i.instance_id for i in instances}
        # Not while it shuts down: its worker drains, and its last report is yet to come.
        gone = {i.instance_id: i for i in instances if i.state == "terminated"}
        for instance_id, instance in active.items():
            state.launched.setdefault(
                instance_id, Launched(at=instance.launched_at, request_id=instance.request_id)
            )
        ready = self.reports.seen() if state.launched else {}
        self._note_ready(state, ready)
        for instance_id, launched in list(state.launched.items()):
            if instance_id in gone or (instance_id not in shown and age(launched) > LAUNCH_LAG_SECONDS):
                taken_by_aws = instance_id in gone and gone[instance_id].reason.startswith("Server.")
                if taken_by_aws and instance_id not in ready:  # no capacity, as EC2 says it late
                    state.no_launch_before = now() + timedelta(seconds=CAPACITY_AGAIN_SECONDS)
                    state.no_capacity = gone[instance_id].reason
                self._book_end(state, instance_id, expected=launched.ending or taken_by_aws, ready=ready)
        if ready.keys() & active.keys():
            state.not_ready = []
        staying = [i for i in active if not state.launched[i].ending]
        return Overdue(
            late=[i for i in staying if i not in ready and age(state.launched[i]) > self.boot_timeout],
            silent=[i for i in staying if i in ready and since(ready[i]) > self.silent_after],
        )

    def unseen(self, state: FleetState, instances: Sequence[Instance]) -> int:
        """Instances that were launched, but that DescribeInstances does not show yet."""
        return len(set(state.launched) - {i.instance_id for i in instances})

    def _note_ready(self, state: FleetState, ready: Container[str]) -> None:
        for instance_id, launched in state.launched.items():
            if instance_id in ready and not launched.ready and (report := self.reports.get(instance_id)):
                launched.ready = True
                state.note_boot(max(0.0, (report.ready_at - launched.at).total_seconds()))

    def _book_end(
        self, state: FleetState, instance_id: str, *, expected: bool, ready: Container[str]
    ) -> None:
        launched = state.launched.pop(instance_id)
        state.ended_seconds += billed(age(launched))
        if instance_id in ready:
            report = self.reports.get(instance_id)
            state.ended_images += report.images if report else 0
            state.ended_busy_seconds += report.busy_seconds if report else 0
            self.reports.delete(instance_id)
        elif not expected:
            state.not_ready.append(instance_id)
            log.error("%s ended before its worker was ready", instance_id)


def billed(seconds: float) -> float:
    """What EC2 bills of so many: a minute at the least."""
    return max(60.0, seconds)


def age(launched: Launched) -> float:
    """Seconds."""
    return since(launched.at)


def since(at: datetime) -> float:
    """Seconds."""
    return (now() - at).total_seconds()
