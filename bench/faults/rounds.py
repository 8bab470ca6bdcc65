"""Clients that upload ten images at a time, and let the fleet go down to nothing in between."""

import secrets
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from threading import Event, Thread

import requests

from bench.faults.load import FILES, POST_TIMEOUT, Clients, Seen, Sent
from local.driver import System

UPLOADERS = 3
ANSWERED_SECONDS = 20.0  # a client that waits for longer uploads something else meanwhile
DOWN_SECONDS = 4.0  # in which the fleet should have gone down


def ten_files() -> list[tuple[str, bytes]]:
    """Returns ten files, of which two are no pictures. None of them was sent before, so none is cached."""
    return [(name, data + secrets.token_bytes(8)) for name, data in [*FILES, *FILES]]


class Rounds:
    """Uploads until the block ends. What the clients saw is in `seen`."""

    def __init__(self, system: System, seen: Seen) -> None:
        self.system, self.seen, self.over = system, seen, Event()
        self.clients = Clients(system, self.over, seen)
        self.rounds = 0
        self._threads = [Thread(target=self._upload, args=[n]) for n in range(UPLOADERS)]

    def __enter__(self) -> "Rounds":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        for thread in self._threads:
            thread.join()

    def _upload(self, number: int) -> None:
        while not self.over.is_set():
            before = len(self.seen.accepted)
            self.clients.send(ten_files(), secrets.token_hex(8))
            if number == 0:
                self._cancel_one()
                self._look()
            mine = self.seen.accepted[before:]
            self._wait(partial(self._answered, mine), ANSWERED_SECONDS)
            self._wait(lambda: not self.system.active(), DOWN_SECONDS)
            self.rounds += 1

    def _answered(self, requests_sent: Sequence[Sent]) -> bool:
        return all(sent.complete or self.clients.read(sent) for sent in requests_sent)

    def _wait(self, until: Callable[[], object], seconds: float) -> None:
        end = time.monotonic() + seconds
        while not self.over.is_set() and time.monotonic() < end and not until():
            self.over.wait(0.1)

    def _cancel_one(self) -> None:
        """Uploads two images and cancels them at once, as somebody does who has changed his mind.

        One that is neither answered nor cancelled afterwards has a key in the input bucket alone.
        """
        with suppress(requests.RequestException):
            parts = [("image_file", file) for file in FILES[:2]]
            headers = {"Prefer": "respond-async", "Accept": "application/json"}
            reply = requests.post(self.system.url, files=parts, headers=headers, timeout=POST_TIMEOUT)
            if reply.status_code == 202:
                address = self.system.url.rstrip("/") + reply.headers["Location"]
                reply = requests.post(address + "/cancel", headers=headers, timeout=POST_TIMEOUT)
            if not reply.ok:
                self.seen.note_refusal(reply)

    def _look(self) -> None:
        """Asks for what a monitor and a curious user ask for."""
        for path in ("readyz", "fleet", "metrics"):
            with suppress(requests.RequestException):
                requests.get(self.system.url + path, headers={"Accept": "application/json"}, timeout=30)


def begin_anew(system: System) -> None:
    """Kills the controllers, and ends the instances that are stopped and would be started again."""
    for controller in system.controllers():
        controller.kill()
    if stopped := [instance["InstanceId"] for instance in system.instances("stopped")]:
        system.client("ec2").terminate_instances(InstanceIds=stopped)
