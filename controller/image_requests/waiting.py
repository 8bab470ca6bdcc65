from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True)
class Waiting:
    """What this process knows about its own requests. Unlike SQS's counts, it is up to date."""

    requests: tuple[str, ...] = ()
    """The ids of the requests that wait, longest waiting first."""
    just_sent: int = 0
    """The number of unanswered images that were sent in the last minute."""
    submitted: int = 0
    """The number of requests that this process has polled so far."""
    images: int = 0
    """The number of images of these requests that were sent to the queue."""
    sent_at: datetime | None = None
    """When the first message of the request that waits longest was sent, or None if none waits."""
