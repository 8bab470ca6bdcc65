"""Limits how many HTTP requests may wait, how many answers are read, and how many tables are written at once.

Each HTTP request that waits occupies a thread. The limits keep some threads, and memory, free for all other
requests.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from threading import BoundedSemaphore

OF_ALL = 7 / 8  # share of the threads that may wait for any reason
OF_STREAMS = 1 / 2  # share of the threads for streams, which may last forever; uploads do not
MOST_ANSWERS = 32  # that are read from S3 at once; one with 1000 images takes up to 15 MB meanwhile
ANSWER_SECONDS = 30  # the longest wait for the answers that others read
MOST_TABLES = 8  # of batches; each takes up to 50 MB, and more threads, for as long as its client reads it


class WaitLimits:
    """The limits of one process, which answers HTTP requests in `threads` threads."""

    def __init__(self, threads: int) -> None:
        self._all = BoundedSemaphore(max(1, int(threads * OF_ALL)))
        self._streams = BoundedSemaphore(max(1, int(threads * OF_STREAMS)))
        self._tables = BoundedSemaphore(MOST_TABLES)
        self._answers = BoundedSemaphore(MOST_ANSWERS)

    def of_request(self) -> AbstractContextManager[bool]:
        """Returns a context manager that says whether an HTTP request may wait inside the block."""
        return holding(self._all)

    def of_stream(self) -> AbstractContextManager[bool]:
        """Returns a context manager that says whether a stream may stay open inside the block."""
        return holding(self._streams, self._all)

    def of_table(self) -> AbstractContextManager[bool]:
        """Returns a context manager that says whether a table may be written inside the block."""
        return holding(self._tables)

    def of_answer(self) -> AbstractContextManager[bool]:
        """Returns a context manager that says whether an answer may be read from S3 inside the block.

        While others read too many, it waits for up to ANSWER_SECONDS.
        """
        return holding(self._answers, seconds=ANSWER_SECONDS)


@contextmanager
def holding(*semaphores: BoundedSemaphore, seconds: float = 0) -> Iterator[bool]:
    """Acquires every semaphore for the duration of the block, or none. Yields whether they were acquired.

    Waits for each of them for up to `seconds`.
    """
    with ExitStack() as held:
        for semaphore in semaphores:
            if semaphore.acquire(timeout=seconds):
                held.callback(semaphore.release)
            else:
                held.close()
                yield False
                return
        yield True
