"""The answer to a request, as data, JSON, CSV and text. No AWS."""

import csv
from collections import Counter
from collections.abc import Iterable
from datetime import datetime
from io import StringIO
from pathlib import PurePath
from typing import Any

from pydantic import BaseModel, computed_field

from cloud.image_id import parse
from cloud.prediction import Failure, Label, Prediction
from controller.outlook import Wait


class ImageAnswer(BaseModel):
    image_id: str
    filename: str
    status: str
    """`waiting`, `classified` or `failed`."""
    label: str | None = None
    confidence: float | None = None
    predictions: list[Label] = []
    error: Failure | None = None
    model: str | None = None
    timings: dict[str, float] = {}
    instance_id: str | None = None
    cached: bool = False
    """Whether it is the answer to an earlier image of the same bytes; model, timings, instance are its."""
    answered_at: datetime | None = None


class RequestAnswer(BaseModel):
    request_id: str
    images: list[ImageAnswer]
    """In upload order."""
    wait: Wait | None = None
    """Why it waits, and about how long; None when it is complete."""

    @computed_field  # type: ignore[prop-decorator]
    @property
    def complete(self) -> bool:
        return self.counts["waiting"] == 0

    @computed_field  # type: ignore[prop-decorator]
    @property
    def counts(self) -> dict[str, int]:
        return count(self.images)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def url(self) -> str:
        return f"/requests/{self.request_id}"


def count(images: Iterable[ImageAnswer]) -> dict[str, int]:
    """By status."""
    found = Counter(image.status for image in images)
    return {status: found[status] for status in ("waiting", "classified", "failed")}


def image_answer(image_id: str, prediction: Prediction | None) -> ImageAnswer:
    shared: dict[str, Any] = {"image_id": image_id, "filename": parse(image_id).filename}
    if prediction is None:
        return ImageAnswer(**shared, status="waiting")
    return ImageAnswer(**shared, **prediction.model_dump(exclude={"image_id"}))


def as_text(answer: RequestAnswer, *, with_stem: bool) -> str:
    """A line for each image: `stem:label`, or the bare label."""
    return "".join(f"{line(image, with_stem)}\n" for image in answer.images)


COLUMNS = ("filename", "status", "label", "confidence", "error", "model", "image_id")
FORMULA = ("=", "+", "-", "@", "\t", "\r")


def as_csv(answer: RequestAnswer, *, for_excel: bool) -> str:
    """RFC 4180, a row for each image. A text that a spreadsheet would take for a formula gets an apostrophe
    before it; Excel takes it for UTF-8 only with a byte order mark.
    """
    text = StringIO()
    text.write("\ufeff" if for_excel else "")
    rows = csv.writer(text)
    rows.writerow(COLUMNS)
    for image in answer.images:
        cells = {**image.model_dump(include=set(COLUMNS)), "error": image.error and image.error.message}
        rows.writerow([harmless(cells[column]) for column in COLUMNS])
    return text.getvalue()


def harmless(cell: object) -> object:
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(FORMULA) else cell


def line(image: ImageAnswer, with_stem: bool) -> str:
    if image.error:
        text = f"failed: {image.error.message}"
    else:
        text = image.label or f"waiting: see /requests/{parse(image.image_id).request_id}"
    return f"{PurePath(image.filename).stem}:{text}" if with_stem else text
