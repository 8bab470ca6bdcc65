"""Decides when to list the predictions: when some are due, and neither much later nor much more often."""

import time
from collections import deque
from collections.abc import Callable

LONE_SECONDS = 0.006  # the shortest pause while one image waits
SHARED_SECONDS = 0.075  # the shortest pause while several do
SLOWEST_SECONDS = 1.0
WAITED_SHARE = 0.2  # the pause as a share of the time without news, which limits the delay due to the pause
PER_LISTING = 16  # the predictions that a listing should find if so many are due
RATE_SECONDS = 3.0  # over which the rate of predictions is measured
DUE_SHARE = 0.8  # of the time that an image has lately taken, after which its prediction may be there
LONGEST_DUE_SECONDS = 0.2


class Pace:
    """Not for several threads. All times are in seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self._listed_at = self._news_at = self._since = clock()
        self._images = 0  # what the next listing looks for
        self._found: deque[tuple[float, float, int]] = deque()
        """The listings that tell the rate: when they ended, for which seconds they stand, what they found."""
        self._lone_seconds = 0.0

    def note_listing(self, found: int) -> None:
        """Notes that a listing has ended that found so many new predictions.

        If it found all that waited, it could have come earlier: perhaps in half the time. Otherwise, clients
        that send the next image when the last one is found would seem to be as slow as the listings.
        """
        self._listed_at = self.clock()
        if found:
            self._news_at = self._listed_at
        if found and self._images > 1:
            seconds = self._listed_at - self._since
            self._found.append((self._listed_at, seconds / 2 if found >= self._images else seconds, found))
        self._since = self._listed_at
        self._images = max(0, self._images - found)

    def note_answer(self, seconds: float, alone: bool) -> None:
        """Notes how long a request has waited for a prediction, and whether no other one waited."""
        if alone:
            self._lone_seconds = min(seconds, LONGEST_DUE_SECONDS)

    def pause(self, images: int, sent_at: float) -> float:
        """Returns the seconds until the next listing, which is due if they are not positive.

        `images` have no prediction yet. The last of them were sent at `sent_at`.
        """
        now = self.clock()
        if not self._images:  # nothing has waited since the last listing
            self._since = now
        self._images = images
        waited = now - max(sent_at, self._news_at)
        slow = min(waited * WAITED_SHARE, SLOWEST_SECONDS)
        if images == 1:
            due = sent_at + DUE_SHARE * self._lone_seconds
            return max(due, self._listed_at + max(LONE_SECONDS, slow)) - now
        pause = min(self._seconds_for(min(images, PER_LISTING), now), SLOWEST_SECONDS)
        return self._listed_at + max(SHARED_SECONDS, pause, slow) - now

    def _seconds_for(self, images: int, now: float) -> float:
        """Returns how long so many predictions take at the present rate, or 0 if it is unknown."""
        while self._found and now - self._found[0][0] > RATE_SECONDS:
            self._found.popleft()
        found = sum(found for _, _, found in self._found)
        return images * sum(seconds for _, seconds, _ in self._found) / found if found else 0.0
