"""Keeps the fleet's state in step with EC2: which instances exist, are ready, are stopped, and have ended."""

import logging
import random
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from cloud.clock import now
from cloud.worker_reports import WorkerReport, WorkerReports
from controller.autoscaling.boots import boot_of
from controller.autoscaling.ec2_fleet import Instance
from controller.autoscaling.fleet_state import FleetState, Launched, Stopped
from controller.autoscaling.observation import ObservedInstance

log = logging.getLogger(__name__)

STRAY_SECONDS = 600  # after which a report of an instance that is in no books is deleted
LEAVING = {"shutting-down", "stopping"}
NEVER_RAN = {
    "Server.InsufficientInstanceCapacity",
    "Server.InternalError",
    "Client.InternalError",
    "Client.InvalidSnapshot.NotFound",
    "Client.VolumeLimitExceeded",
}
"""EC2's reasons for the end of an instance while it was launched.

https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_StateReason.html
"""
LAUNCH_LAG_SECONDS = 60  # DescribeInstances may not show a new instance earlier
# In each run. To read the reports of a large fleet at once would outlast the lease.
ASKED_FOR_SPEED = 10  # workers
BOOKED_AT_ONCE = 100  # workers that are ready, and as many that have ended; the next runs book the others
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
        all_reported = self.reports.seen() if active or state.launched else {}
        for instance in active:
            self._note_active(state, instance, all_reported)
        self._note_leaving(state, instances)
        reported = {
            i: at for i, at in all_reported.items() if not is_of_former_life(state.launched.get(i), at)
        }
        self._note_ready(state, reported)
        self._note_ends(state, instances, reported)
        self._note_stops(state, instances, reported)
        self._ended |= {
            i for i, at in all_reported.items() if i not in state.launched and since(at) > STRAY_SECONDS
        }
        if any(i.instance_id in reported for i in active):
            state.not_ready, state.given_up = [], None
        return [observed(i, state.launched[i.instance_id], reported) for i in active]

    def learn_speed(self, state: FleetState, active: Sequence[ObservedInstance]) -> None:
        """Learns the speed of a worker from those at work, if none that has ended has told it.

        The first workers would else end only when nothing is left to do, however many there are.
        """
        launched = state.launched
        ready = [
            i.instance_id for i in active if i.ready and launched[i.instance_id].settings == state.speed_of
        ]
        random.shuffle(ready)  # some may have had little to do
        for instance_id in ready[:ASKED_FOR_SPEED]:
            if state.full_speed is not None:
                return
            if report := self.reports.get(instance_id):
                note_speed(state, launched[instance_id], report)

    def delete_reports(self, state: FleetState) -> None:
        """Deletes the reports of the instances whose end the state has recorded. Raises CloudError.

        A worker whose instance was started again meanwhile replaces the report itself.
        """
        for instance_id in self._ended - set(state.launched):
            self.reports.delete(instance_id)

    def unseen(self, state: FleetState, instances: Sequence[Instance]) -> int:
        """Returns the number of launched or started instances that DescribeInstances does not show so yet."""
        return len(set(state.launched) - {i.instance_id for i in instances if i.state != "stopped"})

    def _note_active(self, state: FleetState, instance: Instance, reported: Mapping[str, datetime]) -> None:
        """Takes the instance into the state, also one that another process launched or started and died."""
        instance_id, launch_time = instance.instance_id, instance.launched_at
        known = state.launched.get(instance_id)
        started = instance_id in state.stopped
        if known and known.launch_time not in (None, launch_time):  # it has stopped in between
            former = {i: at for i, at in reported.items() if i == instance_id and at <= launch_time}
            ended_at = min(launch_time, last_known(state, seen_last(instance_id, known, former)))
            self._note_end(state, instance_id, True, former, ended_at)
            known, started = None, True
        if known is None:
            known = Launched(at=launch_time, request_id=instance.request_id, started=started)
            state.launched[instance_id] = known
        known.launch_time, known.leaves_since = launch_time, None
        known.settings = instance.settings
        if instance.state == "pending":
            known.pending_until = now()

    def _note_leaving(self, state: FleetState, instances: Sequence[Instance]) -> None:
        for instance in instances:
            known = state.launched.get(instance.instance_id)
            if known and instance.state in LEAVING and not known.starts_unseen:
                known.leaves_since = known.leaves_since or now()

    def _note_ready(self, state: FleetState, reported: Mapping[str, datetime]) -> None:
        new = [i for i, launched in state.launched.items() if i in reported and not launched.ready]
        for instance_id in new[:BOOKED_AT_ONCE]:
            if report := self.reports.get(instance_id):
                launched = state.launched[instance_id]
                launched.ready = True
                seconds = max(0.0, (report.ready_at - launched.at).total_seconds())
                state.note_boot(min(seconds, age(launched)), started=launched.started)
                if boot := boot_of(report, launched.at, launched.call, started=launched.started):
                    state.note_stages(boot)

    def _note_ends(
        self, state: FleetState, instances: Sequence[Instance], reported: Mapping[str, datetime]
    ) -> None:
        shown = {i.instance_id for i in instances}
        # An instance that shuts down has not ended yet: its worker drains, and will report once more.
        terminated = {i.instance_id: i for i in instances if i.state == "terminated"}
        for instance_id, launched in list(state.launched.items()):
            last_seen = seen_last(instance_id, launched, reported)
            if self._is_left_to_the_next_run(instance_id, reported):
                continue
            if instance_id in terminated:
                taken_by_aws = ended_by_aws(terminated[instance_id])
                if taken_by_aws and instance_id not in reported:  # EC2 had no capacity after all
                    state.no_launch_before = now() + timedelta(seconds=CAPACITY_AGAIN_SECONDS)
                    state.no_capacity = terminated[instance_id].reason
                    walk = state.walk_of(launched.spot)
                    if launched.choice == walk.next:
                        walk.pass_by(hope=True)
                expected = launched.told_to_end or taken_by_aws
                ran = instance_id in reported or terminated[instance_id].reason not in NEVER_RAN
                self._note_end(state, instance_id, expected, reported, last_known(state, last_seen), ran=ran)
            elif instance_id not in shown and since(last_seen) > LAUNCH_LAG_SECONDS:
                # It may be gone since long ago. One whose worker reports is there, whatever EC2 shows.
                self._note_end(state, instance_id, launched.told_to_end, reported, ended_at=last_seen)

    def _note_stops(
        self, state: FleetState, instances: Sequence[Instance], reported: Mapping[str, datetime]
    ) -> None:
        """Books the stop of an instance like an end, and remembers since when it has been stopped."""
        stopped = {i.instance_id: i for i in instances if i.state == "stopped"}
        for instance_id, instance in stopped.items():
            launched = state.launched.get(instance_id)
            if launched and self._is_left_to_the_next_run(instance_id, reported):
                continue
            unseen = launched is not None and launched.starts_unseen
            if launched and unseen and not ended_by_aws(instance) and age(launched) <= LAUNCH_LAG_SECONDS:
                continue
            stopped_at = now()
            if launched and not launched.ready and (unseen or ended_by_aws(instance)):
                del state.launched[instance_id]  # EC2 bills nothing for it
            elif launched:
                last_seen = seen_last(instance_id, launched, reported)
                stopped_at = launched.leaves_since or last_known(state, last_seen)
                self._note_end(state, instance_id, True, reported, stopped_at)
            usable = launched is not None and launched.ready
            state.stopped.setdefault(instance_id, Stopped(since=stopped_at, usable=usable))
        for instance_id in [i for i in state.stopped if i not in stopped]:
            state.forget_stopped(instance_id, now())

    def _is_left_to_the_next_run(self, instance_id: str, reported: Mapping[str, datetime]) -> bool:
        """Returns whether this run has booked so many ends that it books none with a report any more."""
        return instance_id in reported and len(self._ended) >= BOOKED_AT_ONCE

    def _note_end(
        self,
        state: FleetState,
        instance_id: str,
        expected: bool,
        reported: Mapping[str, datetime],
        ended_at: datetime,
        *,
        ran: bool = True,
    ) -> None:
        """Moves an instance from `launched` into the sums.

        It has ended at `ended_at`, unless EC2 has shown before that it leaves. EC2 bills nothing if it never
        `ran`.
        """
        launched = state.launched.pop(instance_id)
        if ran:
            state.ended_seconds += billed_until(launched, ended_at)
        if instance_id in reported:
            if report := self.reports.get(instance_id):
                note_speed(state, launched, report)
                state.ended_images += report.images
                state.ended_busy_seconds += report.busy_seconds
                state.calls.update(report.calls)
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
        protected=launched.protected_until is not None,
        request_id=launched.request_id,
        spot=instance.market == "spot",
    )


def note_speed(state: FleetState, launched: Launched, report: WorkerReport) -> None:
    """Learns the speed of workers from the images that one of them has classified.

    One that was launched with other settings tells nothing.
    """
    if launched.settings != state.speed_of:
        return
    images = report.images if report.classified is None else report.classified
    state.note_speed(images, report.busy_seconds)


def ended_by_aws(instance: Instance) -> bool:
    """Returns whether EC2 itself has ended the instance or has not let it start."""
    return instance.reason.startswith("Server.")


def seen_last(instance_id: str, launched: Launched, reported: Mapping[str, datetime]) -> datetime:
    """Returns when the instance's worker last reported, or when it was launched if it has not since then."""
    return max(launched.at, reported.get(instance_id, launched.at))


def last_known(state: FleetState, last_seen: datetime) -> datetime:
    """Returns until when an instance is known to have run that the last run of the autoscaler saw.

    `last_seen` is when it was launched, or when its worker last reported. No controller may have run for a
    while since then, and EC2 does not say when it ended.
    """
    return max(last_seen, state.ran_at) if state.ran_at else now()


def is_of_former_life(launched: Launched | None, reported_at: datetime) -> bool:
    """Returns whether a report was written before the instance was stopped and started again.

    AWS gives both times to the second, and no worker is ready in the second of its start.
    """
    if launched is None or not launched.started:
        return False
    return launched.launch_time is None or reported_at <= launched.launch_time.replace(microsecond=0)


def billed(seconds: float) -> float:
    """Returns the seconds that EC2 bills for an instance that ran for `seconds`: at least a minute."""
    return max(60.0, seconds)


def billed_until(launched: Launched, until: datetime) -> float:
    """Returns the seconds that EC2 bills for an instance until it ends, or for one that runs so far."""
    began, ended = launched.pending_until or launched.at, launched.leaves_since or until
    return billed((ended - began).total_seconds())


def instance_seconds(state: FleetState) -> float:
    """Returns the seconds that EC2 bills so far for all instances of the fleet."""
    return state.ended_seconds + sum(billed_until(launched, now()) for launched in state.launched.values())


def stopped_seconds(state: FleetState) -> float:
    """Returns the seconds that instances of the fleet were stopped so far, all together."""
    return state.stopped_seconds + sum(since(stopped.since) for stopped in state.stopped.values())


def age(launched: Launched) -> float:
    """Returns the seconds since the launch."""
    return since(launched.at)


def since(at: datetime) -> float:
    """Returns the seconds since `at`."""
    return (now() - at).total_seconds()
