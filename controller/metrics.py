"""What the controller tells Prometheus, right across all its processes on a host.

Counters and histograms are each process's own, in files that Gunicorn's configuration has a place for
(PROMETHEUS_MULTIPROC_DIR), and are added up by whichever process is asked. What concerns the fleet comes from
the last look's note of it, so that to ask costs at most one read of S3.
"""

import os
import time
from collections.abc import Iterator

from flask import Response, g, request
from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.metrics_core import GaugeMetricFamily
from prometheus_client.multiprocess import MultiProcessCollector

from controller.latest_state import LatestState

UP_TO_300_S = (0.01, 0.03, 0.1, 0.3, 1, 2, 5, 10, 20, 30, 60, 90, 120, 180, 300)
METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}

HTTP_REQUESTS = Counter(
    "classifier_http_requests", "HTTP requests that were answered.", ["route", "method", "status"]
)
HTTP_SECONDS = Histogram(
    "classifier_http_request_duration_seconds",
    "Time until the answer to an HTTP request began.",
    ["route", "method"],
    buckets=UP_TO_300_S,
)
IMAGES = Counter(
    "classifier_images",
    "Uploaded images: classified, failed, cached, refused (when uploaded) or unanswered (in time).",
    ["outcome"],
)
for outcome in ("classified", "failed", "cached", "refused", "unanswered"):
    IMAGES.labels(outcome)  # a rate needs the 0 that it began with
UPLOAD_SECONDS = Histogram(
    "classifier_upload_seconds",
    "Time to store a request's images in S3 and to put them in the queue.",
    buckets=UP_TO_300_S,
)
ANSWER_SECONDS = Histogram(
    "classifier_answer_seconds",
    "Time from an image's being in the queue to its answer, as its controller saw it.",
    buckets=UP_TO_300_S,
)
OPEN_STREAMS = Gauge("classifier_open_streams", "Event streams that are open.", multiprocess_mode="livesum")
LAUNCHED = Counter("classifier_instances_launched", "Instances that were launched.")
TERMINATED = Counter("classifier_instances_terminated", "Instances that the autoscaler terminated.")
LAUNCH_ERRORS = Counter("classifier_launch_errors", "Launches that EC2 refused or did not answer.")


def start_request() -> None:
    g.started_at = time.perf_counter()


def end_request(response: Response) -> Response:
    route = request.url_rule.rule if request.url_rule else "unknown"
    method = request.method if request.method in METHODS else "other"
    HTTP_REQUESTS.labels(route, method, str(response.status_code)).inc()
    HTTP_SECONDS.labels(route, method).observe(time.perf_counter() - g.started_at)
    return response


class FleetCollector:
    """Gauges of queue and fleet as of the last look."""

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
            "classifier_queue_images", "Images in the queue at the last look.", labels=["state"]
        )
        queue.add_metric(["visible"], seen.get("visible", 0) + seen.get("delayed", 0))
        queue.add_metric(["in_flight"], seen.get("in_flight", 0))
        yield queue
        instances = GaugeMetricFamily(
            "classifier_instances", "Worker instances at the last look.", labels=["state"]
        )
        for name in ("pending", "running"):
            instances.add_metric([name], seen.get(name, 0))
        yield instances
        wanted = state.decisions[-1].wanted if state.decisions else 0
        yield GaugeMetricFamily(
            "classifier_instances_wanted",
            "Instances that the backlog called for at the last look.",
            value=wanted,
        )


def registry(fleet: FleetCollector) -> CollectorRegistry:
    """Everything, for one answer."""
    found = CollectorRegistry()
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        MultiProcessCollector(found)
    else:
        found.register(REGISTRY)
    found.register(fleet)
    return found
