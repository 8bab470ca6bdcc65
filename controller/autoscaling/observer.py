"""Observes the queue, the fleet and the requests that wait for one run of the autoscaler."""

import logging
import time
from collections.abc import Callable, Container, Sequence
from dataclasses import asdict, dataclass

from cloud.clock import now
from cloud.errors import CloudError
from cloud.request_queue import QueueCounts, RequestQueue
from controller.autoscaling.ec2_fleet import Fleet, Instance
from controller.autoscaling.fleet_state import FleetState, OpenBatches
from controller.autoscaling.instance_ledger import InstanceLedger
from controller.autoscaling.observation import BOOT_GUESS_SECONDS, Counts, Observation
from controller.batches.load import BatchLoad
from controller.image_requests.journal import Journal
from controller.image_requests.recovery import Recovery
from controller.image_requests.waiting import Waiting

log = logging.getLogger(__name__)

COUNT_AGAIN_SECONDS = 0.25  # between the two counts of an empty queue


@dataclass(frozen=True)
class Observed:
    """An observation, and what it was made of."""

    observation: Observation
    instances: list[Instance]
    """The instances that are pending or running, the oldest first."""
    pool: list[Instance]
    """The instances that are stopping or stopped."""
    waiting: Waiting


class Observer:
    def __init__(
        self,
        queue: RequestQueue,
        fleet: Fleet,
        ledger: InstanceLedger,
        journal: Journal,
        recovery: Recovery,
        waiting: Callable[[], Waiting],
        batches: Callable[[], Sequence[BatchLoad]],
        count_again_seconds: float = COUNT_AGAIN_SECONDS,
    ) -> None:
        self.queue, self.fleet, self.ledger = queue, fleet, ledger
        self.journal, self.recovery = journal, recovery
        self.waiting, self.batches = waiting, batches
        self.count_again_seconds = count_again_seconds
        self._noted = Waiting()
        self._batches: Sequence[BatchLoad] = ()

    def sees_no_messages(self) -> bool:
        """Returns whether the queue is empty, no request waits here, and no batch is open.

        Raises CloudError when AWS fails.
        """
        return not (self.waiting().requests or self.queue.counts().backlog or self._open_batches())

    def sees_nothing(self, at_rest: Container[str] = ()) -> bool:
        """Returns whether nothing waits and no instance is active. Raises CloudError when AWS fails.

        `at_rest` are the ids of the stopped instances about which there is nothing to do.
        """
        return self.sees_no_messages() and not (
            any(i.active or (i.pooled and i.instance_id not in at_rest) for i in self.fleet.instances())
            or self.journal.markers()
        )

    def observe(self, state: FleetState) -> Observed:
        """Observes everything, and brings `state` up to date with it. Raises CloudError when AWS fails.

        SQS's counts are approximate, so an empty queue is counted again before it is believed. If it is still
        empty, lost messages are sent again.
        """
        waiting, queue, instances = self.waiting(), self.queue.counts(), self.fleet.instances()
        batches = self._open_batches()
        active = self.ledger.update(state, instances)
        self.ledger.learn_speed(state, active)
        state.batches = OpenBatches.of(batches)
        unanswered: dict[str, int] = {}
        counts = count(queue, waiting, instances)
        quiet = not counts.backlog
        if quiet and (active or self.journal.markers()):
            submitted = waiting.submitted
            time.sleep(self.count_again_seconds)
            waiting, queue = self.waiting(), self.queue.counts()
            counts = count(queue, waiting, instances)
            quiet = not counts.backlog and waiting.submitted == submitted
            if quiet:
                unanswered = self.recovery.settle()
        at = now().timestamp()
        self._note_sent(state, waiting, at)
        observation = Observation(
            now=at,
            counts=counts,
            quiet=quiet,
            instances=active,
            unseen=self.ledger.unseen(state, instances),
            ending=len(state.launched) - len(active),
            requests=len(waiting.requests),
            unanswered=unanswered,
            batches=batches,
            arrivals=state.demand.arrivals(at),
            called_for_lately=state.demand.called_for_lately(at),
            levels=state.demand.levels(at),
            boot_seconds=state.boot_seconds or BOOT_GUESS_SECONDS,
            images_per_second=state.images_per_second,
            full_speed=state.full_speed,
            no_launch_before=state.no_launch_before.timestamp() if state.no_launch_before else None,
            cannot_launch=state.cannot_launch,
            not_ready=tuple(state.not_ready),
            given_up=state.given_up.reason if state.given_up else "",
            given_up_until=state.given_up.until.timestamp() if state.given_up else 0.0,
        )
        pool = [i for i in instances if i.pooled]
        return Observed(observation, [i for i in instances if i.active], pool, waiting)

    def _open_batches(self) -> Sequence[BatchLoad]:
        """Returns what batches ask for. If that cannot be read, what was read last holds: requests go on."""
        try:
            self._batches = self.batches()
        except CloudError as error:
            log.warning("%s; what batches asked for last holds", error)
        return self._batches

    def _note_sent(self, state: FleetState, waiting: Waiting, at: float) -> None:
        before, self._noted = self._noted, waiting
        state.note_sent(waiting.submitted - before.submitted, waiting.images - before.images, at)


def count(queue: QueueCounts, waiting: Waiting, instances: list[Instance]) -> Counts:
    states = [instance.state for instance in instances]
    return Counts(
        **asdict(queue),
        just_sent=waiting.just_sent,
        pending=states.count("pending"),
        running=states.count("running"),
        stopped=states.count("stopped"),
    )
