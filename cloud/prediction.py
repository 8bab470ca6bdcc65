from datetime import datetime
from enum import StrEnum
from typing import Literal, Self

from pydantic import BaseModel, Field, computed_field

from cloud.clock import now
from cloud.image_id import ImageId


class Status(StrEnum):
    """What has become of an image."""

    WAITING = "waiting"
    CLASSIFIED = "classified"
    FAILED = "failed"


class FailureCode(StrEnum):
    """Why an image has no label."""

    EMPTY_FILE = "empty_file"
    NOT_AN_IMAGE = "not_an_image"
    UNSUPPORTED_FORMAT = "unsupported_format"
    TOO_MANY_PIXELS = "too_many_pixels"
    BROKEN = "broken"
    TRUNCATED = "truncated"
    CRASHES_DECODER = "crashes_decoder"
    IMAGE_MISSING = "image_missing"
    CANCELLED = "cancelled"
    GAVE_UP = "gave_up"
    NO_WORKERS = "no_workers"
    BROKEN_ANSWER = "broken_answer"

    @property
    def retryable(self) -> bool:
        """Whether the same image may fare better when it is tried again."""
        return self in (FailureCode.GAVE_UP, FailureCode.NO_WORKERS, FailureCode.BROKEN_ANSWER)


class Label(BaseModel):
    label: str
    confidence: float = Field(ge=0, le=1)


class Failure(BaseModel):
    """Why an image has no label: a code for programs, a sentence for people."""

    code: FailureCode
    message: str

    @computed_field  # type: ignore[prop-decorator]
    @property
    def retryable(self) -> bool:
        """Whether it is worth trying the same image again."""
        return self.code.retryable


class Prediction(BaseModel):
    """The one final answer to an image; in the output bucket as JSON under the image-id."""

    image_id: ImageId
    status: Literal[Status.CLASSIFIED, Status.FAILED]
    label: str | None = None
    confidence: float | None = None
    predictions: list[Label] = []
    """The top 5, best first."""
    error: Failure | None = None
    model: str | None = None
    timings: dict[str, float] = {}
    """Seconds, by step: fetch, decode, classify (of the whole batch)."""
    instance_id: str | None = None
    cached: bool = False
    """Whether it is another image's answer, whose bytes are the same; all but the image-id is of that one."""
    answered_at: datetime | None = Field(default_factory=now)
    """None where that cannot be read."""

    def of(self, image_id: ImageId) -> Self:
        """The answer to another image of the same bytes."""
        return self.model_copy(update={"image_id": image_id, "cached": True})

    @classmethod
    def classified(cls, image_id: ImageId, top: list[tuple[str, float]], **rest: object) -> Self:
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
        return cls(image_id=image_id, status=Status.FAILED, error=Failure(code=code, message=message), **rest)
