"""Tells how far a batch is, from the names of what is stored about it."""

import heapq
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import groupby

from cloud.batches.batch import Batch, Listed
from cloud.batches.slice import MANIFEST_IMAGES, MOST_MANIFESTS
from cloud.batches.store import BatchStore, Result, summary_key
from cloud.buckets import JsonObjects
from cloud.clock import now
from cloud.prices import MILLION_CALLS, CallKind
from controller.batches.missing import Answered
from controller.batches.summary import Summary

RATE_WINDOW = timedelta(seconds=60)
SHORTEST_WINDOW = timedelta(seconds=5)
NEWEST = 20  # result objects whose rows show what the batch is about while it runs
CALLS = {CallKind.S3_PUT: 1, CallKind.S3_GET: 1, CallKind.SQS: 4}
"""The calls for a slice: its result, its manifest, and to send, receive, extend and delete its message."""
MANIFEST_CALLS = {CallKind.S3_PUT: 2}
"""The calls for a manifest: a page of the source, and the manifest itself."""


@dataclass
class Tally:
    """What the result objects of a batch say together."""

    rows: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    """The images that have a row, by round."""
    failures: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    objects: int = 0
    milliseconds: int = 0
    recent: int = 0
    """The rows that were written within RATE_WINDOW."""
    first_at: datetime | None = None
    last_at: datetime | None = None
    newest: list[Result] = field(default_factory=list)

    @classmethod
    def of(cls, results: Iterable[Result], answered: Answered, since: datetime) -> "Tally":
        """Reads the result objects of a batch, which are in the order of their keys."""
        tally = cls()
        newest: list[tuple[datetime, str, Result]] = []
        for _, group in groupby(results, key=lambda one: one.manifest):
            by_round: dict[int, list[Result]] = defaultdict(list)
            for one in group:
                by_round[one.round].append(one)
                tally._note(one, since)
                if one.written_at:
                    heapq.heappush(newest, (one.written_at, one.key, one))
                    if len(newest) > NEWEST:
                        heapq.heappop(newest)
            for round, found in by_round.items():
                rows, failures = answered.count(found)
                tally.rows[round] += rows
                tally.failures[round] += failures
        tally.newest = [one for _, _, one in sorted(newest, reverse=True)]
        return tally

    def _note(self, one: Result, since: datetime) -> None:
        self.objects += 1
        self.milliseconds += one.milliseconds
        if one.written_at:
            self.recent += one.rows if one.written_at >= since else 0
            self.first_at = min(self.first_at or one.written_at, one.written_at)
            self.last_at = max(self.last_at or one.written_at, one.written_at)


@dataclass(frozen=True)
class Progress:
    """How far a batch is."""

    batch: Batch
    round: int
    """The last round, which is 1 unless failures were tried again."""
    listed: Listed | None
    """None while the listing goes on."""
    manifests: int
    manifest_at: datetime
    """When the newest manifest was written or, if there is none, when the batch was asked for."""
    images: int
    """The images that are listed. While the listing goes on, there are at least so many."""
    asked: int
    """The images of the later rounds together."""
    cancelled: str | None
    """Why it was cancelled, in words, or None."""
    summary: Summary | None
    """What came of it, if its last round is finished."""
    tally: Tally
    at: datetime
    dollars: float
    """What it has cost so far, about: the time of the workers, and the calls of AWS."""

    @property
    def waiting(self) -> int:
        """The listed images that have no row in the round in which they were tried last."""
        return max(0, self.images + self.asked - sum(self.tally.rows.values()))

    @property
    def at_end(self) -> bool:
        """Whether the batch need only be summed up."""
        over = self.cancelled is not None or (self.listed is not None and not self.waiting)
        return over and self.summary is None

    @property
    def answered(self) -> int:
        return self.images - min(self.images, self.waiting)

    @property
    def failed(self) -> int:
        classified = sum(self.tally.rows.values()) - sum(self.tally.failures.values())
        return max(0, self.answered - classified)

    @property
    def images_per_second(self) -> float:
        """Over the last minute, or since the first result."""
        if self.tally.first_at is None:
            return 0.0
        window = max(SHORTEST_WINDOW, min(RATE_WINDOW, self.at - self.tally.first_at))
        return self.tally.recent / window.total_seconds()

    @property
    def seconds_left(self) -> float | None:
        """None while that cannot be known."""
        rate = self.images_per_second
        return self.waiting / rate if rate and self.listed else None

    @property
    def expected_dollars(self) -> float | None:
        """What all listed images will cost, or None before the first answer."""
        done = sum(self.tally.rows.values())
        return self.dollars * max(done, self.images + self.asked) / done if done else None


def read_progress(
    store: BatchStore,
    batch: Batch,
    answered: Answered,
    price_per_hour: float,
    before: Progress | None = None,
) -> Progress:
    """Returns how far the batch is. What never changes is taken from an earlier progress of it.

    Raises CloudError when S3 fails.
    """
    batch_id, at = batch.batch_id, now()
    notes = store.notes(batch_id)
    listed = before.listed if before else None
    if listed is None and "listed.json" in notes:
        listed = store.listed(batch_id)
    round = last_round(notes)
    known = before if before and before.round == round else None
    asked = known.asked if known else images_of_later_rounds(store, batch_id, round)
    summary = known.summary if known else None
    if summary is None and f"summary-{round}.json" in notes:
        summary = JsonObjects(store.state, Summary).get(summary_key(batch_id, round))
    manifests, manifest_at = listed.manifests if listed else 0, batch.created_at
    if not listed:
        for number, written_at in store.manifests(batch_id):
            manifests, manifest_at = number + 1, written_at
    # A worker that was taken over might write rows of rounds that nobody has asked for. A lister that was
    # overtaken may have found images that came after another one had written the totals.
    last = listed.manifests if listed else MOST_MANIFESTS
    results = (one for one in store.results(batch_id) if one.round <= round and one.manifest < last)
    tally = Tally() if summary else Tally.of(results, answered, at - RATE_WINDOW)
    return Progress(
        batch=batch,
        round=round,
        listed=listed,
        manifests=manifests,
        manifest_at=manifest_at,
        images=listed.images
        if listed
        else MANIFEST_IMAGES * max(0, manifests - 1),  # the last may not be full
        asked=asked,
        cancelled=store.cancelled(batch_id) if "cancelled" in notes else None,
        summary=summary,
        tally=tally,
        at=at,
        dollars=summary.dollars if summary else cost(tally, manifests, price_per_hour),
    )


def last_round(notes: Iterable[str]) -> int:
    names = (name.removesuffix(".json").partition("round-") for name in notes)
    return max([1, *(int(number) for start, found, number in names if found and not start)])


def images_of_later_rounds(store: BatchStore, batch_id: str, last: int) -> int:
    found = (store.round(batch_id, number) for number in range(2, last + 1))
    return sum(one.images for one in found if one)


def cost(tally: Tally, manifests: int, price_per_hour: float) -> float:
    """Returns dollars: what the workers and the calls of AWS have cost, about, by their list prices."""
    rows = sum(tally.rows.values())
    calls: Mapping[CallKind, int] = {
        CallKind.S3_PUT: CALLS[CallKind.S3_PUT] * tally.objects + MANIFEST_CALLS[CallKind.S3_PUT] * manifests,
        CallKind.S3_GET: CALLS[CallKind.S3_GET] * tally.objects + rows,
        CallKind.SQS: CALLS[CallKind.SQS] * tally.objects,
    }
    of_calls = sum(MILLION_CALLS[kind] * count for kind, count in calls.items()) / 1_000_000
    return tally.milliseconds / 3_600_000 * price_per_hour + of_calls
