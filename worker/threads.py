"""Starts threads, and sets their priority."""

import logging
import os
from collections.abc import Callable
from functools import partial
from threading import Thread, get_native_id

log = logging.getLogger(__name__)

NICE = 10
EXIT_STATUS = 70  # EX_SOFTWARE of sysexits.h


def start(name: str, count: int, work: Callable[[int], None]) -> list[Thread]:
    """Starts `count` threads, each of which calls `work` with its number.

    If that raises an exception, the process ends: the worker would wait forever for what the thread held.
    """
    run = partial(run_or_end, work)
    threads = [Thread(target=run, args=[number], name=f"{name}-{number}") for number in range(count)]
    for thread in threads:
        thread.start()
    return threads


def run_or_end(work: Callable[[int], None], number: int) -> None:
    try:
        work(number)
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
