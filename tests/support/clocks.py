"""Sets the clock of the host wrong, while that of AWS stays right."""

from dataclasses import dataclass
from datetime import datetime, timedelta

import pytest

import cloud.clock


@dataclass
class Clock:
    """A clock of seconds that a test sets, in place of time.monotonic."""

    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


def set_host_clock(monkeypatch: pytest.MonkeyPatch, ahead: float) -> None:
    """From now on, the clock of this host is so many seconds ahead."""

    class HostClock(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.now(tz) + timedelta(seconds=ahead)

    monkeypatch.setattr(cloud.clock, "datetime", HostClock)
    monkeypatch.setattr(cloud.clock.clock, "_ahead_of_host", timedelta())
