"""What came of a batch. It is written once for each round, when it ends."""

from datetime import datetime, timedelta

from cloud.batches.store import BatchStore
from cloud.clock import now
from controller.batches.findings import Findings, find
from controller.batches.rows import outcomes

CLOCK_SECONDS = timedelta(seconds=2)  # S3 says when an object was written to the second


class Summary(Findings):
    images: int
    manifests: int
    cancelled: bool = False
    until: datetime | None = None
    """The rows that were written later do not count. None unless it was cancelled."""
    finished_at: datetime
    milliseconds: int
    """How long workers have worked on it, together."""
    dollars: float
    """What it has cost, about."""


def summarise(
    store: BatchStore,
    batch_id: str,
    *,
    manifests: int,
    images: int,
    cancelled: bool,
    milliseconds: int,
    dollars: float,
) -> Summary:
    """Reads all rows of a batch whose round has ended. Raises CloudError when S3 fails.

    `images` need not be exact if the batch was cancelled.
    """
    until = now() - CLOCK_SECONDS if cancelled else None
    rows = outcomes(store, batch_id, manifests=range(manifests), until=until, cancelled=True)
    found = find((one.row for one in rows if one.row), images)
    return Summary(
        **found.model_dump(),
        images=found.classified + found.failed,
        manifests=manifests,
        cancelled=cancelled,
        until=until,
        finished_at=now(),
        milliseconds=milliseconds,
        dollars=dollars,
    )
