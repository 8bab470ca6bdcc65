"""The time by the clock of AWS, so that those of the hosts do not matter.

The times in AWS, such as when an object was written, are compared with the time in this process. Each reply
of AWS says what time it is there. If the clock of the host is off by more than a few seconds, the difference
is made up for. A reply that took long says nothing, because its process may have stood still before it read
the reply.
"""

import logging
import time
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from threading import local
from typing import Any

log = logging.getLogger(__name__)

# A reply gives the time to the second, and takes a while to arrive.
TOLERANCE = timedelta(seconds=3)
SLOWEST_SECONDS = 2.0  # of a call whose reply is compared: its date is then within the tolerance


class Clock:
    def __init__(self) -> None:
        self._ahead_of_host = timedelta()
        self._call = local()
        """When the call that each thread makes began."""

    def now(self) -> datetime:
        return datetime.now(UTC) + self._ahead_of_host

    def follow(self, events: Any) -> None:
        """Compares the clocks whenever a boto3 session, whose event emitter is `events`, has a reply."""
        events.register("before-call", self.begin)
        events.register("after-call", self.compare)

    def begin(self, **_: object) -> None:
        self._call.began = time.monotonic()

    def compare(self, parsed: dict[str, Any], **_: object) -> None:
        """Compares the clocks. `parsed` is boto3's reply."""
        date = parsed.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date")
        if not date or self._took() > SLOWEST_SECONDS:
            return
        ahead = parsedate_to_datetime(date) - datetime.now(UTC)
        if abs(ahead - self._ahead_of_host) <= TOLERANCE:
            return
        self._ahead_of_host = ahead if abs(ahead) > TOLERANCE else timedelta()
        if not self._ahead_of_host:
            log.info("the clock of this host agrees with that of AWS again")
            return
        log.warning(
            "the clock of this host is %.0f s %s that of AWS, which is used instead",
            abs(ahead.total_seconds()),
            "behind" if ahead > timedelta() else "ahead of",
        )

    def _took(self) -> float:
        """Returns the seconds since the call of this thread began."""
        now = time.monotonic()
        return now - getattr(self._call, "began", now)


clock = Clock()
now = clock.now
