"""Passes images from one step of the pipeline to the next."""

from itertools import count
from queue import PriorityQueue

from worker.work import Work

LAST = 2  # the rank of the end of a queue, after that of every image


class WorkQueue:
    """Passes images on: those with the lowest rank first, and of those the one that came first."""

    def __init__(self) -> None:
        self._queue: PriorityQueue[tuple[int, int, Work | None]] = PriorityQueue()
        self._numbers = count()

    def __len__(self) -> int:
        return self._queue.qsize()

    def put(self, work: Work) -> None:
        self._queue.put((work.rank, next(self._numbers), work))

    def end(self) -> None:
        """Lets one thread get None, once there are no more images."""
        self._queue.put((LAST, next(self._numbers), None))

    def get(self, block: bool = True) -> Work | None:
        """Returns the next image, or None at the end. Raises Empty if there is none and it may not block."""
        return self._queue.get(block)[2]
