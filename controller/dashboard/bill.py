"""Adds up what a fleet has cost: its instances, and its calls of AWS. It does not use AWS."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel

from cloud.prices import AS_OF, DISK_SECOND, MILLION_CALLS, REGION, CallKind

Unit = Literal["seconds", "calls"]

NAMES = {
    CallKind.S3_PUT: "S3 PUT and LIST",
    CallKind.S3_GET: "S3 GET",
    CallKind.SQS: "SQS",
    CallKind.SNS: "SNS",
}


@dataclass(frozen=True)
class Entry:
    """What one part of the fleet has cost."""

    item: str
    name: str
    amount: float
    unit: Unit
    dollars: float


def entries(
    instance_seconds: float, stopped_seconds: float, calls: Mapping[str, int], price_per_hour: float
) -> Iterator[Entry]:
    """Yields everything that costs something, in the order of the bill.

    The keys of `calls` are the values of CallKind; other keys are ignored.
    """
    dollars = instance_seconds / 3600 * price_per_hour
    yield Entry("instances", "Instances", round(instance_seconds, 1), "seconds", dollars)
    if stopped_seconds:
        disks = stopped_seconds * DISK_SECOND
        yield Entry("disks", "Disks of stopped instances", round(stopped_seconds, 1), "seconds", disks)
    for kind in CallKind:
        count = calls.get(kind, 0)
        if kind is CallKind.SNS and not count:
            continue  # it is called only with NOTIFY_TOPIC
        yield Entry(kind, NAMES[kind], count, "calls", count * MILLION_CALLS[kind] / 1_000_000)


class BillItem(BaseModel):
    """One row of the bill."""

    item: str
    """A name for programs: `instances`, `disks`, or the kind of a call."""
    name: str
    """The same in words."""
    amount: float
    unit: Unit
    dollars: float
    share: float | None
    """The part of the whole bill, from 0 to 1. It is None while the bill is 0."""
    dollars_per_1000_images: float | None
    """None while no image has been processed."""


class Bill(BaseModel):
    """What the fleet has cost so far."""

    instance_seconds: float
    """The time of all instances so far, as EC2 bills it: at least one minute for each start."""
    price_per_hour: float
    """The price of one instance, in dollars."""
    dollars: float
    """The sum of all items."""
    images: int
    """The number of images that the instances have processed."""
    dollars_per_1000_images: float | None
    """None while no image has been processed."""
    prices: str
    """Where the prices of the calls are from."""
    charged: bool
    """Whether AWS charges this. It is False on a local AWS; the bill is then what AWS would have charged."""
    items: list[BillItem]


def bill(
    instance_seconds: float,
    stopped_seconds: float,
    calls: Mapping[str, int],
    *,
    images: int,
    price_per_hour: float,
    charged: bool,
) -> Bill:
    """Returns the bill of instances that ran and were stopped for so long in all, and of so many calls."""

    def per_1000_images(dollars: float) -> float | None:
        return round(dollars / images * 1000, 9) if images else None

    found = list(entries(instance_seconds, stopped_seconds, calls, price_per_hour))
    total = sum(entry.dollars for entry in found)
    return Bill(
        instance_seconds=round(instance_seconds, 1),
        price_per_hour=price_per_hour,
        dollars=round(total, 9),
        images=images,
        dollars_per_1000_images=per_1000_images(total),
        prices=f"list prices of {REGION}, {AS_OF}",
        charged=charged,
        items=[
            BillItem(
                item=entry.item,
                name=entry.name,
                amount=entry.amount,
                unit=entry.unit,
                dollars=round(entry.dollars, 9),
                share=round(entry.dollars / total, 4) if total else None,
                dollars_per_1000_images=per_1000_images(entry.dollars),
            )
            for entry in found
        ],
    )
