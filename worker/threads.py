"""Starts threads, and sets their priority."""

import logging
import os
from collections.abc import Callable
from functools import partial
from threading import Thread, get_native_id
from typing import TypeVar

log = logging.getLogger(__name__)

T = TypeVar("T")

NICE = 10
EXIT_STATUS = 70  # EX_SOFTWARE of sysexits.h


def start(name: str, count: int, work: Callable[[int], None]) -> list[Thread]:
    """Starts `count` threads, each of which calls `work` with its number, as run_or_end does."""
    run = partial(run_or_end, work)
    threads = [Thread(target=run, args=[number], name=f"{name}-{number}") for number in range(count)]
    for thread in threads:
        thread.start()
    return threads


def run_or_end(work: Callable[[T], None], argument: T) -> None:
    """Calls `work`. If that raises an exception, the process ends.

    The other threads would wait forever for what this one held, or go on without it.
    """
    try:
        work(argument)
    except Exception:
        log.critical("a thread has failed: this worker ends itself", exc_info=True)
        os._exit(EXIT_STATUS)


def yield_to_others() -> None:
    """Lowers the priority of the calling thread and of those that it starts.

    The threads that compute would otherwise keep those from the processor that talk to AWS, and then run out
    of images. On two cores, a worker does a seventh more with this (bench/README.md).
    """
    thread = get_native_id()  # on Linux, what follows concerns this thread alone
    nicer = max(NICE, os.getpriority(os.PRIO_PROCESS, thread))  # nobody but root may be less nice than before
    os.setpriority(os.PRIO_PROCESS, thread, nicer)
