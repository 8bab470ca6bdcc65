"""Sums up what batches have found: the labels, the reasons of failures, and a sample of images."""

from collections import Counter
from collections.abc import Iterable

from pydantic import BaseModel

from cloud.batches.batch import Row
from cloud.failure_code import FailureCode

LABELS = 20
SAMPLE = 12
MOST_COUNTED = 50_000
"""The most labels of a batch that are told apart. A model has fewer, but a worker may forge any number."""
LONGEST_LABEL = 200
"""The characters of a label that are shown."""


class LabelCount(BaseModel):
    label: str
    count: int
    """The images for which it has the highest confidence."""


class FailureCount(BaseModel):
    code: FailureCode
    message: str
    """The sentence of one of them."""
    count: int


class Sample(BaseModel):
    """An image beside its label."""

    key: str
    label: str
    confidence: float


class Findings(BaseModel):
    classified: int = 0
    failed: int = 0
    labels: list[LabelCount] = []
    """The most frequent ones, in descending order."""
    failures: list[FailureCount] = []
    """By their codes, the most frequent one first."""
    sample: list[Sample] = []


def find(rows: Iterable[Row], images: int = 0) -> Findings:
    """Returns what these rows have in common. The sample is spread over as many rows as `images`."""
    labels: Counter[str] = Counter()
    codes: Counter[FailureCode] = Counter()
    messages: dict[FailureCode, str] = {}
    sample: list[Sample] = []
    seen, every = 0, max(1, images // SAMPLE)
    for row in rows:
        if row.error:
            codes[row.error.code] += 1
            messages.setdefault(row.error.code, row.error.message)
        elif row.label is not None:
            label = row.label[:LONGEST_LABEL]
            if len(sample) < SAMPLE and seen >= every * len(sample):
                sample.append(Sample(key=row.key, label=label, confidence=row.confidence or 0))
            if label in labels or len(labels) < MOST_COUNTED:
                labels[label] += 1
            seen += 1
    return Findings(
        classified=seen,
        failed=codes.total(),
        labels=[LabelCount(label=label, count=count) for label, count in labels.most_common(LABELS)],
        failures=[
            FailureCount(code=code, message=messages[code], count=count)
            for code, count in codes.most_common()
        ],
        sample=sample,
    )
