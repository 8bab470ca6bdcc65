"""Checks that the model of a worker can be loaded, and is fast enough for the visibility timeout."""

import time
from collections.abc import Callable

from PIL import Image

from deploy.doctor.findings import Finding, ok, wrong
from worker.artefact import ClassifierError
from worker.engine import Classifier

MARGIN = 3  # a batch may take a third of the visibility timeout, because a worker has other work, too


def check_model(load: Callable[[], Classifier], visibility_timeout: int) -> Finding:
    """Loads the model and measures it. `load` raises ClassifierError if it cannot be loaded."""
    try:
        classifier = load()
    except ClassifierError as error:
        settings = "MODEL, WEIGHTS, LABELS, ENGINE and PRECISION"
        return wrong(str(error), f"check {settings}; `deploy/ami.sh` bakes the model on an AMI")
    return check_speed(classifier, visibility_timeout)


def check_speed(
    classifier: Classifier, visibility_timeout: int, clock: Callable[[], float] = time.perf_counter
) -> Finding:
    photos = [classifier.prepare(Image.new("RGB", (640, 480), "grey")) for _ in range(classifier.batch)]
    classifier.classify(photos)  # the first batch is slower
    started = clock()
    classifier.classify(photos)
    seconds = clock() - started
    if seconds * MARGIN <= visibility_timeout:
        how = f"{classifier.precision} with {classifier.engine}"
        return ok(f"model: {classifier.model}, {how}, {seconds:.1f} s for {classifier.batch} images")
    return wrong(
        f"{classifier.model} takes {seconds:.1f} s here for a batch of {classifier.batch} images, but"
        f" VISIBILITY_TIMEOUT is {visibility_timeout}, so a busy worker would be considered hung",
        f"set VISIBILITY_TIMEOUT to {round(seconds * MARGIN + 1)} or more, or use a smaller MODEL or a faster"
        " instance",
    )
