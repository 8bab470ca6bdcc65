from datetime import UTC, datetime
from typing import Literal, Self

from pydantic import BaseModel, Field


class Label(BaseModel):
    label: str
    confidence: float = Field(ge=0, le=1)


class Failure(BaseModel):
    """Why an image has no label: a code for programs, a sentence for people."""

    code: str
    message: str


class Prediction(BaseModel):
    """The one final answer to an image; in the output bucket as JSON under the image-id."""

    image_id: str
    status: Literal["classified", "failed"]
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
    answered_at: datetime | None = Field(default_factory=lambda: datetime.now(UTC))
    """None where that cannot be read."""

    def of(self, image_id: str) -> Self:
        """The answer to another image of the same bytes."""
        return self.model_copy(update={"image_id": image_id, "cached": True})

    @classmethod
    def classified(cls, image_id: str, top: list[tuple[str, float]], **rest: object) -> Self:
        predictions = [Label(label=label, confidence=confidence) for label, confidence in top]
        return cls(
            image_id=image_id,
            status="classified",
            label=predictions[0].label,
            confidence=predictions[0].confidence,
            predictions=predictions,
            **rest,
        )

    @classmethod
    def failed(cls, image_id: str, code: str, message: str, **rest: object) -> Self:
        return cls(image_id=image_id, status="failed", error=Failure(code=code, message=message), **rest)
