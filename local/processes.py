"""The processes that carry a mark: find them, wait for them, stop them, and guard them.

A mark is ``NAME=value`` in a process's environment. Children inherit it through fork, exec, nohup and setsid,
so it finds what a first pid or a process group does not. Linux only: /proc and pidfds.

Run as a program, this file is the guardian: ``processes.py MARK GRACE`` waits for the end of its standard
input, which comes when the process that holds the other end is gone, however it went, and then stops every
process that carries the mark. It needs nothing but the standard library.
"""

import os
import select
import signal
import sys
import time
from collections.abc import Iterable
from contextlib import ExitStack, suppress

KILLED_WITHIN = 5.0  # seconds that the kernel gets to end a process after SIGKILL
LOOKS = 4
SECONDS_BETWEEN_LOOKS = 0.02


def marked(mark: str) -> list[int]:
    """Pids of the living processes with `mark` in their environment; zombies have none.

    Looks again where it found nothing (a daemon forks and is gone) or a process in the middle of exec, which
    has no environment for a moment.
    """
    if not all(mark.partition("=")):
        raise ValueError(f"a mark is NAME=value, not {mark!r}")  # an empty one is in every environment
    for _ in range(LOOKS):
        found, unclear = _look(mark.encode())
        if found and not unclear:
            break
        select.select([], [], [], SECONDS_BETWEEN_LOOKS)
    return found


def _look(entry: bytes) -> tuple[list[int], list[int]]:
    found, unclear = [], []
    for pid in [int(name) for name in os.listdir("/proc") if name.isdigit()]:
        with suppress(OSError), open(f"/proc/{pid}/environ", "rb") as file:  # it ended, or is another user's
            environment = file.read().split(b"\0")
            if entry in environment:
                found.append(pid)
            elif environment == [b""] and os.readlink(f"/proc/{pid}/exe"):  # the kernel's threads have none
                unclear.append(pid)
    return found, unclear


def wait(pids: Iterable[int], seconds: float | None = None, wake: int | None = None) -> bool:
    """Whether all of `pids` ended; False after `seconds` or when the descriptor `wake` can be read."""
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
    """SIGTERM and, after `grace` seconds, SIGKILL to every process with `mark`; returns pids that live on."""
    end = time.monotonic() + grace
    pids = marked(mark)
    _signal(pids, signal.SIGTERM)
    while pids and time.monotonic() < end + KILLED_WITHIN:
        if not wait(pids, max(0.05, end - time.monotonic())):
            _signal(marked(mark), signal.SIGKILL)
        pids = marked(mark)  # what was forked meanwhile
    return pids


def _signal(pids: Iterable[int], number: signal.Signals) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def guard(mark: str, grace: float) -> None:
    """Stop what carries `mark` at the end of standard input."""
    while os.read(sys.stdin.fileno(), 1024):
        pass
    stop(mark, grace)


if __name__ == "__main__":
    guard(sys.argv[1], float(sys.argv[2]))
