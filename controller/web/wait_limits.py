"""Limits how many HTTP requests may wait, how many answers are read, and how many tables are written at once.

Each HTTP request that waits occupies a thread. The limits keep some threads, and memory, free for all other
requests.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from threading import BoundedSemaphore, Condition

OF_ALL = 7 / 8  # share of the threads that may wait for any reason
OF_STREAMS = 1 / 2  # share of the threads for streams, which may last forever; uploads do not
MOST_ANSWERS = 32  # that are read from S3 at once; one with 1000 images takes up to 15 MB meanwhile
MOST_ANSWERS_OF_CLIENT = 8  # of these, so that a client who asks for many keeps nobody else from theirs
ANSWER_SECONDS = 30  # the longest wait for the answers that others read
AGAIN_SECONDS = 5  # the Retry-After of whom a limit refuses
MOST_TABLES = 8  # of batches; each takes up to 50 MB, and more threads, for as long as its client reads it


class WaitLimits:
    """The limits of one process, which answers HTTP requests in `threads` threads."""

    def __init__(self, threads: int) -> None:
        self._all = BoundedSemaphore(max(1, int(threads * OF_ALL)))
        self._streams = BoundedSemaphore(max(1, int(threads * OF_STREAMS)))
        self._tables = BoundedSemaphore(MOST_TABLES)
        self._answers: Counter[str] = Counter()
        """How many each client has read now."""
        self._answer_is_read = Condition()

    def of_request(self) -> AbstractContextManager[bool]:
        """Returns a context manager that says whether an HTTP request may wait inside the block."""
        return holding(self._all)

    def of_stream(self) -> AbstractContextManager[bool]:
        """Returns a context manager that says whether a stream may stay open inside the block."""
        return holding(self._streams, self._all)

    def of_table(self) -> AbstractContextManager[bool]:
        """Returns a context manager that says whether a table may be written inside the block."""
        return holding(self._tables)

    @contextmanager
    def of_answer(self, client: str) -> Iterator[bool]:
        """Says whether the client may have an answer read from S3 inside the block.

        While too many are read, for all clients or for this one, it waits for up to ANSWER_SECONDS.
        """
        with self._answer_is_read:
            may_read = self._answer_is_read.wait_for(lambda: self._is_room_for(client), ANSWER_SECONDS)
            self._answers[client] += may_read
        try:
            yield may_read
        finally:
            with self._answer_is_read:
                self._answers[client] -= may_read
                self._answers = +self._answers  # without those who have none read any more
                self._answer_is_read.notify_all()

    def _is_room_for(self, client: str) -> bool:
        return self._answers.total() < MOST_ANSWERS and self._answers[client] < MOST_ANSWERS_OF_CLIENT


@contextmanager
def holding(*semaphores: BoundedSemaphore) -> Iterator[bool]:
    """Acquires every semaphore for the duration of the block, or none. Yields whether they were acquired."""
    with ExitStack() as held:
        for semaphore in semaphores:
            if semaphore.acquire(blocking=False):
                held.callback(semaphore.release)
            else:
                held.close()
                yield False
                return
        yield True
