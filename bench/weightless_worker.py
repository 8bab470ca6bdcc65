"""A worker whose decoders and whose model take time, but none of the processor.

Otherwise, it is `python -m worker`. Its decoders wait for as long as decoding a photo takes, and there are
as many as on a machine with CORES. Its model waits for as long as EfficientNet-Lite0 took on an H200
(docs/decisions.md), and has an answer that means nothing.
"""

import sys
import time
from typing import Self

import numpy as np
from numpy.typing import NDArray

import worker.__main__ as worker
from worker.artefact import Manifest
from worker.decoder_limits import Limits
from worker.engine import Classifier
from worker.pixels import Pixels, full_size
from worker.preprocessing import Preprocessing

CORES = 16
DECODING = 0.003  # seconds
BATCHES = {8: 0.006, 64: 0.010}
"""The seconds of a batch by its size."""

LABELS = tuple(str(number) for number in range(1000))


class Decoder:
    """Stands in for worker.decoder.Decoder."""

    def __init__(self, limits: Limits) -> None:
        pass

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def wait_until_ready(self) -> None:
        pass

    def decode(self, data: bytes, preprocessing: Preprocessing) -> Pixels:
        time.sleep(DECODING)
        return np.zeros((preprocessing.crop, preprocessing.crop, 3), np.uint8)


def network(images: Pixels) -> NDArray[np.float32]:
    time.sleep(BATCHES[full_size(len(images), BATCHES)])
    return np.tile(np.linspace(1, 0, len(LABELS), dtype=np.float32), (len(images), 1))


def load_classifier(*_: object) -> Classifier:
    manifest = Manifest(
        model="none",
        weights_sha256="",
        labels=LABELS,
        preprocessing=Preprocessing(256, 224, (0, 0, 0), (1, 1, 1)),
        engine="none",
        precision="fp32",
        reason="",
        photos="",
        processor="",
        network="",
        files={},
    )
    return Classifier(manifest, network, streams=1, batch_sizes=tuple(BATCHES))


if __name__ == "__main__":
    worker.Decoder = Decoder
    worker.load_classifier = load_classifier
    worker.os.sched_getaffinity = lambda _: set(range(CORES))
    sys.exit(worker.main())
