"""Shifts the clock of a controller or worker process by what SKEW_FILE says when the process starts.

A process of Python does this when the folder of this file is in its PYTHONPATH. The file contains JSON such
as ``{"controller": 180, "worker": 0}``: the seconds by which the clock of each tier is ahead. Only the time
of day is shifted; the monotonic clock goes on as before.
"""

import datetime
import json
import os
import sys
import time
from itertools import pairwise
from pathlib import Path

TIERS = {"gunicorn": "controller", "worker": "worker"}  # by what `python -m` runs


def seconds_ahead() -> float:
    words, file = sys.orig_argv, os.environ.get("SKEW_FILE")
    tiers = [TIERS.get(module, "") for flag, module in pairwise(words) if flag == "-m"]
    if not file or not any(tiers):
        return 0.0
    seconds: float = json.loads(Path(file).read_text()).get(tiers[0], 0.0)
    return seconds


def shift(seconds: float) -> None:
    real_time, real_datetime = time.time, datetime.datetime

    class AnyDatetime(type):
        def __instancecheck__(cls, instance: object) -> bool:
            return isinstance(instance, real_datetime)

    class SkewedDatetime(real_datetime, metaclass=AnyDatetime):
        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> "SkewedDatetime":
            return cls.fromtimestamp(time.time(), tz)

        @classmethod
        def utcnow(cls) -> "SkewedDatetime":
            return cls.now(datetime.UTC).replace(tzinfo=None)

    time.time = lambda: real_time() + seconds
    time.time_ns = lambda: int(time.time() * 1e9)
    datetime.datetime = SkewedDatetime  # type: ignore[misc]


if seconds := seconds_ahead():
    shift(seconds)
