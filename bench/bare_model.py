"""The model alone, in a process of its own: what the system's figures are held against.

Reads photos from the given files, prints one JSON object: seconds of each single call (decode, prepare,
classify), and images per second in batches.
"""

import json
import sys
import time
from pathlib import Path

from cloud.image_file import decode
from worker.consumer import BATCH
from worker.engine import load_classifier


def main(model: str, weights: str, rounds: int, files: list[str]) -> None:
    classifier = load_classifier(model, weights, None, lambda url: b"")
    photos = [Path(file).read_bytes() for file in files]

    def tensor(data: bytes) -> object:
        return classifier.prepare(decode(data))

    for data in photos[:3]:
        classifier.classify([tensor(data)])  # type: ignore[list-item]
    singles = []
    for data in photos * rounds:
        started = time.perf_counter()
        classifier.classify([tensor(data)])  # type: ignore[list-item]
        singles.append(time.perf_counter() - started)
    many = (photos * rounds)[: len(photos) * rounds]
    started = time.perf_counter()
    for first in range(0, len(many), BATCH):
        classifier.classify([tensor(data) for data in many[first : first + BATCH]])  # type: ignore[misc]
    rate = len(many) / (time.perf_counter() - started)
    labels = {}
    for file, data in zip(files, photos, strict=True):
        labels[file] = classifier.classify([tensor(data)])[0][0][0]  # type: ignore[list-item]
    print(
        json.dumps(
            {"model": classifier.model, "singles": singles, "images_per_second": rate, "labels": labels}
        )
    )


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4:])
