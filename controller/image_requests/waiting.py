from dataclasses import dataclass


@dataclass(frozen=True)
class Waiting:
    """What this process knows of its own requests, whatever SQS's counts say."""

    requests: tuple[str, ...] = ()
    """Their ids, the one that has waited longest first."""
    just_sent: int = 0
    """Unanswered images that were sent within the last minute."""
    submitted: int = 0
    """How many requests this process has had so far."""
    images: int = 0
    """How many images these had that were not refused at once."""
