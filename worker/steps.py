"""The steps that lead from a message to the prediction of its image, except for those of the pipeline."""

import logging
import time
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Protocol

from cloud.buckets import InputBucket, OutputBucket
from cloud.errors import CloudError, NotFound
from cloud.failure_code import FailureCode
from cloud.image_file import shown_by_few_browsers
from cloud.image_id import ImageId
from cloud.prediction import GAVE_UP, Failure, Prediction, PreviewedPrediction
from cloud.request_queue import Message
from worker import metrics
from worker.held import ByteBudget, HeldImages
from worker.pipeline import Classifier
from worker.postponing import MOST_POSTPONED
from worker.preview import make_preview
from worker.work import Fate, Outcome, RequestDeleted, Work

log = logging.getLogger(__name__)

BYTES_AHEAD = 64_000_000  # of files that are fetched and not decoded


class Images(Protocol):
    """What takes the outcomes of images. worker.consumer.Consumer is the implementation."""

    def answer(self, work: "ImageWork", outcome: Outcome) -> None: ...
    def abandon(self, work: "ImageWork", fate: Fate) -> None: ...
    def waiting(self, work: "ImageWork") -> AbstractContextManager[None]: ...


@dataclass(eq=False)
class ImageWork(Work):
    """An image of a request."""

    image_id: ImageId
    steps: "Steps"
    images: Images
    sha256: str = field(default="", init=False)
    """The SHA-256 of the file, as hex digits."""
    wants_preview: bool = field(default=False, init=False)
    """Whether many browsers cannot show the file."""

    def fetch(self) -> Failure | None:
        return self.steps.fetch(self)

    def forget_file(self) -> None:
        self.steps.budget.give(self.budgeted)
        self.data, self.budgeted = b"", 0

    def answer(self, outcome: Outcome) -> None:
        self.images.answer(self, outcome)

    def abandon(self, fate: Fate) -> None:
        self.images.abandon(self, fate)


class Steps:
    """Fetches images of requests, and stores their predictions. Any thread may do any step.

    A message that has been received `max_receives` times gets a failed prediction. SQS counts receives, not
    tries, so the receives must be counted anew when a message is returned whose image is not to blame.
    Predictions say which `model_version` they are of, unless it is "".
    """

    def __init__(
        self,
        inputs: InputBucket,
        outputs: OutputBucket,
        classifier: Classifier,
        instance_id: str,
        max_receives: int,
        model_version: str = "",
    ) -> None:
        self.inputs, self.outputs, self.classifier = inputs, outputs, classifier
        self.instance_id, self.max_receives = instance_id, max_receives
        self.model_version = model_version
        self.budget = ByteBudget(BYTES_AHEAD)

    def begin(self, message: Message, held: HeldImages, images: Images) -> ImageWork | None:
        """Returns the work on the message's image, or None if its body is no image-id."""
        try:
            image_id = ImageId(message.body)
        except ValueError as error:
            log.error("a message that nobody can answer is deleted: %s", error)
            return None
        log.info(
            "received",
            extra={"image_id": image_id, "receives": message.receives, "instance_id": self.instance_id},
        )
        return ImageWork(message, image_id, held, image_id, self, images)

    def fetch(self, work: ImageWork) -> Failure | None:
        """Reads the file, as soon as there is room for it. If it cannot be classified, returns why.

        Raises CloudError when S3 fails and the message may be postponed, and RequestDeleted when no image of
        the request is left.
        """
        failure: Failure | None = None
        try:
            failure = self._fetch(work)
            return failure
        finally:
            if failure or not work.data:
                work.forget_file()

    def _fetch(self, work: ImageWork) -> Failure | None:
        if work.message.receives >= self.max_receives:
            return Failure(code=FailureCode.GAVE_UP, message=GAVE_UP)

        def admit(size: int) -> None:
            with work.images.waiting(work):
                self.budget.take(size)
            work.budgeted = size

        started = time.perf_counter()
        try:
            work.data, _ = self.inputs.read(work.image_id, admit)
        except NotFound:
            if not any(self.inputs.keys(f"{work.image_id.request_id}/")):
                raise RequestDeleted from None
            gone = "The image is no longer in the input bucket."
            return Failure(code=FailureCode.IMAGE_MISSING, message=gone)
        except CloudError as error:
            if work.message.postponed < MOST_POSTPONED:
                raise
            log.error("%s", error, extra={"image_id": work.image_id})
            return storage_failed(MOST_POSTPONED + 1, error)
        work.sha256 = sha256(work.data).hexdigest()
        work.wants_preview = shown_by_few_browsers(work.data)
        work.note("fetch", started)
        return None

    def predict(self, work: ImageWork, outcome: Outcome) -> Prediction:
        """Returns the outcome as a prediction, with a preview if the image wants one."""
        if isinstance(outcome, Failure):
            return Prediction.failed(work.image_id, outcome.code, outcome.message, **self.origin())
        made = Prediction.classified(
            work.image_id,
            outcome,
            **self.origin(),
            model_version=self.model_version or None,
            timings={step: round(seconds, 4) for step, seconds in work.timings.items()},
        )
        if work.wants_preview and work.pixels is not None and (preview := make_preview(work.pixels)):
            return PreviewedPrediction(**{**dict(made), "preview_of": work.image_id, "preview": preview})
        return made

    def store(self, prediction: Prediction) -> bool:
        """Writes a prediction to the output bucket. Returns whether it is the first one for its image.

        The first one stays. Raises CloudError when S3 fails.
        """
        first = self.outputs.put_prediction(prediction)
        metrics.IMAGES.labels(prediction.status if first else "answered_already").inc()
        log.info(
            prediction.status if first else "was answered already",
            extra={
                "image_id": prediction.image_id,
                "instance_id": self.instance_id,
                "label": prediction.label,
                "error": prediction.error and prediction.error.code,
                "timings": prediction.timings,
            },
        )
        return first

    def origin(self) -> dict[str, str]:
        """Returns the fields of a prediction that say where it was made."""
        model = self.classifier
        return {
            "model": model.model,
            "engine": model.engine,
            "precision": model.precision,
            "instance_id": self.instance_id,
        }


def storage_failed(tries: int, error: CloudError) -> Failure:
    """Returns what is said about an image that S3 has not returned in so many tries."""
    reason = f"S3 did not return this image in {tries} attempts ({error.code or 'no reply'})."
    return Failure(code=FailureCode.STORAGE_FAILED, message=f"{reason} Try it again later.")
