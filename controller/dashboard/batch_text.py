"""Puts the state of a batch into words, and its labels into bars, for the pages. It does not use AWS."""

from dataclasses import dataclass

from controller.autoscaling.wording import some
from controller.batches.answer import BatchAnswer
from controller.batches.findings import LabelCount

MARKETS = {"": "As the fleet is set up", "true": "Spot instances", "false": "On-demand instances"}
"""What a batch may ask for, in words, by the values of the form."""


def headline(answer: BatchAnswer) -> str:
    images = some(answer.images, "image", "images")
    if answer.listed and not answer.images:
        return "No images"
    if answer.complete:
        of_all = f"{answer.classified:,} of {images} classified"
        return f"Cancelled: {of_all}" if answer.status == "cancelled" else of_all
    if answer.status == "listing":
        return "Listing the images"
    return f"{percent(answer)}% of {images} answered"


def percent(answer: BatchAnswer) -> int:
    """Returns how much of a batch is answered. It is rounded down, so that 100 means all."""
    return 100 * answer.answered // answer.images if answer.images else 0


def said(answer: BatchAnswer) -> str:
    """Returns what a screen reader says of a batch when it changes: the headline, in steps of 10%."""
    if answer.status != "running":
        return headline(answer)
    return f"{percent(answer) // 10 * 10}% answered"


def may_be_tried_again(answer: BatchAnswer) -> int:
    """Returns how many images may be classified if what failed is tried again."""
    if answer.status != "finished":
        return 0
    return sum(failure.count for failure in answer.failures if failure.code.retryable)


@dataclass(frozen=True)
class Bar:
    """A row of the chart of the labels."""

    label: str
    count: int
    width: float
    """Percent of the width of the longest bar."""


def bars(labels: list[LabelCount]) -> list[Bar]:
    longest = max((one.count for one in labels), default=1)
    return [Bar(one.label, one.count, 100 * one.count / longest) for one in labels]
