"""Some controllers that share one AWS."""

from collections.abc import Sized
from datetime import datetime, timedelta
from io import BytesIO
from threading import Event, Lock

from cloud.buckets import Bucket
from cloud.call_counts import CallCounts, UnbookedCalls
from cloud.clients import S3Client
from cloud.clock import now
from cloud.errors import CloudError
from cloud.image_id import ImageId, new_request_id
from cloud.worker_reports import WorkerReport, WorkerReports
from controller.autoscaling.autoscaler import Autoscaler
from controller.autoscaling.ec2_fleet import Fleet
from controller.autoscaling.fleet_history import FleetHistory
from controller.autoscaling.instance_ledger import InstanceLedger
from controller.autoscaling.observer import Observer
from controller.autoscaling.planner import IDLE_SECONDS, Policy
from controller.autoscaling.shared_state import SharedState
from controller.batches.load import BatchLoad
from controller.image_requests.journal import Journal, Marker
from controller.image_requests.recovery import Recovery
from controller.image_requests.waiting import Waiting
from tests.support.launch_plan import plan

MAXIMUM, PER_INSTANCE, BOOT_TIMEOUT, SILENT_AFTER = 5, 10, 300, 60


class AtomicBucket(Bucket):
    """S3's writes are atomic, also for who reads meanwhile; those of moto in one process are not."""

    lock = Lock()

    def write(self, key, body, **more):
        with self.lock:
            return super().write(key, body, **more)

    def read_aged(self, key):
        with self.lock:
            return super().read_aged(key)


class FailingBucket(AtomicBucket):
    """A bucket whose writes fail as soon as `failing` is not empty."""

    def __init__(self, s3: S3Client, name: str, failing: Sized, reason: str) -> None:
        super().__init__(s3, name)
        self.failing, self.reason = failing, reason

    def write(self, key, body, **more):
        if self.failing:
            raise CloudError(self.reason)
        return super().write(key, body, **more)


class Controller:
    """An autoscaler, and the requests that its process has."""

    def __init__(self, queue, fleet, state, inputs, outputs, now=now, warm_pool=0):
        self.requests: dict[str, int] = {}
        self.calls, self.clock = CallCounts(), 1000.0
        self.sent_at: datetime | None = None
        self.batches: list[BatchLoad] = []
        self.journal = journal = Journal(state, inputs, outputs)
        recovery = Recovery(queue, outputs, journal, now)
        ledger = InstanceLedger(WorkerReports(state))
        self.autoscaler = Autoscaler(
            Observer(
                queue,
                fleet,
                ledger,
                journal,
                recovery,
                self.waiting,
                lambda: self.batches,
                count_again_seconds=0.01,
            ),
            Policy(MAXIMUM, PER_INSTANCE, BOOT_TIMEOUT, SILENT_AFTER),
            fleet,
            SharedState(state, lambda: self.clock, UnbookedCalls(self.calls)),
            FleetHistory(state),
            recovery,
            Event(),
            warm_pool,
        )

    def reconcile(self) -> bool:
        """Runs the autoscaler once, or twice if it wants to run again at once. Returns whether it is busy."""
        seconds = self.autoscaler.reconcile() or self.autoscaler.reconcile()
        return seconds < IDLE_SECONDS

    def waiting(self) -> Waiting:
        images, requests = sum(self.requests.values()), len(self.requests)
        return Waiting(tuple(self.requests), images, requests, sent_at=self.sent_at if requests else None)


class World:
    """Some controllers, and an AWS whose time the test moves."""

    def __init__(self, aws, queue, inputs, outputs, state, warm_pool=0):
        self.queue, self.inputs = queue, inputs
        self.outputs, self.state = outputs, AtomicBucket(aws.s3, state.name)
        self.fleet = Fleet(aws.ec2, "state", "worker", plan())
        self.passed, self.warm_pool = timedelta(), warm_pool
        self.shared, self.reports = SharedState(self.state), WorkerReports(self.state)
        self.controllers = [self.controller()]
        self.reconcile = self.controllers[0].reconcile

    def controller(self) -> Controller:
        buckets = self.state, self.inputs, self.outputs
        return Controller(self.queue, self.fleet, *buckets, self.now, self.warm_pool)

    def now(self) -> datetime:
        return now() + self.passed

    def ask(self, images: int, controller: Controller | None = None, *, send: bool = True) -> str:
        controller = controller or self.controllers[0]
        request_id = new_request_id(controller.journal.shard)
        image_ids = [ImageId.make(request_id, n, "cat.jpg") for n in range(images)]
        controller.journal.open(request_id)
        for image_id in image_ids:
            self.inputs.put_image(image_id, BytesIO(b"x"), "image/png")
        if send:
            self.queue.send(image_ids)
        controller.requests[request_id] = images
        return request_id

    def close(self, request_id: str, controller: Controller | None = None) -> None:
        """As the polling thread does after the last answer."""
        controller = controller or self.controllers[0]
        del controller.requests[request_id]
        controller.journal.close(request_id)

    def ready(self, *instance_ids: str) -> None:
        for i in instance_ids:
            self.reports.put(WorkerReport(instance_id=i, model="m", ready_at=now(), seen_at=now()))

    def pass_seconds(self, seconds: float) -> None:
        """Lets time pass: everything that was noted was noted so long ago."""
        ago = timedelta(seconds=seconds)
        with self.shared.hold(0) as lease:
            for launched in lease.state.launched.values():
                launched.at -= ago
                launched.pending_until = launched.pending_until and launched.pending_until - ago
                launched.leaves_since = launched.leaves_since and launched.leaves_since - ago
                launched.not_asked_before = launched.not_asked_before and launched.not_asked_before - ago
            for stopped in lease.state.stopped.values():
                stopped.since -= ago
                stopped.not_asked_before = stopped.not_asked_before and stopped.not_asked_before - ago
            if lease.state.no_launch_before:
                lease.state.no_launch_before -= ago
            if lease.state.ran_at:
                lease.state.ran_at -= ago
            if lease.state.swept_at:
                lease.state.swept_at -= ago
            if lease.state.given_up:
                lease.state.given_up.until -= ago
            if lease.state.unanswered:
                lease.state.unanswered.at -= ago
            for walk in (lease.state.walk, lease.state.spot_walk):
                if walk.began:
                    walk.began -= ago
            if lease.state.failing_since:
                lease.state.failing_since -= ago
            for noted in (*lease.state.demand.sent, *lease.state.demand.called_for):
                noted.at -= seconds
        self.passed += ago

    @property
    def markers(self) -> list[Marker]:
        """The markers of all controllers."""
        return self.controllers[0].journal.markers()

    @property
    def active(self) -> list[str]:
        return [i.instance_id for i in self.fleet.instances() if i.active]

    def ids(self, *states: str) -> list[str]:
        return [i.instance_id for i in self.fleet.instances() if i.state in states]

    @property
    def names(self) -> list[str]:
        return sorted(i.name for i in self.fleet.instances() if i.active)

    @property
    def why(self) -> str:
        """The reasons of the last decision."""
        return "\n".join(self.shared.peek().decisions[-1].why)

    @property
    def reasons(self) -> list[str]:
        """The reasons of all decisions."""
        return [why for decision in self.shared.peek().decisions for why in decision.why]
