"""Limits how many HTTP requests may wait, how many answers are read, and how many tables are written at once.

Each HTTP request that waits occupies a thread. The limits keep some threads, and memory, free for all other
requests.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from threading import BoundedSemaphore, Condition

from werkzeug.exceptions import ServiceUnavailable

OF_ALL = 7 / 8  # share of the threads that may wait for any reason
OF_STREAMS = 1 / 2  # share of the threads for streams, which may last forever; uploads do not
MOST_ANSWERS = 32  # that are read from S3 at once; one with 1000 images takes up to 15 MB meanwhile
MOST_ANSWERS_OF_CLIENT = 8  # of these, so that a client who asks for many keeps nobody else from theirs
ANSWER_SECONDS = 30  # the longest wait for the answers that others read
AGAIN_SECONDS = 5  # the Retry-After of whom a limit refuses
MOST_TABLES = 8  # of batches; each takes up to 50 MB, and more threads, for as long as its client reads it
MOST_TABLES_OF_CLIENT = 3


class Room:
    """Room for what takes memory: for so many at once, and for fewer of one client."""

    def __init__(self, most: int, most_of_client: int) -> None:
        self.most, self.most_of_client = most, most_of_client
        self._taken: Counter[str] = Counter()
        """How many there are now of each client."""
        self._changed = Condition()

    @contextmanager
    def take(self, client: str, seconds: float = 0) -> Iterator[bool]:
        """Says whether there is room for one more of the client in the block.

        Waits until there is some, for at most `seconds`.
        """
        with self._changed:
            taken = self._changed.wait_for(lambda: self._is_there_for(client), seconds)
            self._taken[client] += taken
        try:
            yield taken
        finally:
            with self._changed:
                self._taken[client] -= taken
                self._taken = +self._taken  # without those who have none any more
                self._changed.notify_all()

    def _is_there_for(self, client: str) -> bool:
        return self._taken.total() < self.most and self._taken[client] < self.most_of_client


class WaitLimits:
    """The limits of one process, which answers HTTP requests in `threads` threads."""

    def __init__(self, threads: int) -> None:
        self._all = BoundedSemaphore(max(1, int(threads * OF_ALL)))
        self._streams = BoundedSemaphore(max(1, int(threads * OF_STREAMS)))
        self._tables = Room(MOST_TABLES, MOST_TABLES_OF_CLIENT)
        self._answers = Room(MOST_ANSWERS, MOST_ANSWERS_OF_CLIENT)

    def of_request(self) -> AbstractContextManager[bool]:
        """Returns a context manager that says whether an HTTP request may wait inside the block."""
        return holding(self._all)

    def of_stream(self) -> AbstractContextManager[bool]:
        """Returns a context manager that says whether a stream may stay open inside the block."""
        return holding(self._streams, self._all)

    def of_table(self, client: str) -> AbstractContextManager[bool]:
        """Returns a context manager that says whether a table may be written inside the block."""
        return self._tables.take(client)

    def of_answer(self, client: str) -> AbstractContextManager[bool]:
        """Returns a context manager that says whether an answer may be read from S3 inside the block.

        While too many are read, in all or for this client, it waits for up to ANSWER_SECONDS.
        """
        return self._answers.take(client, ANSWER_SECONDS)


@contextmanager
def granted(limit: AbstractContextManager[bool], message: str) -> Iterator[None]:
    """Must enclose what the limit is for. Raises ServiceUnavailable with the message when it refuses."""
    with limit as allowed:
        if not allowed:
            raise ServiceUnavailable(message, retry_after=AGAIN_SECONDS)
        yield


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
