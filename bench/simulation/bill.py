"""What a simulated fleet costs in dollars: instances, their disks while they are stopped, and requests."""

from cloud.prices import INSTANCE_HOUR, MILLION_CALLS, CallKind, kind_of

CALLS_PER_IMAGE = {
    "s3": {"PutObject": 2.16, "GetObject": 2.12, "ListObjectsV2": 0.19, "DeleteObject": 0.03},
    "sqs": {
        "ReceiveMessage": 0.17,
        "SendMessageBatch": 0.10,
        "DeleteMessageBatch": 0.10,
        "GetQueueAttributes": 0.06,
        "GetQueueUrl": 0.02,
    },
}
"""As bench.bill counts them for images that come together, with the cache on (bench/README.md)."""
IDLE_POLLS_PER_SECOND = 3400 / 3600  # of an idle worker (docs/decisions.md, "A long poll lasts one second")

INSTANCE_SECOND = INSTANCE_HOUR / 3600
IMAGE = sum(
    calls * MILLION_CALLS[kind] / 1e6
    for service, counted in CALLS_PER_IMAGE.items()
    for name, calls in counted.items()
    if (kind := kind_of(service, name))
)
IDLE_SECOND = IDLE_POLLS_PER_SECOND * MILLION_CALLS[CallKind.SQS] / 1e6
