"""Prometheus metrics of the images: their outcomes, and the time that uploads and predictions take."""

from prometheus_client import Counter, Histogram

# Upper bounds of histogram buckets, in seconds.
UP_TO_300_S = (0.01, 0.03, 0.1, 0.3, 1, 2, 5, 10, 20, 30, 60, 90, 120, 180, 300)

IMAGES = Counter(
    "classifier_images",
    "Uploaded images: classified, failed, cached, refused (when uploaded) or unanswered (in time).",
    ["outcome"],
)
for outcome in ("classified", "failed", "cached", "refused", "unanswered"):
    IMAGES.labels(outcome)  # export 0 at first; rate() would miss the first image otherwise
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
