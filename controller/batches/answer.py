"""What people and programs are told about a batch."""

from datetime import datetime
from typing import Literal
from urllib.parse import quote

from pydantic import BaseModel

from cloud.batches.store import results_of
from cloud.notices import Notice
from controller.batches.findings import FailureCount, Findings, LabelCount, Sample
from controller.batches.progress import Progress
from controller.batches.summary import Summary
from controller.batches.wording import message

Status = Literal["listing", "running", "finished", "cancelled"]


class Dollars(BaseModel):
    """By list prices, and about: the time of the workers, and the calls of S3 and SQS."""

    so_far: float
    expected: float | None
    """What all listed images will cost, or None before the first answer."""


class SampleImage(Sample):
    image: str
    """The path of the picture."""


class Results(BaseModel):
    """Where the rows are."""

    csv: str
    jsonl: str
    parquet: str
    s3: str
    """The prefix of the objects that have them as JSON lines."""


class BatchAnswer(BaseModel):
    """How far a batch is, and what it has found so far."""

    batch_id: str
    name: str
    source: str
    status: Status
    complete: bool
    """Whether it has ended: nothing changes any more, unless what failed is tried again."""
    message: str
    """What it waits for, or why it ended."""
    created_at: datetime
    finished_at: datetime | None
    images: int
    """The images that are listed. While they are being listed, there are at least so many."""
    listed: bool
    """Whether that is all of them."""
    answered: int
    classified: int
    failed: int
    round: int
    """1, and one more for each time that what failed is tried again."""
    images_per_second: float
    """Over the last minute."""
    seconds_left: float | None
    dollars: Dollars
    deadline: datetime | None
    budget: float | None
    spot: bool | None
    """Whether instances that are launched for it should be spot instances. None: MARKET decides."""
    failures: list[FailureCount]
    """By their codes. While it runs, `failures`, `labels` and `sample` are those of the newest results."""
    labels: list[LabelCount]
    """The most frequent ones."""
    sample: list[SampleImage]
    results: Results


def describe(progress: Progress, findings: Findings, output_bucket: str) -> BatchAnswer:
    batch, summary = progress.batch, progress.summary
    url = address_of(batch.batch_id)
    answered = summary.images if summary else progress.answered
    failed = summary.failed if summary else progress.failed
    expected = progress.dollars if summary else progress.expected_dollars
    return BatchAnswer(
        batch_id=batch.batch_id,
        name=batch.name,
        source=batch.source,
        status=status_of(progress),
        complete=summary is not None,
        message=message(progress),
        created_at=batch.created_at,
        finished_at=summary.finished_at if summary else None,
        images=summary.images if summary else progress.images,
        listed=progress.listed is not None,
        answered=answered,
        classified=answered - failed,
        failed=failed,
        round=progress.round,
        images_per_second=0.0 if summary else round(progress.images_per_second, 2),
        seconds_left=None if summary else progress.seconds_left,
        dollars=Dollars(so_far=progress.dollars, expected=expected),
        deadline=batch.deadline,
        budget=batch.budget,
        spot=batch.spot,
        failures=findings.failures,
        labels=findings.labels,
        sample=[
            SampleImage(**one.model_dump(), image=f"{url}/images?key={quote(one.key, safe='')}")
            for one in findings.sample
        ],
        results=Results(
            csv=f"{url}?format=csv",
            jsonl=f"{url}?format=jsonl",
            parquet=f"{url}?format=parquet",
            s3=f"s3://{output_bucket}/{results_of(batch.batch_id)}",
        ),
    )


def status_of(progress: Progress) -> Status:
    if progress.cancelled is not None:
        return "cancelled"
    if progress.summary:
        return "finished"
    return "running" if progress.listed else "listing"


def notice_of(batch_id: str, summary: Summary) -> Notice:
    """Returns the notice that a round of a batch has ended."""
    return Notice(
        kind="batch",
        id=batch_id,
        path=address_of(batch_id),
        status="cancelled" if summary.cancelled else "finished",
        counts={"classified": summary.classified, "failed": summary.failed},
        at=summary.finished_at,
    )


def address_of(batch_id: str) -> str:
    """Returns the path of a batch."""
    return f"/batches/{batch_id}"
