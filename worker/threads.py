"""Starts threads, and sets their priority."""

import os
from collections.abc import Callable
from threading import Thread, get_native_id

NICE = 10


def start(name: str, count: int, work: Callable[[int], None]) -> list[Thread]:
    """Starts `count` threads, each of which calls `work` with its number."""
    threads = [Thread(target=work, args=[number], name=f"{name}-{number}") for number in range(count)]
    for thread in threads:
        thread.start()
    return threads


def yield_to_others() -> None:
    """Lowers the priority of the calling thread and of those that it starts.

    The threads that compute would otherwise keep those from the processor that talk to AWS, and then run out
    of images. On two cores, a worker does a seventh more with this (bench/README.md).
    """
    os.setpriority(os.PRIO_PROCESS, get_native_id(), NICE)  # of this thread alone, on Linux
