"""Exports metrics of the queue and the fleet to Prometheus."""

from collections.abc import Iterator

from prometheus_client.metrics_core import GaugeMetricFamily

from controller.autoscaling.boots import medians
from controller.autoscaling.fleet_state import FleetState
from controller.dashboard.latest_state import LatestState


class FleetCollector:
    """Collects gauges of the queue and the fleet, as of the autoscaler's last run."""

    def __init__(self, latest: LatestState) -> None:
        self.latest = latest

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
        wanted = state.decisions[-1].wanted if state.decisions else 0
        yield GaugeMetricFamily(
            "classifier_instances_wanted",
            "Instances that the backlog called for when the autoscaler last ran.",
            value=wanted,
        )
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
