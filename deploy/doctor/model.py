"""The worker's model: is it there, and is it fast enough for the visibility timeout?"""

import time
from collections.abc import Callable

from PIL import Image

from deploy.doctor.findings import Finding, ok, wrong
from worker.consumer import BATCH, Classifier

MARGIN = 3  # a batch may take a third of the visibility timeout: downloads and other work come on top


def check_model(load: Callable[[], Classifier], visibility_timeout: int) -> Finding:
    """`load` raises ClassifierError when there is none to be had."""
    from worker.engine import (
        ClassifierError,
    )  # here, since torch takes seconds, and a controller has none

    try:
        classifier = load()
    except ClassifierError as error:
        return wrong(str(error), "see to MODEL, WEIGHTS and LABELS; `deploy/ami.sh` puts weights on an AMI")
    return check_speed(classifier, visibility_timeout)


def check_speed(
    classifier: Classifier, visibility_timeout: int, clock: Callable[[], float] = time.perf_counter
) -> Finding:
    photos = [classifier.prepare(Image.new("RGB", (640, 480), "grey")) for _ in range(BATCH)]
    classifier.classify(photos)  # the first one is slow
    started = clock()
    classifier.classify(photos)
    seconds = clock() - started
    if seconds * MARGIN <= visibility_timeout:
        return ok(f"model: {classifier.model}, {seconds:.1f} s for {BATCH} images")
    return wrong(
        f"{classifier.model} takes {seconds:.1f} s here for the {BATCH} images that are classified at once,"
        f" but VISIBILITY_TIMEOUT is {visibility_timeout}: a worker that is so busy is taken for hung",
        f"set VISIBILITY_TIMEOUT to {round(seconds * MARGIN + 1)} or more; or take a smaller MODEL, or a"
        " faster instance",
    )
