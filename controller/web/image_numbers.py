"""Sets of image numbers as text, `0-12,15`: what a stream has sent, and its client gives back to resume."""

import re
from bisect import bisect_left

RANGES = re.compile(r"\d{1,9}(-\d{1,9})?(,\d{1,9}(-\d{1,9})?)*", re.ASCII)
LONGEST_TEXT = 4000  # characters, since it comes back in a header


class ImageNumbers:
    def __init__(self, text: str = "") -> None:
        """Text that is no such set is the empty one: then all is sent again, and nothing is lost."""
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
        """What does not fit is left out: it is then sent twice after a reconnection."""
        text = ",".join(f"{first}-{last}" if first < last else f"{first}" for first, last in self._ranges)
        return text if len(text) <= LONGEST_TEXT else text[: text.rindex(",", 0, LONGEST_TEXT + 1)]

    def _add(self, first: int, last: int) -> None:
        """Joins it with those that it touches."""
        start = bisect_left(self._ranges, (first,))
        if start and self._ranges[start - 1][1] >= first - 1:
            start -= 1
        end = start
        while end < len(self._ranges) and self._ranges[end][0] <= last + 1:
            first, last = min(first, self._ranges[end][0]), max(last, self._ranges[end][1])
            end += 1
        if first <= last:
            self._ranges[start:end] = [(first, last)]
