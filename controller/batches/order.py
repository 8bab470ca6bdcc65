"""Reads what somebody asks for, and says what is wrong with it."""

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    BeforeValidator,
    Field,
    StringConstraints,
    ValidationError,
    WithJsonSchema,
    field_validator,
)

from cloud.batches.batch import DEFAULT_SUFFIXES, MOST_IMAGES, MOST_TOP_K, Batch
from cloud.clock import now
from cloud.s3_url import LONGEST_KEY
from cloud.settings import SourceUrl, split_at_commas
from controller.batches.errors import BadBatch

MOST_DOLLARS = 1_000_000
MOST_SUFFIXES = 100
LONGEST_SOURCE = LONGEST_SUFFIX = LONGEST_KEY
Suffix = Annotated[str, StringConstraints(max_length=LONGEST_SUFFIX)]

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
DURATION = re.compile(
    r"(?:in\s+)?(\d+(?:\.\d+)?)\s*(s|m|h|d)(?:ec|econds?|in|inutes?|ours?|ays?)?", re.IGNORECASE
)

DURATION_PATTERN = "^(in )?[1-9][0-9]{0,4} ?(m|minutes|h|hours)$"
"""Some of the durations, for programs. Whether a time has passed cannot be said in a schema."""
DEADLINE_SCHEMA = {"anyOf": [{"type": "string", "pattern": DURATION_PATTERN}, {"type": "null"}]}


def read_deadline(value: object) -> object:
    """Returns a time in place of a duration such as `in 30 minutes` or `30m`."""
    if isinstance(value, str) and (found := DURATION.fullmatch(value.strip())):
        with suppress(OverflowError):  # it is too far away for a time
            return now() + timedelta(seconds=float(found[1]) * UNITS[found[2].lower()])
    return value


def read_dollars(value: object) -> object:
    return value.strip().removeprefix("$") if isinstance(value, str) else value


class Order(BaseModel, extra="forbid"):
    """The fields of the POST that asks for a batch."""

    source: SourceUrl = Field(
        max_length=LONGEST_SOURCE,
        description="`s3://bucket/prefix`: all objects whose keys begin with the prefix.",
    )
    name: str = Field("", max_length=200, description="For people.")
    suffixes: Annotated[tuple[Suffix, ...], BeforeValidator(split_at_commas)] = Field(
        DEFAULT_SUFFIXES,
        max_length=MOST_SUFFIXES,
        description="How the keys of images end, in any case, as a list or with commas. Empty: any.",
    )
    limit: int | None = Field(None, ge=1, le=MOST_IMAGES, description="The most images.")
    top_k: int = Field(5, ge=1, le=MOST_TOP_K, description="How many labels each image gets.")
    deadline: Annotated[datetime | None, BeforeValidator(read_deadline), WithJsonSchema(DEADLINE_SCHEMA)] = (
        Field(None, description="`in 30 minutes`, `30m`, or a time in ISO 8601.")
    )
    budget: Annotated[float | None, BeforeValidator(read_dollars)] = Field(
        None, gt=0, le=MOST_DOLLARS, description="Dollars that it may cost, about; then it stops."
    )
    requester_pays: bool = Field(False, description="Whether you pay for the calls of S3.")
    spot: bool | None = Field(
        None,
        description="Whether spot instances are launched for it. Unless it is said, MARKET decides.",
    )

    @field_validator("source")
    @classmethod
    def fits_a_key(cls, source: str) -> str:
        if len(source.encode()) > LONGEST_SOURCE:
            raise ValueError("its prefix is longer than a key")
        return source

    @field_validator("suffixes")
    @classmethod
    def in_lower_case(cls, suffixes: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(suffix.lower() for suffix in suffixes if suffix)

    @field_validator("deadline")
    @classmethod
    def in_the_future(cls, deadline: datetime | None) -> datetime | None:
        if deadline is None:
            return None
        try:
            deadline = deadline.astimezone(UTC) if deadline.tzinfo else deadline.replace(tzinfo=UTC)
        except OverflowError:
            raise ValueError("it is after the last year that there is") from None
        if deadline <= now():
            raise ValueError("it has passed")
        return deadline

    def batch(self, batch_id: str, client: str) -> Batch:
        return Batch(batch_id=batch_id, client=client, **self.model_dump())


RIGHT = {
    "source": "it should be s3://bucket/prefix",
    "name": "it should be text of at most 200 characters",
    "suffixes": f'it should be a list such as [".jpg", ".png"], of at most {MOST_SUFFIXES}',
    "limit": f"it should be a whole number from 1 to {MOST_IMAGES:,}",
    "top_k": f"it should be a whole number from 1 to {MOST_TOP_K}",
    "deadline": 'it should be a time in the future, such as "in 30 minutes", "30m" or "2026-12-01T18:00Z"',
    "budget": f'it should be a number of dollars, such as 2 or "$2", and at most {MOST_DOLLARS:,}',
    "requester_pays": "it should be true or false",
    "spot": "it should be true or false",
}


def read_order(given: object) -> Order:
    """Raises BadBatch when something is wrong. Its message names each field."""
    if not isinstance(given, Mapping):
        raise BadBatch('Send a JSON object, such as {"source": "s3://bucket/prefix"}.')
    try:
        return Order.model_validate(dict(given))
    except ValidationError as error:
        raise BadBatch(" ".join(dict.fromkeys(explain(item) for item in error.errors()))) from None


def read_form(given: Mapping[str, Sequence[str]]) -> Order:
    """Does what `read_order` does with the values of each field of a form. Empty ones count as missing."""
    fields = {name: ",".join(values) if name == "suffixes" else values[0] for name, values in given.items()}
    return read_order({name: value for name, value in fields.items() if value.strip()})


def explain(item: Any) -> str:
    name = str(next(iter(item["loc"]), ""))
    if name not in RIGHT:
        return f"{name[:50]!r} is not a field of a batch; its fields are {', '.join(RIGHT)}."
    if item["type"] == "missing":
        return f"{name} is missing: {RIGHT[name]}."
    return f"{name} is {str(item['input'])[:100]!r}, but {RIGHT[name]}."


def fingerprint(order: Order, asked: object) -> str:
    """Returns a hash of what was asked. A deadline such as `30m` is the same whenever it is sent."""
    deadline = asked.get("deadline") if isinstance(asked, Mapping) else None
    text = order.model_copy(update={"deadline": None}).model_dump_json() + f"\n{deadline}"
    return sha256(text.encode()).hexdigest()
