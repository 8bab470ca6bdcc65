"""Renders the pages of batches: the list with the form that asks for one, and the page of each."""

import secrets
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec

from flask import Response, render_template

from cloud.batches.batch import DEFAULT_SUFFIXES, MOST_TOP_K
from cloud.clock import now
from controller.batches.answer import BatchAnswer
from controller.dashboard import batch_text, fleet_text
from controller.web.services import services

LISTED = 20  # batches on the page; the JSON has more
READERS = 8


def batch_page(answer: BatchAnswer) -> Response:
    """Returns the page of one batch."""
    page = render_template(
        "batch.html",
        batch=answer,
        at=now(),
        instances=None if answer.complete else services().forecast.instances(),
        bars=batch_text.bars(answer.labels),
        parquet=find_spec("pyarrow") is not None,
        text=batch_text,
        words=fleet_text,
    )
    return Response(page, mimetype="text/html")


def list_page(
    client: str, typed: Mapping[str, str] | None = None, problem: str = "", status: int = 200
) -> Response:
    """Returns the form, and the newest batches of a client.

    `typed` are the fields of a form that was refused, and `problem` says why. Raises CloudError when AWS
    fails.
    """
    batches = services().batches
    newest = batches.newest(client)
    with ThreadPoolExecutor(READERS) as pool:
        shown = list(pool.map(batches.brief, newest[:LISTED]))
    page = render_template(
        "batches.html",
        batches=shown,
        more=len(newest) > len(shown),
        typed=typed or {},
        problem=problem,
        new_key=secrets.token_urlsafe(16),
        at=now(),
        suffixes=", ".join(DEFAULT_SUFFIXES),
        most_top_k=MOST_TOP_K,
        markets=batch_text.MARKETS,
        text=batch_text,
        words=fleet_text,
    )
    return Response(page, status, mimetype="text/html")
