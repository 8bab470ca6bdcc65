"""Sets of image numbers, written as text such as `0-12,15`.

An event stream uses this text as the id of each event, to say which images it has sent so far. A client that
reconnects sends the last id back in Last-Event-ID.
"""

import re
from bisect import bisect_left

RANGES = re.compile(r"\d{1,9}(-\d{1,9})?(,\d{1,9}(-\d{1,9})?)*", re.ASCII)
LONGEST_TEXT = 4000  # characters; the client sends the text in an HTTP header, and servers limit their size


class ImageNumbers:
    """A set of image numbers, stored as disjoint ranges in ascending order."""

    def __init__(self, text: str = "") -> None:
        """Parses `text`. Invalid text counts as the empty set.

        The stream then sends every image again, so no image is lost.
        """
        self._ranges: list[tuple[int, int]] = []
        if RANGES.fullmatch(text) and len(text) <= LONGEST_TEXT:
            for part in text.split(","):
                first, _, last = part.partition("-")
                self._add(int(first), int(last or first))

    def add(self, number: int) -> None:
        self._add(number, number)

    def __contains__(self, number: int) -> bool:
        at = bisect_left(self._ranges, (number + 1,))
        return at > 0 and self._ranges[at - 1][1] >= number

    def __str__(self) -> str:
        """Returns the set as text of at most LONGEST_TEXT characters.

        Ranges that do not fit are left out. Their images are sent again after a reconnection.
        """
        text = ",".join(f"{first}-{last}" if first < last else f"{first}" for first, last in self._ranges)
        return text if len(text) <= LONGEST_TEXT else text[: text.rindex(",", 0, LONGEST_TEXT + 1)]

    def _add(self, first: int, last: int) -> None:
        """Adds the numbers from `first` to `last`, merged with the ranges that they overlap or adjoin."""
        start = bisect_left(self._ranges, (first,))
        if start and self._ranges[start - 1][1] >= first - 1:
            start -= 1
        end = start
        while end < len(self._ranges) and self._ranges[end][0] <= last + 1:
            first, last = min(first, self._ranges[end][0]), max(last, self._ranges[end][1])
            end += 1
        if first <= last:
            self._ranges[start:end] = [(first, last)]
