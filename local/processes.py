"""Finds the processes that carry a mark, waits for them, and stops them.

A mark is an environment variable, ``NAME=value``. Child processes inherit it through fork, exec, nohup and
setsid, so it also finds processes that are in another process group or have another parent. This module needs
/proc and pidfds, which only Linux has.

As a program, this file is the guardian: ``processes.py MARK GRACE`` waits until its standard input ends, and
then stops every process that carries the mark. The input ends when the process at its other end is gone, even
if it was killed. The program uses only the standard library.
"""

import os
import select
import signal
import sys
import time
from collections.abc import Iterable
from contextlib import ExitStack, suppress

KILLED_WITHIN = 5.0  # seconds that the kernel has to end a process after SIGKILL
LOOKS = 4  # how often `marked` searches at most
SECONDS_BETWEEN_LOOKS = 0.02


def marked(mark: str) -> list[int]:
    """Returns the pids of the processes that have `mark` in their environment. Zombies are not included.

    Searches again if it found none, because a daemon may just be forking, and if it found a process in the
    middle of exec, which has no environment for a moment.
    """
    if not all(mark.partition("=")):
        raise ValueError(f"a mark is NAME=value, not {mark!r}")  # an empty mark would match every process
    for _ in range(LOOKS):
        found, unclear = _look(mark.encode())
        if found and not unclear:
            break
        select.select([], [], [], SECONDS_BETWEEN_LOOKS)
    return found


def _look(entry: bytes) -> tuple[list[int], list[int]]:
    """Returns the pids that have the entry, and those whose environment cannot be known yet."""
    found, unclear = [], []
    for pid in [int(name) for name in os.listdir("/proc") if name.isdigit()]:
        # OSError: the process has ended, or belongs to another user.
        with suppress(OSError), open(f"/proc/{pid}/environ", "rb") as file:
            environment = file.read().split(b"\0")
            if entry in environment:
                found.append(pid)
            elif environment == [b""] and os.readlink(f"/proc/{pid}/exe"):  # not a thread of the kernel
                unclear.append(pid)
    return found, unclear


def wait(pids: Iterable[int], seconds: float | None = None, wake: int | None = None) -> bool:
    """Waits until all of `pids` have ended, and returns True.

    Returns False after `seconds`, or as soon as the file descriptor `wake` can be read.
    """
    poll = select.poll()
    with ExitStack() as opened:
        left = set()
        for pid in pids:
            with suppress(ProcessLookupError):
                left.add(pidfd := os.pidfd_open(pid))
                opened.callback(os.close, pidfd)
                poll.register(pidfd, select.POLLIN)
        if wake is not None:
            poll.register(wake, select.POLLIN)
        end = None if seconds is None else time.monotonic() + seconds
        while left:
            ready = poll.poll(None if end is None else max(0.0, end - time.monotonic()) * 1000)
            if not ready or any(descriptor == wake for descriptor, _ in ready):
                return False
            for pidfd, _ in ready:
                poll.unregister(pidfd)
                left.discard(pidfd)
    return True


def stop(mark: str, grace: float) -> list[int]:
    """Stops every process that carries `mark`: with SIGTERM first, and with SIGKILL after `grace` seconds.

    Returns the pids of processes that are still alive, which is an empty list unless the kernel is stuck.
    """
    end = time.monotonic() + grace
    pids = marked(mark)
    _signal(pids, signal.SIGTERM)
    while pids and time.monotonic() < end + KILLED_WITHIN:
        if not wait(pids, max(0.05, end - time.monotonic())):
            _signal(marked(mark), signal.SIGKILL)
        pids = marked(mark)  # includes processes that were forked in the meantime
    return pids


def _signal(pids: Iterable[int], number: signal.Signals) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def guard(mark: str, grace: float) -> None:
    """Waits for the end of the standard input, then stops every process that carries `mark`."""
    while os.read(sys.stdin.fileno(), 1024):
        pass
    stop(mark, grace)


if __name__ == "__main__":
    guard(sys.argv[1], float(sys.argv[2]))
