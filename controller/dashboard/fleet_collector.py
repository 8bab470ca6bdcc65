"""Exports metrics of the queue and the fleet to Prometheus."""

from collections.abc import Iterator

from prometheus_client.metrics_core import GaugeMetricFamily

from controller.autoscaling.boots import medians
from controller.autoscaling.fleet_state import FleetState
from controller.autoscaling.instance_ledger import instance_seconds, stopped_seconds
from controller.dashboard.bill import entries
from controller.dashboard.latest_state import LatestState


class FleetCollector:
    """Collects gauges of the queue and the fleet, as of the autoscaler's last run."""

    def __init__(self, latest: LatestState, price_per_hour: float) -> None:
        self.latest, self.price_per_hour = latest, price_per_hour

    def collect(self) -> Iterator[GaugeMetricFamily]:
        state = self.latest.get()
        yield GaugeMetricFamily(
            "classifier_fleet_state_readable",
            "Whether the fleet's state could be read; if not, queue and instances are missing here.",
            value=int(state is not None),
        )
        if state is None:
            return
        seen = state.seen
        queue = GaugeMetricFamily(
            "classifier_queue_images", "Images in the queue when the autoscaler last ran.", labels=["state"]
        )
        queue.add_metric(["visible"], seen.get("visible", 0) + seen.get("delayed", 0))
        queue.add_metric(["in_flight"], seen.get("in_flight", 0))
        yield queue
        instances = GaugeMetricFamily(
            "classifier_instances", "Worker instances when the autoscaler last ran.", labels=["state"]
        )
        for name in ("pending", "running", "stopped"):
            instances.add_metric([name], seen.get(name, 0))
        yield instances
        yield GaugeMetricFamily(
            "classifier_open_batches",
            "Batches that were not finished when the autoscaler last ran.",
            value=state.batches.open,
        )
        yield GaugeMetricFamily(
            "classifier_batch_images_left",
            "Images of batches that were listed and not answered when the autoscaler last ran.",
            value=state.batches.images_left,
        )
        wanted = state.decisions[-1].wanted if state.decisions else 0
        yield GaugeMetricFamily(
            "classifier_instances_wanted",
            "Instances that backlog and batches called for when the autoscaler last ran.",
            value=wanted,
        )
        cost = GaugeMetricFamily(
            "classifier_cost_dollars",
            "What the fleet has cost so far; the calls of an instance are added when it ends.",
            labels=["item"],
        )
        for entry in entries(
            instance_seconds(state), stopped_seconds(state), state.calls, self.price_per_hour
        ):
            cost.add_metric([entry.item], entry.dollars)
        yield cost
        yield boot_stages(state)


def boot_stages(state: FleetState) -> GaugeMetricFamily:
    family = GaugeMetricFamily(
        "classifier_boot_stage_seconds",
        "Median time of each stage from a message to a worker that is ready, over the last instances.",
        labels=["stage", "how"],
    )
    for how, started in (("launch", False), ("start", True)):
        for stage, seconds in medians(state.boots, started=started).items():
            family.add_metric([stage, how], seconds)
    return family
