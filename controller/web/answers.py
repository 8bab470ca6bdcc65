"""The answer to a request, as HTTP returns it: JSON, CSV and text."""

import csv
from io import StringIO
from pathlib import PurePath

from pydantic import computed_field

from cloud.image_id import parse
from controller.dashboard.wait_estimate import Wait
from controller.image_requests.results import ImageResult, RequestResult


class RequestAnswer(RequestResult):
    wait: Wait | None = None
    """Why it waits, and about how long; None when it is complete."""

    @computed_field  # type: ignore[prop-decorator]
    @property
    def url(self) -> str:
        return address_of(self.request_id)


def address_of(request_id: str) -> str:
    """The path under which the request is collected."""
    return f"/requests/{request_id}"


def as_text(answer: RequestResult, *, with_stem: bool) -> str:
    """A line for each image: `stem:label`, or the bare label."""
    return "".join(f"{line(image, with_stem)}\n" for image in answer.images)


COLUMNS = ("filename", "status", "label", "confidence", "error", "model", "image_id")
FORMULA = ("=", "+", "-", "@", "\t", "\r")


def as_csv(answer: RequestResult, *, for_excel: bool) -> str:
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


def line(image: ImageResult, with_stem: bool) -> str:
    if image.error:
        text = f"failed: {image.error.message}"
    else:
        text = image.label or f"waiting: see {address_of(parse(image.image_id).request_id)}"
    return f"{PurePath(image.filename).stem}:{text}" if with_stem else text
