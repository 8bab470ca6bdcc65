"""Prometheus metrics of the worker. They are served if METRICS_PORT is set."""

import logging

from prometheus_client import Counter, Histogram, start_http_server

log = logging.getLogger(__name__)

# Upper bounds of histogram buckets, in seconds.
UP_TO_30_S = (0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30)

IMAGES = Counter(
    "classifier_worker_images",
    "Images by what became of them here: classified, failed, answered_already (by another worker), returned.",
    ["outcome"],
)
for outcome in ("classified", "failed", "answered_already", "returned"):
    IMAGES.labels(outcome)  # export 0 at first; rate() would miss the first image otherwise
BATCH_IMAGES = Histogram(
    "classifier_worker_batch_images", "Images that went through the model at once.", buckets=(1, 2, 3, 4, 5)
)
STEP_SECONDS = Histogram(
    "classifier_worker_step_seconds",
    "Time of each step: fetch and decode of an image, classify of a batch.",
    ["step"],
    buckets=UP_TO_30_S,
)
BUSY_SECONDS = Counter("classifier_worker_busy_seconds", "Time in which there were images in hand.")


def serve(port: int) -> None:
    """Serves the metrics on all addresses, because Prometheus runs on another host.

    The security group of the instance decides who can connect. If the port is in use, for example by another
    worker on the same machine, a warning is logged and the metrics are not served.
    """
    try:
        start_http_server(port)
    except OSError as error:
        log.warning("METRICS_PORT %d cannot be used: %s", port, error)
