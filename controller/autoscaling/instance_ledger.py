"""Keeps the fleet's state in step with EC2: which instances exist, which are ready, and which have ended."""

import logging
from collections.abc import Container, Mapping, Sequence
from datetime import datetime, timedelta

from cloud.clock import now
from cloud.worker_reports import WorkerReports
from controller.autoscaling.ec2_fleet import Instance
from controller.autoscaling.fleet_state import FleetState, Launched
from controller.autoscaling.observation import ObservedInstance

log = logging.getLogger(__name__)

STRAY_SECONDS = 600  # after which a report of an instance that is in no books is deleted
LAUNCH_LAG_SECONDS = 60  # DescribeInstances may not show a new instance earlier
CAPACITY_AGAIN_SECONDS = 15  # until the next launch when EC2 had no capacity


class InstanceLedger:
    def __init__(self, reports: WorkerReports) -> None:
        self.reports = reports
        self._ended: set[str] = set()

    def update(self, state: FleetState, instances: Sequence[Instance]) -> list[ObservedInstance]:
        """Records what has happened to the instances since the last run. Returns those that are active.

        `instances` are all that EC2 shows, the oldest first. Once the state has been saved, delete_reports
        must be called. Raises CloudError when S3 fails.
        """
        self._ended = set()
        active = [i for i in instances if i.active]
        for instance in active:
            state.launched.setdefault(
                instance.instance_id, Launched(at=instance.launched_at, request_id=instance.request_id)
            )
        reported = self.reports.seen() if state.launched else {}
        self._note_ready(state, reported)
        self._note_ends(state, instances, reported)
        self._ended |= {
            i for i, at in reported.items() if i not in state.launched and since(at) > STRAY_SECONDS
        }
        if any(i.instance_id in reported for i in active):
            state.not_ready, state.given_up = [], None
        return [observed(i, state.launched[i.instance_id], reported) for i in active]

    def delete_reports(self) -> None:
        """Deletes the reports of the instances whose end the state has recorded. Raises CloudError."""
        for instance_id in self._ended:
            self.reports.delete(instance_id)

    def unseen(self, state: FleetState, instances: Sequence[Instance]) -> int:
        """Returns the number of launched instances that DescribeInstances does not show yet."""
        return len(set(state.launched) - {i.instance_id for i in instances})

    def _note_ready(self, state: FleetState, reported: Container[str]) -> None:
        for instance_id, launched in state.launched.items():
            if instance_id in reported and not launched.ready and (report := self.reports.get(instance_id)):
                launched.ready = True
                state.note_boot(max(0.0, (report.ready_at - launched.at).total_seconds()))

    def _note_ends(self, state: FleetState, instances: Sequence[Instance], reported: Container[str]) -> None:
        shown = {i.instance_id for i in instances}
        # An instance that shuts down has not ended yet: its worker drains, and will report once more.
        terminated = {i.instance_id: i for i in instances if i.state == "terminated"}
        for instance_id, launched in list(state.launched.items()):
            if instance_id in terminated:
                reason = terminated[instance_id].reason
                taken_by_aws = reason.startswith("Server.")
                if taken_by_aws and instance_id not in reported:  # EC2 had no capacity after all
                    state.no_launch_before = now() + timedelta(seconds=CAPACITY_AGAIN_SECONDS)
                    state.no_capacity = reason
                self._note_end(state, instance_id, launched.ending or taken_by_aws, reported)
            elif instance_id not in shown and age(launched) > LAUNCH_LAG_SECONDS:
                self._note_end(state, instance_id, launched.ending, reported)

    def _note_end(
        self, state: FleetState, instance_id: str, expected: bool, reported: Container[str]
    ) -> None:
        launched = state.launched.pop(instance_id)
        state.ended_seconds += billed(age(launched))
        if instance_id in reported:
            report = self.reports.get(instance_id)
            state.ended_images += report.images if report else 0
            state.ended_busy_seconds += report.busy_seconds if report else 0
            state.calls.update(report.calls if report else {})
            self._ended.add(instance_id)
        elif not expected:
            state.not_ready.append(instance_id)
            log.error("%s ended before its worker was ready", instance_id)


def observed(instance: Instance, launched: Launched, reported: Mapping[str, datetime]) -> ObservedInstance:
    last = reported.get(instance.instance_id)
    return ObservedInstance(
        instance_id=instance.instance_id,
        age=age(launched),
        ready=last is not None,
        silent=since(last) if last else 0.0,
        ending=launched.ending,
        protected=launched.protected,
        request_id=instance.request_id,
    )


def billed(seconds: float) -> float:
    """Returns the seconds that EC2 bills for an instance that ran for `seconds`: at least a minute."""
    return max(60.0, seconds)


def instance_seconds(state: FleetState) -> float:
    """Returns the seconds that EC2 bills so far for all instances of the fleet."""
    return state.ended_seconds + sum(billed(age(launched)) for launched in state.launched.values())


def age(launched: Launched) -> float:
    """Returns the seconds since the launch."""
    return since(launched.at)


def since(at: datetime) -> float:
    """Returns the seconds since `at`."""
    return (now() - at).total_seconds()
