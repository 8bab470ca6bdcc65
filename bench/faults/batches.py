"""The batches of a system under faults: they are asked for, and afterwards each key must have one row."""

import csv
import io
import random
import secrets
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from threading import Event
from typing import Any

import requests

from bench.faults.load import FILES, GIVE_UP_SECONDS, POST_TIMEOUT, Seen
from bench.faults.rules import Hit
from bench.faults.verdict import explanation, messages_left
from cloud.batches.store import queue_name
from local.driver import System

BUCKET, PREFIX = "photos", "faults/"
IMAGES = 60  # that lie in the bucket; a batch takes some of them


@dataclass
class AskedBatch:
    """A batch that was accepted."""

    address: str
    images: int
    at: float
    """When it was first asked for, in seconds since the epoch."""
    rows: list[dict[str, str]] = field(default_factory=list)
    """The rows of its table, as CSV has them."""
    ended_at: str = ""
    complete: bool = False


class Batches:
    """A client that asks for batches of images that lie in S3, until `over` is set."""

    def __init__(self, system: System, over: Event, seen: Seen) -> None:
        self.system, self.over, self.seen = system, over, seen
        self.asked: list[AskedBatch] = []
        self.keys = [f"{PREFIX}{number:03}-{FILES[number % len(FILES)][0]}" for number in range(IMAGES)]

    def put_images(self) -> None:
        s3 = self.system.client("s3")
        for number, key in enumerate(self.keys):
            s3.put_object(Bucket=BUCKET, Key=key, Body=FILES[number % len(FILES)][1])

    def ask(self, draw: random.Random) -> None:
        """Asks for a batch every few seconds, some of them twice with the same Idempotency-Key."""
        while not self.over.wait(draw.uniform(5, 20)):
            images, key, at = draw.randint(1, IMAGES), secrets.token_hex(8), time.time()
            times = 1 + (draw.random() < 0.3)
            places = {place for _ in range(times) if (place := self._post(images, key))}
            if len(places) > 1:
                self.seen.twice.append(key)
            self.asked += [
                AskedBatch(self.system.url.rstrip("/") + place, images, at) for place in sorted(places)
            ]

    def read_all(self, seconds: float) -> None:
        """Reads all batches until they are complete, or the time is over, and then their tables."""
        until, open_ones = time.monotonic() + seconds, list(self.asked)
        while open_ones and time.monotonic() < until:
            open_ones = [one for one in open_ones if not self._look(one)]
            time.sleep(0.5)
        for one in self.asked:
            reply = requests.get(one.address, headers={"Accept": "text/csv"}, timeout=60)
            one.rows = list(csv.DictReader(io.StringIO(reply.text)))

    def explained(self, hits: Sequence[Hit], max_receives: int) -> tuple[Counter[str], list[str]]:
        """Returns how many rows failed for each reason, and those that no fault explains."""
        reasons, unexplained = Counter[str](), []
        for one in self.asked:
            for row in one.rows:
                if row["error_code"]:
                    why = explanation(as_image(row, one.ended_at), one.at, hits, max_receives)
                    reasons[f"{row['error_code']}: {why or 'NOT EXPLAINED'}"] += 1
                    if not why:
                        unexplained.append(f"{one.address} {row}")
        return reasons, unexplained

    def figures_and_zeros(self) -> tuple[dict[str, int], dict[str, int]]:
        """Returns the counts that may be anything, and those that must be zero."""
        rows = [row for one in self.asked for row in one.rows]
        figures = {
            "batches accepted": len(self.asked),
            "images of batches": sum(one.images for one in self.asked),
            "rows with a label": sum(row["status"] == "classified" for row in rows),
        }
        zeros = {
            "batches without an end": sum(not one.complete for one in self.asked),
            "keys of batches without exactly one row": sum(map(self._wrong_keys, self.asked)),
            "slices left in the queue of batches": messages_left(self.system, [queue_name("image-requests")]),
        }
        return figures, zeros

    def _wrong_keys(self, one: AskedBatch) -> int:
        found = Counter(row["key"] for row in one.rows if row["status"] in ("classified", "failed"))
        expected = set(self.keys[: one.images])
        return sum(found[key] != 1 for key in expected | found.keys() if key in expected or found[key])

    def _post(self, images: int, key: str) -> str:
        """Returns the location of the batch, or "" if it was refused for GIVE_UP_SECONDS."""
        until = time.monotonic() + GIVE_UP_SECONDS
        asked = {"source": f"s3://{BUCKET}/{PREFIX}", "limit": images, "suffixes": []}
        while time.monotonic() < until:
            try:
                reply = requests.post(
                    f"{self.system.url}batches",
                    json=asked,
                    headers={"Idempotency-Key": key},
                    timeout=POST_TIMEOUT,
                )
            except requests.RequestException:
                self.seen.cut += 1
            else:
                if reply.status_code == 202:
                    return str(reply.headers["Location"])
                self.seen.note_refusal(reply)
            time.sleep(1)
        self.seen.never_accepted.append(key)
        return ""

    def _look(self, one: AskedBatch) -> bool:
        """Returns whether the batch is complete."""
        try:
            reply = requests.get(one.address, timeout=30)
        except requests.RequestException:
            return False
        if not reply.ok:
            self.seen.note_refusal(reply)
            return False
        answer: dict[str, Any] = reply.json()
        if not answer["message"]:
            self.seen.without_a_sentence.append(f"{one.address} says nothing")
        one.complete, one.ended_at = answer["complete"], answer["finished_at"] or ""
        return one.complete


def as_image(row: dict[str, str], ended_at: str) -> dict[str, Any]:
    """Returns a row in the form of the image of a request. When it failed is not known, only the end."""
    return {
        "filename": row["key"],
        "answered_at": ended_at,
        "error": {"code": row["error_code"], "message": row["error_message"]},
    }
