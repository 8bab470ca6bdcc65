"""BentoML: https://docs.bentoml.com/en/latest/get-started/adaptive-batching.html"""

import os
from pathlib import Path

import bentoml

from bench.servers import model


@bentoml.service(workers=int(os.environ["WORKERS"]))
class Classify:
    def __init__(self) -> None:
        self.model = model.load()

    @bentoml.api(batchable=True, max_batch_size=model.BATCH, max_latency_ms=60_000)
    def classify(self, images: list[Path]) -> list[str]:
        return self.model.classify([self.model.prepare(image.read_bytes()) for image in images])
