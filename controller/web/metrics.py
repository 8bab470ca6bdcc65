"""The controller's Prometheus metrics, which cover all its processes on a host.

Each process writes its counters and histograms to files in PROMETHEUS_MULTIPROC_DIR, a directory that the
Gunicorn configuration sets. The process that answers a scrape adds them up. The metrics of the fleet come
from the state that the autoscaler's last run wrote, so a scrape reads S3 at most once.
"""

import os
import time

from flask import Response, g, request
from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.multiprocess import MultiProcessCollector

from controller.dashboard.fleet_collector import FleetCollector
from controller.image_requests.metrics import UP_TO_300_S

# Other methods are counted as "other", which limits the number of label values.
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
OPEN_STREAMS = Gauge("classifier_open_streams", "Event streams that are open.", multiprocess_mode="livesum")


def start_request() -> None:
    g.started_at = time.perf_counter()


def end_request(response: Response) -> Response:
    route = request.url_rule.rule if request.url_rule else "unknown"
    method = request.method if request.method in METHODS else "other"
    HTTP_REQUESTS.labels(route, method, str(response.status_code)).inc()
    HTTP_SECONDS.labels(route, method).observe(time.perf_counter() - g.started_at)
    return response


def registry(fleet: FleetCollector) -> CollectorRegistry:
    """Returns a registry of all metrics, for one scrape."""
    found = CollectorRegistry()
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        MultiProcessCollector(found)
    else:
        found.register(REGISTRY)
    found.register(fleet)
    return found
