"""What a simulated fleet costs in dollars: instances, their disks while they are stopped, and requests."""

import tomllib
from collections.abc import Mapping
from pathlib import Path

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
MONTH_SECONDS = 365 / 12 * 86400


class Prices:
    """In dollars, from bench/prices.toml."""

    def __init__(self, table: Mapping[str, Mapping[str, float]]) -> None:
        self.instance_second = table["instance"]["hour"] / 3600
        self.disk_second = table["disk"]["month"] / MONTH_SECONDS
        self.image = sum(
            calls * table[service][name] / 1e6
            for service, counted in CALLS_PER_IMAGE.items()
            for name, calls in counted.items()
        )
        self.idle_second = IDLE_POLLS_PER_SECOND * table["sqs"]["ReceiveMessage"] / 1e6

    @classmethod
    def read(cls) -> "Prices":
        return cls(tomllib.loads((Path(__file__).parent.parent / "prices.toml").read_text()))
