"""The clients of a system under faults: they upload, repeat uploads that failed, and watch the answers."""

import random
import secrets
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from threading import Event, Lock
from typing import Any

import requests

from bench.photos import PHOTOS
from local.driver import System

GIVE_UP_SECONDS = 240  # after which a POST should have been accepted
POST_TIMEOUT = 40  # seconds; longer than a paused process is paused
FILES = [*((f"{name}.jpg", data) for name, (data, _) in PHOTOS.items()), ("notes.txt", b"no picture")]


@dataclass
class Sent:
    """A request that was accepted."""

    address: str
    images: int
    at: float
    """When it was first sent, in seconds since the epoch."""
    seen: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """The first answer to each image, by image-id."""
    images_seen: list[dict[str, Any]] = field(default_factory=list)
    complete: bool = False
    lock: Lock = field(default_factory=Lock)
    """It must be held while an answer is read and noted, so that answers are noted in order."""


@dataclass
class Seen:
    """The replies that the clients got, and those that they did not get."""

    accepted: list[Sent] = field(default_factory=list)
    cut: int = 0
    """Replies that did not come, because a process died or stood still."""
    refused: Counter[str] = field(default_factory=Counter)
    """Refusals, by status and code."""
    without_a_sentence: list[str] = field(default_factory=list)
    """Refusals and waiting answers that did not say why."""
    changed: list[str] = field(default_factory=list)
    """Images whose answer changed."""
    older: int = 0
    """Images that waited, as a process that had stood still said, when another had said their answer."""
    twice: list[str] = field(default_factory=list)
    """Idempotency keys that got two requests."""
    never_accepted: list[str] = field(default_factory=list)
    """Idempotency keys whose POST was refused again and again."""
    lock: Lock = field(default_factory=Lock)

    def note_refusal(self, reply: requests.Response) -> str:
        """Returns the code of the refusal."""
        try:
            error = reply.json()["error"]
            code, sentence = error["code"], error["message"]
        except (ValueError, KeyError, TypeError):
            code, sentence = "", ""
        with self.lock:
            self.refused[f"{reply.status_code} {code}"] += 1
            if not (code and sentence.strip().endswith((".", ")"))):
                self.without_a_sentence.append(f"{reply.status_code} {reply.text[:200]}")
        return str(code)

    def note_answer(self, sent: Sent, answer: dict[str, Any]) -> None:
        if not answer["complete"] and not (answer.get("wait") or {}).get("message"):
            self.without_a_sentence.append(f"{sent.address} waits")
        for image in answer["images"]:
            if image["status"] == "waiting":
                self.older += image["image_id"] in sent.seen
                continue
            final = image["status"], str(image["label"]), str(image["answered_at"]), str(image["error"])
            if sent.seen.setdefault(image["image_id"], final) != final:
                self.changed.append(image["image_id"])
        sent.images_seen, sent.complete = answer["images"], answer["complete"]


class Clients:
    def __init__(self, system: System, over: Event, seen: Seen) -> None:
        self.system, self.over, self.seen = system, over, seen

    def upload(self, draw: random.Random) -> None:
        """Uploads some files every few seconds until `over` is set."""
        while not self.over.wait(draw.uniform(1, 8)):
            files = draw.choices(FILES, k=draw.randint(1, 12))
            key = secrets.token_hex(8) if draw.random() < 0.7 else ""
            again, patient = bool(key) and draw.random() < 0.3, bool(key) and draw.random() < 0.8
            self.send(files, key, again, patient)

    def send(
        self, files: Sequence[tuple[str, bytes]], key: str = "", again: bool = False, patient: bool = True
    ) -> None:
        """Uploads the files, until they are accepted if the client is patient, and notes the request.

        May do so again, when they have been accepted.
        """
        at = time.time()
        locations = {location for _ in range(1 + again) if (location := self.post(files, key, patient))}
        if len(locations) > 1:
            self.seen.twice.append(key)
        self.seen.accepted += [
            Sent(self.system.url.rstrip("/") + place, len(files), at) for place in locations
        ]

    def post(self, files: Sequence[tuple[str, bytes]], key: str, patient: bool) -> str:
        """Returns the location of the request, or "" if it was not accepted.

        A patient client repeats the POST until it is, for at most GIVE_UP_SECONDS.
        """
        until = time.monotonic() + GIVE_UP_SECONDS
        headers = {"Prefer": "respond-async", "Accept": "application/json"}
        headers |= {"Idempotency-Key": key} if key else {}
        parts = [("image_file", file) for file in files]
        while True:
            try:
                reply = requests.post(self.system.url, files=parts, headers=headers, timeout=POST_TIMEOUT)
            except requests.RequestException:
                self.seen.cut += 1
            else:
                if reply.status_code == 202:
                    return str(reply.headers["Location"])
                if reply.status_code == 200:  # a repeated POST whose request is complete by now
                    return str(reply.json()["url"])
                self.seen.note_refusal(reply)
            if not patient:
                return ""
            if time.monotonic() > until:
                self.seen.never_accepted.append(key)
                return ""
            time.sleep(1)

    def watch(self, draw: random.Random) -> None:
        """Reads drawn requests again and again until `over` is set, also those that are complete."""
        while not self.over.wait(0.3):
            if self.seen.accepted:
                self.read(draw.choice(self.seen.accepted))

    def read(self, sent: Sent) -> bool:
        """Reads the answer to a request. Returns whether it came and was complete."""
        with sent.lock, suppress(requests.RequestException):
            reply = requests.get(sent.address, headers={"Accept": "application/json"}, timeout=30)
            if reply.ok:
                self.seen.note_answer(sent, reply.json())
                return sent.complete
            self.seen.note_refusal(reply)
        return False

    def read_all(self, seconds: float) -> None:
        """Reads all answers until they are complete or the time is over."""
        until, waiting = time.monotonic() + seconds, list(self.seen.accepted)
        while waiting and time.monotonic() < until:
            waiting = [sent for sent in waiting if not self.read(sent)]
            time.sleep(0.5)
