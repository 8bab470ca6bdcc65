"""The prediction: what is known for good about an image."""

from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    computed_field,
    model_validator,
)

from cloud.clock import now
from cloud.failure_code import FailureCode
from cloud.image_id import ImageId

MOST_LABELS = 20
"""The most labels of an image. Those of a stored answer take many times the memory of its text."""

LONGEST_LABEL = 300
"""The most bytes of a label in UTF-8. What has far more text than so many labels is taken for forged."""

LARGEST_PREVIEW = 60_000
"""The most bytes of a preview. Those of photos have some 10 KB."""


def check_jpeg(data: bytes) -> bytes:
    """Returns the bytes of a JPEG file, as which browsers read them. Raises ValueError when they are none."""
    if not data.startswith(b"\xff\xd8\xff"):
        raise ValueError("a preview must be a JPEG file")
    return data


Jpeg = Annotated[bytes, Field(max_length=LARGEST_PREVIEW), AfterValidator(check_jpeg)]


class Status(StrEnum):
    """The state of an image: it waits for its prediction, or its prediction has labels or a failure."""

    WAITING = "waiting"
    CLASSIFIED = "classified"
    FAILED = "failed"


GAVE_UP = "Every worker that took this image died or failed."
"""The reason for FailureCode.GAVE_UP, in words."""


class Label(BaseModel):
    """A label, and the confidence of the model in it, from 0 to 1."""

    label: str
    confidence: float = Field(ge=0, le=1)


class Failure(BaseModel):
    """Why an image has no label: a code for programs, and a sentence for people."""

    code: FailureCode
    message: str

    @computed_field  # type: ignore[prop-decorator]
    @property
    def retryable(self) -> bool:
        """Whether the same image may be classified if it is tried again."""
        return self.code.retryable


class Answer(BaseModel):
    """The label of an image, or why it has none. Anything else is invalid."""

    status: Literal[Status.CLASSIFIED, Status.FAILED]
    label: str | None = None
    """The label with the highest confidence, or None for a failed image."""
    confidence: float | None = Field(None, ge=0, le=1)
    """The confidence of `label`, from 0 to 1."""
    error: Failure | None = None
    """Why the image has no label, or None for a classified image."""

    @model_validator(mode="after")
    def _is_as_its_status_says(self) -> Self:
        expected = (True, True, False) if self.status is Status.CLASSIFIED else (False, False, True)
        if (self.label is not None, self.confidence is not None, self.error is not None) != expected:
            raise ValueError("what is classified has a label and a confidence, and what failed has an error")
        return self


class Prediction(Answer):
    """The final result for an image: either labels with confidences, or a failure.

    It is stored as JSON in the output bucket, with the image-id as its key.
    """

    image_id: ImageId
    predictions: list[Label] = Field([], max_length=MOST_LABELS)
    """The five labels with the highest confidences, in descending order."""
    model: str | None = None
    engine: str | None = None
    """What ran the model: `openvino` or `torch`."""
    precision: str | None = None
    """The number format of the model: `fp32`, `bf16` or `int8`."""
    model_version: str | None = None
    """The version of the model (see cloud/model_version.py), or None if its predictions are not cached."""
    timings: dict[str, Annotated[float, Field(allow_inf_nan=False)]] = Field({}, max_length=10)
    """Seconds by step: `fetch`, `decode` and `classify`. The last one is the time of the whole batch."""
    instance_id: str | None = None
    preview_of: ImageId | None = None
    """The image with whose prediction a preview is stored, or None if there is no preview.

    It is this image or an earlier one with the same bytes.
    """
    cached: bool = False
    """Whether this is the prediction for an earlier image with the same bytes.

    Everything but the image-id is then that of the earlier image.
    """
    answered_at: AwareDatetime | None = Field(default_factory=now)
    """When the prediction was made, or None if that is unknown."""

    def of(self, image_id: ImageId) -> Self:
        """Returns this prediction as that of another image with the same bytes."""
        return self.model_copy(update={"image_id": image_id, "cached": True})

    @classmethod
    def classified(cls, image_id: ImageId, top: list[tuple[str, float]], **rest: object) -> Self:
        """Returns the prediction for a classified image.

        `top` are the labels with the highest confidences, in descending order, each with its confidence.
        `rest` are further fields.
        """
        predictions = [Label(label=label, confidence=confidence) for label, confidence in top]
        return cls(
            image_id=image_id,
            status=Status.CLASSIFIED,
            label=predictions[0].label,
            confidence=predictions[0].confidence,
            predictions=predictions,
            **rest,
        )

    @classmethod
    def failed(cls, image_id: ImageId, code: FailureCode, message: str, **rest: object) -> Self:
        """Returns the prediction for a failed image. `rest` are further fields."""
        return cls(image_id=image_id, status=Status.FAILED, error=Failure(code=code, message=message), **rest)


class Preview(BaseModel):
    """What is stored of a preview, a small JPEG of an image whose format browsers do not show."""

    model_config = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64")

    preview_of: ImageId | None = None
    preview: Jpeg | None = None


class PreviewedPrediction(Prediction, Preview):
    """A prediction with the preview that is stored with it.

    Whoever reads it as a Prediction leaves the preview out, so that it takes no memory and is in no answer.
    """
