"""Formats the answer to a request as JSON, CSV or plain text."""

import csv
import re
from collections.abc import Iterable
from io import StringIO
from itertools import count
from pathlib import PurePath

from pydantic import computed_field

from controller.dashboard.wait_estimate import Wait
from controller.image_requests.results import ImageResult, RequestResult


class RequestAnswer(RequestResult):
    """The answer to a request: the results of its images and, until all are known, why it waits."""

    wait: Wait | None = None
    """Why the request is not complete yet, and how long it may take. None when it is complete."""

    @computed_field  # type: ignore[prop-decorator]
    @property
    def url(self) -> str:
        return address_of(self.request_id)


def address_of(request_id: str) -> str:
    """Returns the path at which the answer to the request can be fetched."""
    return f"/requests/{request_id}"


def as_text(answer: RequestResult, *, with_stem: bool) -> str:
    """Returns one line per image: `stem:label`, or only the label.

    The second image with the same stem is `stem (2)`, and so on.
    """
    labels = [words(image) for image in answer.images]
    if not with_stem:
        return "".join(f"{label}\n" for label in labels)
    stems = told_apart(PurePath(image.filename).stem for image in answer.images)
    return "".join(f"{stem}:{label}\n" for stem, label in zip(stems, labels, strict=True))


COLUMNS = ("filename", "status", "label", "confidence", "error", "model", "image_id", "engine", "precision")
# Spreadsheets evaluate a cell as a formula if it starts with one of the characters in the last brackets.
# One that separates fields with a semicolon, as Excel does in many countries, may begin a cell within a text.
# What is between is searched once: a cell of nothing but tabs takes no longer than any other.
FORMULA = re.compile(r"(^|[;,|\t\r\n])(?=[^\S\t\r\n]*[=+\-@＝＋－＠\t\r\n])")


def as_csv(answer: RequestResult, *, for_excel: bool) -> str:
    """Returns the answer as CSV (RFC 4180) with a header row and one row per image.

    Every field is quoted, and an apostrophe precedes what a spreadsheet would evaluate as a formula. With
    `for_excel`, the CSV starts with a byte order mark, without which Excel does not read it as UTF-8.
    """
    text = StringIO()
    text.write("\ufeff" if for_excel else "")
    rows = csv.writer(text, quoting=csv.QUOTE_ALL)
    rows.writerow(COLUMNS)
    for image in answer.images:
        cells = {**image.model_dump(include=set(COLUMNS)), "error": image.error and image.error.message}
        rows.writerow([harmless(cells[column]) for column in COLUMNS])
    return text.getvalue()


def harmless(cell: object) -> object:
    return FORMULA.sub(r"\1'", cell) if isinstance(cell, str) else cell


def words(image: ImageResult) -> str:
    if image.error:
        return f"failed: {image.error.message}"
    return image.label or f"waiting: see {address_of(image.image_id.request_id)}"


def told_apart(names: Iterable[str]) -> list[str]:
    """Returns the names in their order, with a number after each that occurred before.

    None becomes one of the other names, such as `cat (2)`.
    """
    given = list(names)
    own = set(given)
    numbers = {name: count(2) for name in own}
    seen: set[str] = set()
    found = []
    for name in given:
        told = name
        while told in seen or (told != name and told in own):
            told = f"{name} ({next(numbers[name])})"
        seen.add(told)
        found.append(told)
    return found
