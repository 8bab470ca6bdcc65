"""Counts what the worker holds, so that it holds no more than it can work on soon."""

import time
from collections import deque
from threading import Condition, Lock

FEWEST = 20  # images that even a slow worker may hold, so that it need not wait for the next ones
MOST = 120
MOST_ASIDE = 200  # images that may be held beside those, because they wait for the patient decoder
AHEAD_SECONDS = 0.5


class BusyTime:
    """For how long there were images in hand, of whatever kind."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._images = 0
        self._since = self._seconds = 0.0

    def change(self, by: int) -> None:
        """Must be called when there are so many images more in hand, or fewer."""
        with self._lock:
            now = time.monotonic()
            self._seconds += now - self._since if self._images else 0
            self._images, self._since = self._images + by, now

    def seconds(self) -> float:
        """Returns for how many seconds since the last call there were images in hand."""
        self.change(0)
        with self._lock:
            seconds, self._seconds = self._seconds, 0.0
            return seconds


class HeldImages:
    """The images that were received and are not settled: how many, and how many there may be.

    A fast worker far from its buckets must hold many images to be busy, but a slow one should leave them to
    others. So the limit is the number of images that were settled in the last AHEAD_SECONDS, and at least
    FEWEST and at most MOST. Images that were set aside do not count, so that they keep out no others.
    """

    def __init__(self, busy: BusyTime) -> None:
        self.busy = busy
        self._changed = Condition()
        self._reserved = self._held = self._aside = 0
        self._settled: deque[float] = deque(maxlen=MOST)

    def __len__(self) -> int:
        return self._held

    def has_room(self, images: int) -> bool:
        """Returns whether so many more images might be held, whatever room is reserved."""
        with self._changed:
            return self._held + images <= self._limit()

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
        self.busy.change(images)
        with self._changed:
            self._reserved -= reserved
            self._held += images
            self._changed.notify_all()

    def settle(self) -> None:
        """Must be called when the work on an image is over."""
        self.busy.change(-1)
        with self._changed:
            self._held -= 1
            self._settled.append(time.monotonic())
            self._changed.notify_all()

    def set_aside(self) -> None:
        """Must be called when an image that is held begins to wait for long."""
        self._change_aside(1)

    def take_up(self) -> None:
        """Must be called when the wait of an image that was set aside is over."""
        self._change_aside(-1)

    def _limit(self) -> int:
        since = time.monotonic() - AHEAD_SECONDS
        return max(FEWEST, sum(at > since for at in self._settled)) + min(self._aside, MOST_ASIDE)

    def _change_aside(self, by: int) -> None:
        with self._changed:
            self._aside += by
            self._changed.notify_all()


class ByteBudget:
    """A number of bytes that several threads share. Whoever comes first is first, however many he wants.

    Otherwise, a large file would wait for as long as smaller ones come.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.waiting: deque[object] = deque()
        """One object for each thread that waits, in the order in which they came."""
        self._taken = 0
        self._changed = Condition()

    def take(self, amount: int) -> None:
        """Waits until `amount` bytes are free, and takes them. A larger amount than all waits for all."""
        turn = object()
        with self._changed:
            self.waiting.append(turn)
            self._changed.wait_for(lambda: self.waiting[0] is turn and self._is_free(amount))
            self.waiting.popleft()
            self._taken += amount
            self._changed.notify_all()

    def give(self, amount: int) -> None:
        """Gives bytes back that were taken."""
        with self._changed:
            self._taken -= amount
            self._changed.notify_all()

    def _is_free(self, amount: int) -> bool:
        return not self._taken or self._taken + amount <= self.size
