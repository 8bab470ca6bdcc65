"""What a batch still asks of the fleet."""

from dataclasses import dataclass


@dataclass(frozen=True)
class BatchLoad:
    images: int
    """The images that are listed and not answered."""
    listing: bool
    """Whether more images may yet be listed."""
    deadline: float | None
    """When all should be answered, in seconds since 1970, or None at any time."""
    budget_left: float | None
    """The dollars that the rest may cost, or None if it may cost anything."""
