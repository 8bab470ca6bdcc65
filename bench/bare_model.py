"""Measures the model alone, in a process of its own, for comparison with the worker and the system.

It reads the photos of a folder, and prints one JSON object: the seconds of single calls (decode, prepare,
classify), the images per second of one thread that does this in batches, those of as many threads as there
are cores, and the label of each photo.
"""

import json
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from cloud.image_file import decode
from cloud.settings import WorkerSettings
from worker.engine import Classifier, load_classifier


def main(folder: Path, images: int) -> None:
    classifier = load_classifier(WorkerSettings.without_buckets(), None)
    photos = [file.read_bytes() for file in sorted(folder.iterdir())]
    labels = classify(classifier, photos)
    many = (photos * (images // len(photos) + 1))[:images]
    single = rate(lambda: classify(classifier, many), images)
    cores = len(os.sched_getaffinity(0))
    with ThreadPoolExecutor(cores) as threads:
        parts = [many[n::cores] for n in range(cores)]
        parallel = rate(lambda: list(threads.map(lambda part: classify(classifier, part), parts)), images)
    print(
        json.dumps(
            {
                "model": f"{classifier.model}, {classifier.engine} {classifier.precision}",
                "singles": [seconds(lambda one=one: classify(classifier, [one])) for one in many[:100]],
                "images_per_second": single,
                "images_per_second_on_all_cores": parallel,
                "labels": labels,
            }
        )
    )


def classify(classifier: Classifier, photos: list[bytes]) -> list[str]:
    """Returns the label of each photo."""
    found = []
    for first in range(0, len(photos), classifier.batch):
        prepared = [classifier.prepare(decode(photo)) for photo in photos[first : first + classifier.batch]]
        found += [top[0][0] for top in classifier.classify(prepared)]
    return found


def seconds(work) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def rate(work, images: int) -> float:
    return images / seconds(work)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
