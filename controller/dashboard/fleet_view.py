"""Gathers the data of `GET /fleet`: the queue, the instances, the decisions with reasons, and the bill."""

import re
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any

from pydantic import BaseModel

from cloud.clock import now
from cloud.errors import CloudError
from cloud.request_queue import QueueCounts, RequestQueue
from cloud.shared_reading import SharedReading
from cloud.worker_reports import WorkerReport, WorkerReports
from controller.autoscaling.boots import Boot
from controller.autoscaling.ec2_fleet import Fleet, Instance
from controller.autoscaling.fleet_history import FleetHistory, Sample
from controller.autoscaling.fleet_state import Decision, FleetState, OpenBatches
from controller.autoscaling.instance_ledger import instance_seconds, stopped_seconds
from controller.autoscaling.shared_state import SharedState
from controller.dashboard.bill import Bill, bill
from controller.dashboard.fleet_chart import since
from controller.dashboard.scaling_costs import Scaling, ScalingCosts, ScalingReplay
from controller.image_requests.results import model_in_words

FRESH_SECONDS = 1.0  # an answer is reused for at least this long
READING_SHARE = 0.2  # the largest share of the time spent on reading; a large fleet has many reports
# A request-id has 28 hex digits. The first group is the part that may be shown.
REQUEST_ID = re.compile(r"\b([0-9a-f]{16})[0-9a-f]{16}\b")
ENDING = ("shutting-down", "stopping", "stopped")
"""The states of an instance that is going or gone."""


class InstanceView(BaseModel):
    """One instance of the fleet."""

    instance_id: str
    name: str
    state: str
    """EC2's state. `running` becomes `ready` once the worker has reported, or `draining`.

    A `stopped` one costs only its disk, and is started when it is needed again.
    """
    instance_type: str
    market: str
    age_seconds: float
    """Seconds since it was launched, or last started."""
    images: int
    """The number of images that its worker has processed."""
    model: str = ""
    """The model of its worker. It is "" until the worker has reported, as are engine and precision."""
    engine: str = ""
    precision: str = ""

    @property
    def classifies_with(self) -> str:
        """The model with its precision and engine, in words for people."""
        return model_in_words(self.model, self.engine, self.precision)

    request_id: str
    """The request it was launched for. The id is cut, because a full one gives access to the images."""


class FleetAnswer(BaseModel):
    """The state of the queue and the fleet, with recent decisions and history."""

    at: datetime
    queue: dict[str, int]
    batches: OpenBatches = OpenBatches()
    max_instances: int
    max_images_per_instance: int
    instances: list[InstanceView]
    """The instances, also those that are stopped or are ending. Only `up` of them run or are starting."""
    money: Bill
    decisions: list[Decision]
    """The decisions of the autoscaler, newest first."""
    boots: list[Boot] = []
    """How long the last instances took to get ready, stage by stage, newest first."""
    history: list[Sample]
    """Samples from oldest to newest. Each is valid until the next one, and the last is taken at `at`."""
    scaling: Scaling = "queue"
    """The setting SCALING."""
    scaling_costs: ScalingCosts | None = None
    """None if nothing was sent in the last day, while the speed of a worker is unknown, or if they take too
    long to compute."""

    @property
    def up(self) -> int:
        """The number of instances that are starting or run, which are those that MAX_INSTANCES limits."""
        return sum(instance.state not in ENDING for instance in self.instances)

    def lately(self, window: timedelta) -> "FleetAnswer":
        """Returns a copy whose history is limited to the last `window`."""
        return self.model_copy(update={"history": since(self.history, self.at - window)})


class FleetView:
    def __init__(
        self,
        queue: RequestQueue,
        fleet: Fleet,
        shared: SharedState,
        reports: WorkerReports,
        history: FleetHistory,
        *,
        max_instances: int,
        max_images_per_instance: int,
        price_per_hour: float,
        replay: ScalingReplay,
        charged: bool = True,
    ) -> None:
        self.queue, self.fleet, self.shared, self.reports = queue, fleet, shared, reports
        self.history = history
        self.max_instances, self.max_images_per_instance = max_instances, max_images_per_instance
        self.price_per_hour, self.charged = price_per_hour, charged
        self.replay = replay
        self.readings: SharedReading[FleetAnswer | CloudError] = SharedReading(FRESH_SECONDS, READING_SHARE)

    def recent(self) -> FleetAnswer:
        """Returns the fleet as of a moment ago.

        Calls at about the same time share one reading, or one failure. Raises CloudError when AWS fails.
        """
        answer = self.readings.get(self._read_or_error)
        if isinstance(answer, CloudError):
            raise answer
        return answer

    def _read_or_error(self) -> FleetAnswer | CloudError:
        """Returns the error as a value if AWS fails, so that it is shared as well."""
        try:
            return self.read()
        except CloudError as error:
            return error

    def read(self) -> FleetAnswer:
        """Reads the present state of the fleet. Raises CloudError when AWS fails."""
        with ThreadPoolExecutor(16) as pool:
            counts, peeked = pool.submit(self.queue.counts), pool.submit(self.shared.peek_with_booked)
            history = pool.submit(self.history.read)
            found = self.fleet.instances()
            state, booked = peeked.result()
            # Include ended instances that the shared state does not count as ended yet, for the costs.
            known = [i for i in found if i.state != "terminated" or i.instance_id in state.launched]
            reporting = [
                i.instance_id for i in known if i.state != "stopped" or i.instance_id in state.launched
            ]
            reports = dict(zip(reporting, pool.map(self.reports.get, reporting), strict=True))
        views = [view(i, reports.get(i.instance_id)) for i in known]
        decisions = state.decisions[::-1]
        at = now()
        sample = sample_of(counts.result(), views, decisions[0].wanted if decisions else 0, at)
        return FleetAnswer(
            at=at,
            queue={
                "visible": counts.result().visible,
                "in_flight": counts.result().in_flight,
                "delayed": counts.result().delayed,
            },
            batches=state.batches,
            max_instances=self.max_instances,
            max_images_per_instance=self.max_images_per_instance,
            instances=[i for i in views if i.state != "terminated"],
            money=self._bill(state, booked, reports.values()),
            decisions=[abridged(decision) for decision in decisions],
            boots=state.boots[::-1],
            history=[*(s for s in history.result() if s.at < at), sample],
            scaling=self.replay.policy.scaling,
            scaling_costs=self.replay.recent(history.result(), state, at),
        )

    def _bill(self, state: FleetState, booked: Counter[str], reports: Iterable[WorkerReport | None]) -> Bill:
        """Returns the bill.

        `booked` are the calls of this process that the state contains. `reports` are those of all instances
        that the state does not count as ended.
        """
        running = [report for report in reports if report and report.instance_id in state.launched]
        calls = state.calls + self.shared.unbooked.since(booked)
        for report in running:
            calls += report.calls
        return bill(
            instance_seconds(state),
            stopped_seconds(state),
            calls,
            images=state.ended_images + sum(report.images for report in running),
            price_per_hour=self.price_per_hour,
            charged=self.charged,
        )


def sample_of(counts: QueueCounts, instances: list[InstanceView], wanted: int, at: datetime) -> Sample:
    states = [i.state for i in instances]
    return Sample(
        at=at,
        visible=counts.visible + counts.delayed,
        in_flight=counts.in_flight,
        starting=states.count("pending") + states.count("running"),
        ready=states.count("ready") + states.count("draining"),
        wanted=wanted,
    )


def view(instance: Instance, report: WorkerReport | None) -> InstanceView:
    shared: dict[str, Any] = {
        name: getattr(instance, name) for name in ("instance_id", "name", "instance_type", "market")
    }
    state = instance.state
    if state == "running" and report:
        state = "draining" if report.draining else "ready"
    return InstanceView(
        **shared,
        request_id=abridge(instance.request_id),
        state=state,
        age_seconds=max(0.0, round((now() - instance.launched_at).total_seconds(), 1)),
        images=report.images if report else 0,
        **(report.model_dump(include={"model", "engine", "precision"}) if report else {}),
    )


def abridged(decision: Decision) -> Decision:
    return decision.model_copy(update={"why": [abridge(why) for why in decision.why]})


def abridge(text: str) -> str:
    """Shortens all request-ids in `text`, because a full one gives access to its request."""
    return REQUEST_ID.sub(r"\1…", text)
