"""What batches ask of the fleet."""

from dataclasses import dataclass


@dataclass(frozen=True)
class BatchLoad:
    """The work that is left of one open batch."""

    images: int
    """The images that are listed and not answered."""
    listing: bool
    """Whether more images may be found."""
    deadline: float | None
    """When it should be finished, in seconds since 1970, or None."""
    budget_left: float | None
    """The dollars that it may still cost, or None without a budget."""
    spot: bool | None = None
    """Whether instances that are launched for it should be spot instances. None: MARKET decides."""
