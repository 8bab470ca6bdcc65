"""The steps that lead from a message to the prediction of its image."""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Protocol

from cloud.buckets import InputBucket, OutputBucket
from cloud.errors import CloudError, NotFound
from cloud.failure_code import FailureCode
from cloud.image_id import ImageId
from cloud.prediction import GAVE_UP, Failure, Prediction
from cloud.request_queue import Message
from worker import metrics
from worker.decoder import Decoder, Exceeded
from worker.decoder_limits import PATIENT
from worker.held import ByteBudget
from worker.pixels import Pixels
from worker.preprocessing import Preprocessing

log = logging.getLogger(__name__)

BYTES_AHEAD = 64_000_000  # of files that are fetched and not decoded
MOST_FETCHES = 10  # how often S3 may fail to return an image, at least a visibility timeout apart


class RequestDeleted(Exception):
    """No image of the request is stored any more, so nobody waits for a prediction."""


class Classifier(Protocol):
    """What the steps need of a model. worker.engine.Classifier is the implementation."""

    @property
    def model(self) -> str: ...
    @property
    def engine(self) -> str: ...
    @property
    def precision(self) -> str: ...
    @property
    def streams(self) -> int: ...
    @property
    def batch(self) -> int: ...
    @property
    def preprocessing(self) -> Preprocessing: ...

    def classify(self, images: Sequence[Pixels]) -> list[list[tuple[str, float]]]: ...


@dataclass
class Work:
    """An image on its way to its prediction."""

    message: Message
    image_id: ImageId
    data: bytes = b""
    """The file, until it is decoded."""
    budgeted: int = 0
    """The bytes that the file takes of the budget."""
    sha256: str = ""
    """The SHA-256 of the file, as hex digits."""
    pixels: Pixels | None = None
    """The image as the network takes it, once it is decoded."""
    timings: dict[str, float] = field(default_factory=dict)
    """Seconds by step: `fetch` and `decode`."""


class Steps:
    """Fetches, decodes and classifies images, and stores their predictions. Any thread may do any step.

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

    def begin(self, message: Message) -> Work | None:
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
        return Work(message, image_id)

    def fetch(self, work: Work) -> Prediction | None:
        """Reads the file, as soon as there is room for it. If it cannot be classified, returns why.

        Raises CloudError when S3 fails and the message may be postponed, and RequestDeleted when no image of
        the request is left.
        """
        if work.message.receives >= self.max_receives:
            return self.failed(work, FailureCode.GAVE_UP, GAVE_UP)

        def admit(size: int) -> None:
            self.budget.take(size)
            work.budgeted = size

        started = time.perf_counter()
        try:
            work.data, _ = self.inputs.read(work.image_id, admit)
        except NotFound:
            if not any(self.inputs.keys(f"{work.image_id.request_id}/")):
                raise RequestDeleted from None
            return self.failed(work, FailureCode.IMAGE_MISSING, "The image is no longer in the input bucket.")
        except CloudError as error:
            if work.message.postponed + 1 < MOST_FETCHES:
                raise
            log.error("%s", error, extra={"image_id": work.image_id})
            reason = f"S3 did not return this image in {MOST_FETCHES} attempts ({error.code or 'no reply'})."
            return self.failed(work, FailureCode.STORAGE_FAILED, f"{reason} Try it again later.")
        self.note(work, "fetch", started)
        return None

    def decode(self, work: Work, decoder: Decoder) -> Prediction | None:
        """Decodes the file into what the network takes. If that is impossible, returns why.

        Raises Exceeded when it takes more than the limits of the decoder.
        """
        started = time.perf_counter()
        found = decoder.decode(work.data, self.classifier.preprocessing)
        if isinstance(found, Failure):
            return self.failed(work, found.code, found.message)
        work.pixels = found
        work.sha256 = sha256(work.data).hexdigest()
        self.note(work, "decode", started)
        return None

    def decode_patiently(self, work: Work) -> Prediction | None:
        """Does what `decode` does for an image that has exceeded the limits of QUICK.

        When it exceeds those of PATIENT, too, returns that as the reason.
        """
        with Decoder(PATIENT) as decoder:
            try:
                return self.decode(work, decoder)
            except Exceeded as exceeded:
                return self.failed(work, exceeded.failure.code, exceeded.failure.message)

    def forget_file(self, work: Work) -> None:
        """Makes room for other files. This must be called after each fetch, even a failed one."""
        self.budget.give(work.budgeted)
        work.data, work.budgeted = b"", 0

    def classify(self, works: Sequence[Work]) -> list[Prediction]:
        """Returns the predictions for decoded images, in their order."""
        started = time.perf_counter()
        tops = self.classifier.classify([work.pixels for work in works if work.pixels is not None])
        seconds = time.perf_counter() - started
        metrics.BATCH_IMAGES.observe(len(works))
        metrics.STEP_SECONDS.labels("classify").observe(seconds)
        return [
            Prediction.classified(
                work.image_id,
                top,
                **self.origin(),
                model_version=self.model_version or None,
                timings={k: round(v, 4) for k, v in {**work.timings, "classify": seconds}.items()},
            )
            for work, top in zip(works, tops, strict=True)
        ]

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

    def failed(self, work: Work, code: FailureCode, reason: str) -> Prediction:
        return Prediction.failed(work.image_id, code, reason, **self.origin())

    def origin(self) -> dict[str, str]:
        """Returns the fields of a prediction that say where it was made."""
        model = self.classifier
        return {
            "model": model.model,
            "engine": model.engine,
            "precision": model.precision,
            "instance_id": self.instance_id,
        }

    def note(self, work: Work, step: str, started: float) -> None:
        """Notes how long a step has lasted. `started` is a time of time.perf_counter."""
        work.timings[step] = time.perf_counter() - started
        metrics.STEP_SECONDS.labels(step).observe(work.timings[step])
