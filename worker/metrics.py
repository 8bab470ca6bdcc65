"""What a worker tells Prometheus, if METRICS_PORT is set."""

import logging

from prometheus_client import Counter, Histogram, start_http_server

log = logging.getLogger(__name__)

SECONDS = (0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30)

IMAGES = Counter(
    "classifier_worker_images",
    "Images by what became of them here: classified, failed, answered_already (by another worker), returned.",
    ["outcome"],
)
for outcome in ("classified", "failed", "answered_already", "returned"):
    IMAGES.labels(outcome)  # a rate needs the 0 that it began with
BATCH_IMAGES = Histogram(
    "classifier_worker_batch_images", "Images that went through the model at once.", buckets=(1, 2, 3, 4, 5)
)
STEP_SECONDS = Histogram(
    "classifier_worker_step_seconds",
    "Time of each step: fetch and decode of an image, classify of a batch.",
    ["step"],
    buckets=SECONDS,
)
BUSY_SECONDS = Counter("classifier_worker_busy_seconds", "Time in which there were images in hand.")


def serve(port: int) -> None:
    """On all addresses, as Prometheus comes from outside; the security group says who may. A port that is
    taken, as by another worker on the machine, is no reason not to work.
    """
    try:
        start_http_server(port)
    except OSError as error:
        log.warning("METRICS_PORT %d cannot be used: %s", port, error)
