"""The result of a request: what is known of each of its images."""

from collections import Counter
from collections.abc import Iterable
from datetime import datetime
from typing import Any
from urllib.parse import quote

from pydantic import BaseModel, computed_field

from cloud.image_id import ImageId
from cloud.prediction import Failure, Label, Prediction, Status


class ImageResult(BaseModel):
    """What is known of an image. The confidence is from 0 to 1, and `timings` are in seconds by step."""

    image_id: ImageId
    filename: str
    status: Status
    label: str | None = None
    confidence: float | None = None
    predictions: list[Label] = []
    error: Failure | None = None
    model: str | None = None
    engine: str | None = None
    precision: str | None = None
    timings: dict[str, float] = {}
    instance_id: str | None = None
    cached: bool = False
    """Whether this is the prediction for an earlier image with the same bytes.

    The model, its engine and precision, the timings and the instance are those of the earlier image.
    """
    answered_at: datetime | None = None
    preview: str | None = None
    """The address of a small JPEG of an image whose format browsers do not show, or None if there is none."""

    @property
    def answered_by(self) -> str:
        """The model with its precision and engine, in words for people."""
        return model_in_words(self.model, self.engine, self.precision)


class RequestResult(BaseModel):
    request_id: str
    images: list[ImageResult]
    """The images in upload order."""

    @computed_field  # type: ignore[prop-decorator]
    @property
    def complete(self) -> bool:
        return self.counts[Status.WAITING] == 0

    @computed_field  # type: ignore[prop-decorator]
    @property
    def counts(self) -> dict[str, int]:
        return count(self.images)


def model_in_words(model: str | None, engine: str | None, precision: str | None) -> str:
    """Returns words such as `resnet18 (imagenet) in int8 with openvino`.

    What is unknown is left out. Predictions of earlier versions have no engine and no precision.
    """
    words = [model or "", f"in {precision}" if precision else "", f"with {engine}" if engine else ""]
    return " ".join(filter(None, words))


def count(images: Iterable[ImageResult]) -> dict[str, int]:
    """Returns the number of images by status. Every status is included."""
    found = Counter(image.status for image in images)
    return {status.value: found[status] for status in Status}


def image_result(image_id: ImageId, prediction: Prediction | None) -> ImageResult:
    shared: dict[str, Any] = {"image_id": image_id, "filename": image_id.filename}
    if prediction is None:
        return ImageResult(**shared, status=Status.WAITING)
    if prediction.preview_of:
        shared["preview"] = f"/requests/{image_id.request_id}/previews/{quote(image_id.name)}"
    return ImageResult(**shared, **prediction.model_dump(exclude={"image_id", "preview_of"}))
