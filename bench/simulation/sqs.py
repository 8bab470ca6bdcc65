from collections import deque

STEP = 0.1  # seconds between the counts that are kept


class Queue:
    """Images by number, in the order of their sending; counts that are some seconds old."""

    def __init__(self, lag: float) -> None:
        self.lag = lag
        self.sent = self.head = self.in_flight = 0
        """Images from `head` to `sent` are visible, and those that were given back."""
        self.given_back: list[int] = []
        self.history: deque[tuple[float, int, int]] = deque([(float("-inf"), 0, 0)])

    @property
    def visible(self) -> int:
        return self.sent - self.head + len(self.given_back)

    def receive(self, count: int) -> list[int]:
        back = [self.given_back.pop() for _ in range(min(count, len(self.given_back)))]
        new = min(count - len(back), self.sent - self.head)
        images = [*back, *range(self.head, self.head + new)]
        self.head += new
        self.in_flight += len(images)
        return images

    def delete(self, count: int) -> None:
        self.in_flight -= count

    def give_back(self, images: list[int]) -> None:
        self.in_flight -= len(images)
        self.given_back += images

    def remember(self, now: float) -> None:
        """Must be called after every change."""
        time = self.history.pop()[0] if now - self.history[-1][0] < STEP else now
        self.history.append((time, self.visible, self.in_flight))

    def counts(self, now: float) -> tuple[int, int]:
        """Returns what is visible and what is in flight, as GetQueueAttributes tells them."""
        while len(self.history) > 1 and self.history[1][0] <= now - self.lag:
            self.history.popleft()
        return self.history[0][1:]
