"""Limits how often AWS is read, however many threads ask."""

from collections.abc import Callable
from threading import Lock
from time import monotonic
from typing import Generic, TypeVar

T = TypeVar("T")


class SharedReading(Generic[T]):
    """Lets callers at about the same time share one reading, and reuses it for a while."""

    def __init__(
        self, seconds: float, largest_share: float = 1.0, clock: Callable[[], float] = monotonic
    ) -> None:
        """A reading is reused for `seconds` after it ended, or for longer if it took long.

        No more than `largest_share` (0 to 1) of the time is spent on reading.
        """
        self.seconds, self.largest_share, self.clock = seconds, largest_share, clock
        self._lock = Lock()
        self._read_again_at = float("-inf")
        self._value: T
        self._failures = 0
        self._failure: Exception

    def get(self, read: Callable[[], T]) -> T:
        """Returns the last value that was read, or calls `read` if it is too old.

        Callers wait while another one reads. What `read` raises goes to them as well, since an AWS that does
        not answer would make each of them wait as long. Whoever comes later reads again.
        """
        failures = self._failures
        with self._lock:
            if self.clock() >= self._read_again_at:
                if failures != self._failures:
                    raise self._failure
                self._value = self._read(read)
            return self._value

    def _read(self, read: Callable[[], T]) -> T:
        started = self.clock()
        try:
            value = read()
        except Exception as failure:
            self._failures, self._failure = self._failures + 1, failure
            raise
        ended = self.clock()
        took = ended - started
        self._read_again_at = ended + max(self.seconds, took / self.largest_share - took)
        return value
