"""What `GET /fleet` shows: the queue, the instances, what was decided and why, and the money."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from pydantic import BaseModel

from cloud.fleet_reports import FleetReports, WorkerReport
from cloud.request_queue import RequestQueue
from controller.fleet import Fleet, Instance
from controller.fleet_state import Decision, FleetState, SharedState, now


class InstanceView(BaseModel):
    instance_id: str
    name: str
    state: str
    """EC2's, but `ready` once the worker in it has reported, `draining` once it takes no more."""
    instance_type: str
    market: str
    age_seconds: float
    images: int
    """That it has answered."""
    request_id: str
    """The request it was launched for."""


class Money(BaseModel):
    instance_seconds: float
    """Of all instances so far."""
    price_per_hour: float
    dollars: float
    images: int
    """That they have answered."""
    dollars_per_1000_images: float | None


class FleetAnswer(BaseModel):
    queue: dict[str, int]
    max_instances: int
    max_images_per_instance: int
    instances: list[InstanceView]
    money: Money
    decisions: list[Decision]
    """The newest first."""


class FleetView:
    def __init__(
        self,
        queue: RequestQueue,
        fleet: Fleet,
        shared: SharedState,
        reports: FleetReports,
        *,
        max_instances: int,
        max_images_per_instance: int,
        price_per_hour: float,
    ) -> None:
        self.queue, self.fleet, self.shared, self.reports = queue, fleet, shared, reports
        self.max_instances, self.max_images_per_instance = max_instances, max_images_per_instance
        self.price_per_hour = price_per_hour

    def read(self) -> FleetAnswer:
        """CloudError when AWS does not answer."""
        with ThreadPoolExecutor(8) as pool:
            counts = pool.submit(self.queue.counts)
            state = pool.submit(self.shared.peek)
            active = [i for i in self.fleet.instances() if i.state not in ("terminated", "stopped")]
            reports = list(pool.map(self.reports.get, [i.instance_id for i in active]))
        instances = [view(i, report) for i, report in zip(active, reports, strict=True)]
        return FleetAnswer(
            queue={
                "visible": counts.result().visible,
                "in_flight": counts.result().in_flight,
                "delayed": counts.result().delayed,
            },
            max_instances=self.max_instances,
            max_images_per_instance=self.max_images_per_instance,
            instances=instances,
            money=self._money(state.result(), instances),
            decisions=state.result().decisions[::-1],
        )

    def _money(self, state: FleetState, instances: list[InstanceView]) -> Money:
        booked = [i for i in instances if i.instance_id in state.launched]
        seconds = state.ended_seconds + sum(i.age_seconds for i in booked)
        images = state.ended_images + sum(i.images for i in booked)
        dollars = seconds / 3600 * self.price_per_hour
        return Money(
            instance_seconds=round(seconds, 1),
            price_per_hour=self.price_per_hour,
            dollars=round(dollars, 6),
            images=images,
            dollars_per_1000_images=round(dollars / images * 1000, 6) if images else None,
        )


def view(instance: Instance, report: WorkerReport | None) -> InstanceView:
    shared: dict[str, Any] = {
        name: getattr(instance, name)
        for name in ("instance_id", "name", "instance_type", "market", "request_id")
    }
    state = instance.state
    if state == "running" and report:
        state = "draining" if report.draining else "ready"
    return InstanceView(
        **shared,
        state=state,
        age_seconds=round((now() - instance.launched_at).total_seconds(), 1),
        images=report.images if report else 0,
    )
