"""Formats the outcomes of a batch as CSV or JSON lines, a piece at a time, however many there are."""

import csv
import json
from collections.abc import Iterable, Iterator
from io import StringIO
from itertools import islice
from typing import Any

from cloud.prediction import Status
from controller.batches.rows import Outcome
from controller.web.answers import harmless

PIECE = 500  # rows


def csv_columns(top_k: int) -> list[str]:
    labels = [name for n in range(2, top_k + 1) for name in (f"label_{n}", f"confidence_{n}")]
    return ["key", "status", "label", "confidence", *labels, "error_code", "error_message"]


def as_csv(outcomes: Iterable[Outcome], top_k: int) -> Iterator[str]:
    """Yields CSV (RFC 4180) with a header row and one row per image.

    Every field is quoted, and an apostrophe precedes what a spreadsheet would evaluate as a formula.
    """
    yield csv_lines([csv_columns(top_k)])
    for piece in pieces(outcomes):
        yield csv_lines([csv_row(outcome, top_k) for outcome in piece])


def csv_row(outcome: Outcome, top_k: int) -> list[object]:
    row = outcome.row
    top = [cell for one in row.predictions[:top_k] for cell in (one.label, one.confidence)] if row else []
    if row and row.label is not None and not top:
        top = [row.label, row.confidence or 0]
    error = [row.error.code, row.error.message] if row and row.error else ["", ""]
    return [outcome.key, status_of(outcome), *top, *[""] * (2 * top_k - len(top)), *error]


def csv_lines(rows: Iterable[Iterable[object]]) -> str:
    text = StringIO()
    csv.writer(text, quoting=csv.QUOTE_ALL).writerows([[harmless(cell) for cell in row] for row in rows])
    return text.getvalue()


def as_json_lines(outcomes: Iterable[Outcome]) -> Iterator[str]:
    """Yields one line of JSON per image."""
    for piece in pieces(outcomes):
        yield "".join(json.dumps(as_record(outcome), ensure_ascii=False) + "\n" for outcome in piece)


def as_record(outcome: Outcome) -> dict[str, Any]:
    row = outcome.row
    return {
        "key": outcome.key,
        "status": status_of(outcome),
        "label": row.label if row else None,
        "confidence": row.confidence if row else None,
        "predictions": [one.model_dump() for one in row.predictions] if row else [],
        "error": row.error.model_dump(mode="json") if row and row.error else None,
    }


def status_of(outcome: Outcome) -> str:
    return outcome.row.status if outcome.row else Status.WAITING


def pieces(outcomes: Iterable[Outcome]) -> Iterator[list[Outcome]]:
    iterator = iter(outcomes)
    while piece := list(islice(iterator, PIECE)):
        yield piece
