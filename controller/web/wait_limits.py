"""Requests that wait hold a thread each, so only so many may: the others always find one that is free."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from threading import BoundedSemaphore

OF_ALL = 7 / 8  # of the threads: for waits of any kind
OF_STREAMS = 1 / 2  # of the threads: streams may last for ever, uploads do not


class WaitLimits:
    """Of a process with so many threads."""

    def __init__(self, threads: int) -> None:
        self._all = BoundedSemaphore(max(1, int(threads * OF_ALL)))
        self._streams = BoundedSemaphore(max(1, int(threads * OF_STREAMS)))

    def of_request(self) -> AbstractContextManager[bool]:
        """Whether it may wait inside the block."""
        return holding(self._all)

    def of_stream(self) -> AbstractContextManager[bool]:
        """Whether it may stay open inside the block."""
        return holding(self._streams, self._all)


@contextmanager
def holding(*semaphores: BoundedSemaphore) -> Iterator[bool]:
    """One of each, or none of any."""
    with ExitStack() as held:
        for semaphore in semaphores:
            if semaphore.acquire(blocking=False):
                held.callback(semaphore.release)
            else:
                held.close()
                yield False
                return
        yield True
