"""Passes images from one step of the pipeline to the next."""

from heapq import heappop
from itertools import count
from queue import PriorityQueue

from worker.work import Work

LAST = 2  # the rank of the end of a queue, after that of every image


class WorkQueue:
    """Passes images on: those with the lowest rank first, and of those the one that came first."""

    def __init__(self) -> None:
        self._queue: PriorityQueue[tuple[int, int, Work | None]] = PriorityQueue()
        self._numbers = count()

    def put(self, work: Work) -> None:
        self._queue.put((work.rank, next(self._numbers), work))

    def end(self) -> None:
        """Lets one thread get None, once there are no more images."""
        self._queue.put((LAST, next(self._numbers), None))

    def get(self) -> Work | None:
        """Waits for the next image and returns it, or None at the end."""
        return self._queue.get()[2]

    def get_more(self, rank: int, most: int) -> list[Work]:
        """Returns at most so many of the next images, if they are there and have this rank."""
        found: list[Work] = []
        with self._queue.mutex:
            waiting = self._queue.queue
            while len(found) < most and waiting and waiting[0][0] == rank:
                work = heappop(waiting)[2]
                if work is not None:
                    found.append(work)
        return found
