"""Counts what the worker holds, so that it holds no more than it can work on soon."""

import time
from collections import deque
from threading import Condition

FEWEST = 20  # images that even a slow worker may hold, so that it need not wait for the next ones
MOST = 120
MOST_ASIDE = 200  # images that may be held beside those, because they wait for the patient decoder
AHEAD_SECONDS = 0.5


class HeldImages:
    """The images that were received and are not settled: how many, how many there may be, and for how long.

    A fast worker far from its buckets must hold many images to be busy, but a slow one should leave them to
    others. So the limit is the number of images that were settled in the last AHEAD_SECONDS, and at least
    FEWEST and at most MOST. Images that were set aside do not count, so that they keep out no others.
    """

    def __init__(self) -> None:
        self._changed = Condition()
        self._reserved = self._held = self._aside = 0
        self._settled: deque[float] = deque(maxlen=MOST)
        self._busy_since = 0.0
        self._busy_seconds = 0.0

    def __len__(self) -> int:
        return self._held

    def reserve(self, images: int, timeout: float) -> bool:
        """Waits until so many more images may be held, and reserves the room for them.

        Returns False when there was no room for them within `timeout` seconds.
        """
        with self._changed:
            room = self._changed.wait_for(
                lambda: self._reserved + self._held + images <= self._limit(), timeout
            )
            self._reserved += images if room else 0
            return room

    def receive(self, images: int, reserved: int) -> None:
        """Must be called when `images` were received for which room for `reserved` ones was reserved."""
        with self._changed:
            if images and not self._held:
                self._busy_since = time.monotonic()
            self._reserved -= reserved
            self._held += images
            self._changed.notify_all()

    def settle(self) -> None:
        """Must be called when the work on an image is over."""
        with self._changed:
            now = time.monotonic()
            self._held -= 1
            self._settled.append(now)
            if not self._held:
                self._busy_seconds += now - self._busy_since
            self._changed.notify_all()

    def set_aside(self) -> None:
        """Must be called when an image that is held begins to wait for long."""
        self._change_aside(1)

    def take_up(self) -> None:
        """Must be called when the wait of an image that was set aside is over."""
        self._change_aside(-1)

    def busy_seconds(self) -> float:
        """Returns for how many seconds since the last call there were images in hand."""
        with self._changed:
            now = time.monotonic()
            seconds = self._busy_seconds + (now - self._busy_since if self._held else 0)
            self._busy_since, self._busy_seconds = now, 0.0
            return seconds

    def _limit(self) -> int:
        since = time.monotonic() - AHEAD_SECONDS
        return max(FEWEST, sum(at > since for at in self._settled)) + min(self._aside, MOST_ASIDE)

    def _change_aside(self, by: int) -> None:
        with self._changed:
            self._aside += by
            self._changed.notify_all()


class ByteBudget:
    """A number of bytes that several threads share."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._taken = 0
        self._changed = Condition()

    def take(self, amount: int) -> None:
        """Waits until `amount` bytes are free, and takes them. A larger amount than all waits for all."""
        with self._changed:
            self._changed.wait_for(lambda: not self._taken or self._taken + amount <= self.size)
            self._taken += amount

    def give(self, amount: int) -> None:
        """Gives bytes back that were taken."""
        with self._changed:
            self._taken -= amount
            self._changed.notify_all()
