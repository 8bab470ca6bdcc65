"""Where everything about batches is stored. The methods raise CloudError when S3 fails.

| bucket | key | what |
| --- | --- | --- |
| state | `batches/<batch-id>/batch.json` | what was asked |
| state | `batches/<batch-id>/manifests/<number>.json` | up to 1,000 of its images |
| state | `batches/<batch-id>/listed.json` | the totals, once all manifests are written |
| state | `batches/<batch-id>/cancelled` | why it was cancelled, as text |
| state | `batches/<batch-id>/round-<number>.json` | which images that failed are tried again |
| state | `batches/<batch-id>/summary-<round>.json` | what came of it, once a round is finished |
| state | `open-batches/<batch-id>` | that it is not finished; the object is empty |
| state | `open-batches/<batch-id>-<round>` | the same of a later round |
| output | `batches/<batch-id>/results/<number>/<name>.jsonl` | rows; the name says which and how many |

Several result objects may have the same row, because SQS delivers a message at least once. The row counts
that was written first, in the last round that has one.
"""

import logging
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import NamedTuple, Self, TypeVar

from cloud.batches.batch import Batch, Listed, Manifest, Round, Row
from cloud.batches.slice import MANIFEST_IMAGES, MOST_ROUNDS, Slice
from cloud.buckets import Bucket, JsonObjects, TooLarge, at_most
from cloud.errors import Conflict, NotFound, Withheld

log = logging.getLogger(__name__)

T = TypeVar("T")

BATCHES, OPEN = "batches/", "open-batches/"
RESULT_NAME = re.compile(
    r"batches/(?P<batch_id>[0-9a-f]{32})/results/(?P<manifest>\d{5,9})/"
    r"r(?P<round>\d{1,9})-(?P<start>\d{1,9})-(?P<end>\d{1,9})-n(?P<rows>\d{1,9})-f(?P<failures>\d{1,9})"
    r"-ms(?P<ms>\d{1,9})\.jsonl"
)
MARKER = re.compile(OPEN + r"(?P<batch_id>[0-9a-f]{32})(-(?P<round>[1-9]\d{0,8}))?")
LARGEST_RESULT = 10_000_000
"""The most bytes of a result object that are read. Those of 250 images have some 200 KB."""
LARGEST_ROW = 10_000
"""The same for each row: there may be as many objects as rows, and those of a manifest are read together.

One with the most and longest labels has some 9,000.
"""


def queue_name(request_queue: str) -> str:
    """Returns the name of the queue of slices."""
    return f"{request_queue}-batches"


@dataclass(frozen=True)
class Result:
    """A result object, as its key alone describes it, so that a listing shows the progress of a batch."""

    batch_id: str
    manifest: int
    round: int
    start: int
    """The first position in it."""
    end: int
    """The position after the last one in it."""
    rows: int
    failures: int
    milliseconds: int
    """How long a worker has worked on it."""
    written_at: datetime | None = None

    @classmethod
    def of(cls, part: Slice, rows: Iterable[Row], seconds: float) -> Self:
        """Returns the description of the rows of a slice, on which a worker has worked for `seconds`."""
        found = list(rows)
        return cls(
            batch_id=part.batch_id,
            manifest=part.manifest,
            round=part.round,
            start=found[0].position,
            end=found[-1].position + 1,
            rows=len(found),
            failures=sum(row.error is not None for row in found),
            milliseconds=round(1000 * seconds),
        )

    @classmethod
    def read(cls, key: str, written_at: datetime | None = None) -> Self | None:
        """Returns None when the key is not that of a result object, such as a worker writes it."""
        if not (found := RESULT_NAME.fullmatch(key)):
            return None
        numbers = {name: int(value) for name, value in found.groupdict().items() if name != "batch_id"}
        numbers["milliseconds"] = numbers.pop("ms")
        result = cls(batch_id=found["batch_id"], **numbers, written_at=written_at)
        return result if result.key == key and result.is_possible else None

    @property
    def is_possible(self) -> bool:
        """Whether there can be an object with so many rows."""
        return (
            0 < self.rows <= self.end - self.start
            and self.end <= MANIFEST_IMAGES
            and self.failures <= self.rows
            and 0 < self.round <= MOST_ROUNDS
        )

    def is_of(self, rows: Sequence[Row]) -> bool:
        """Returns whether these can be its rows."""
        positions = [row.position for row in rows]
        if len(positions) != self.rows or any(after <= before for before, after in pairwise(positions)):
            return False
        return (positions[0], positions[-1] + 1) == (self.start, self.end)

    @property
    def key(self) -> str:
        return (
            f"{results_of(self.batch_id)}{self.manifest:05d}/r{self.round}-{self.start}-{self.end}"
            f"-n{self.rows}-f{self.failures}-ms{self.milliseconds}.jsonl"
        )


def results_of(batch_id: str) -> str:
    """Returns the beginning of the keys of a batch's result objects."""
    return f"{BATCHES}{batch_id}/results/"


class OpenRound(NamedTuple):
    """A round of a batch that is not finished."""

    batch_id: str
    round: int
    since: datetime


class BatchStore:
    """Reads and writes what is stored about batches. Workers write results, and read the rest."""

    def __init__(self, state: Bucket, outputs: Bucket) -> None:
        self.state, self.outputs = state, outputs
        self._batches = JsonObjects(state, Batch)
        self._manifests = JsonObjects(state, Manifest)
        self._listed = JsonObjects(state, Listed)
        self._rounds = JsonObjects(state, Round)

    def get(self, batch_id: str) -> Batch | None:
        return self._batches.get(f"{BATCHES}{batch_id}/batch.json")

    def put(self, batch: Batch) -> None:
        """Writes a new batch, after the marker that it is open."""
        self.state.write(OPEN + batch.batch_id, b"")
        self._batches.write(f"{BATCHES}{batch.batch_id}/batch.json", batch, IfNoneMatch="*")

    def manifest(self, batch_id: str, number: int) -> Manifest | None:
        return self._manifests.get(manifest_key(batch_id, number))

    def put_manifest(self, batch_id: str, number: int, manifest: Manifest) -> bool:
        """Returns whether it was written. The first one stays."""
        return put_once(self._manifests, manifest_key(batch_id, number), manifest)

    def manifests(self, batch_id: str) -> Iterator[tuple[int, datetime]]:
        """Yields the numbers of the manifests, each with the time at which it was written."""
        for key, at in self.state.listing(f"{BATCHES}{batch_id}/manifests/"):
            yield int(key.rpartition("/")[2].removesuffix(".json")), at

    def listed(self, batch_id: str) -> Listed | None:
        """Returns None while the listing goes on."""
        return self._listed.get(f"{BATCHES}{batch_id}/listed.json")

    def put_listed(self, batch_id: str, listed: Listed) -> bool:
        return put_once(self._listed, f"{BATCHES}{batch_id}/listed.json", listed)

    def cancelled(self, batch_id: str) -> str | None:
        """Returns why the batch was cancelled, in words, or None if it was not."""
        try:
            return self.state.read(f"{BATCHES}{batch_id}/cancelled")[0].decode(errors="replace")
        except NotFound:
            return None

    def cancel(self, batch_id: str, why: str) -> None:
        """Notes why the batch was cancelled, in words, unless it was cancelled before."""
        with suppress(Conflict):
            self.state.write(f"{BATCHES}{batch_id}/cancelled", why.encode(), IfNoneMatch="*")

    def open(self) -> list[str]:
        """Returns the batch-ids of the batches that are not finished."""
        return list(dict.fromkeys(one.batch_id for one in self.opened()))

    def opened(self) -> Iterator["OpenRound"]:
        """Yields the rounds that are not finished."""
        for key, at in self.state.listing(OPEN):
            if found := MARKER.fullmatch(key):
                yield OpenRound(found["batch_id"], int(found["round"] or 1), at)
            else:
                log.warning("a stray object in the bucket %s is ignored: %s", self.state.name, key)

    def touch(self, batch_id: str) -> None:
        """Notes that the listing of a batch goes on, although it has found nothing of late."""
        self.state.write(marker(batch_id, 1), b"")

    def close(self, batch_id: str, round: int = 1) -> None:
        """Notes that a round of a batch is finished."""
        self.state.delete(marker(batch_id, round))

    def notes(self, batch_id: str) -> set[str]:
        """Returns the names of what is stored about a batch in the state bucket, but for its manifests."""
        return set(self.state.names(f"{BATCHES}{batch_id}/"))

    def batch_ids(self) -> Iterator[str]:
        """Yields the batch-ids of all batches that are still stored."""
        return (name.removesuffix("/") for name in self.state.names(BATCHES))

    def round(self, batch_id: str, number: int) -> Round | None:
        return self._rounds.get(f"{BATCHES}{batch_id}/round-{number}.json")

    def put_round(self, batch_id: str, number: int, round: Round) -> bool:
        """Opens the batch again, and notes what is tried in this round, which is not the first one.

        Returns whether it was written. The first one stays.
        """
        self.state.write(marker(batch_id, number), b"")
        return put_once(self._rounds, f"{BATCHES}{batch_id}/round-{number}.json", round)

    def results(self, batch_id: str, manifest: int | None = None) -> Iterator[Result]:
        """Yields the result objects of a batch, or of one of its manifests, in the order of their keys."""
        prefix = results_of(batch_id) + (f"{manifest:05d}/" if manifest is not None else "")
        for key, at in self.outputs.listing(prefix):
            if found := Result.read(key, at):
                yield found

    def put_rows(self, part: Slice, rows: Iterable[Row], seconds: float) -> Result:
        """Writes the rows of a slice, at least one, in ascending order, as a result object of their own."""
        found = list(rows)
        result = Result.of(part, found, seconds)
        lines = "".join(row.model_dump_json(exclude_none=True) + "\n" for row in found)
        with suppress(Conflict):
            self.outputs.write(result.key, lines.encode(), ContentType="application/jsonl", IfNoneMatch="*")
        return result

    def rows(self, result: Result) -> list[Row]:
        """Returns the rows of a result object. Raises NotFound when it has expired.

        An object that is not what its name says has none: a worker that was taken over may write anything.
        """
        try:
            body, _ = self.outputs.read(result.key, at_most(min(LARGEST_RESULT, LARGEST_ROW * result.rows)))
            rows = [Row.model_validate_json(line) for line in body.splitlines()]
            if not result.is_of(rows):
                raise ValueError("it has other rows than its name says")
        except (ValueError, RecursionError, TooLarge, Withheld) as error:
            log.error("s3://%s/%s is broken: %s", self.outputs.name, result.key, error)
            return []
        return rows


def marker(batch_id: str, round: int) -> str:
    """Returns the key of the object that says that a round of a batch is open."""
    return f"{OPEN}{batch_id}" + (f"-{round}" if round > 1 else "")


def manifest_key(batch_id: str, number: int) -> str:
    return f"{BATCHES}{batch_id}/manifests/{number:05d}.json"


def summary_key(batch_id: str, round: int) -> str:
    return f"{BATCHES}{batch_id}/summary-{round}.json"


def put_once(objects: JsonObjects[T], key: str, value: T) -> bool:
    """Returns whether the object was written. The first one stays."""
    try:
        objects.write(key, value, IfNoneMatch="*")
    except Conflict:
        return False
    return True
