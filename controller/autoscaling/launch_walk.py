"""How far launches have come through the choices of market, type and subnet."""

from datetime import datetime, timedelta

from pydantic import BaseModel

from cloud.clock import now

BEST_CHOICE_AGAIN_SECONDS = 600  # capacity comes back


class Walk(BaseModel):
    """That of launches of one market: those of spot instances come to on-demand instances at last."""

    next: int = 0
    """The number of the choice that the next launch tries first. The best one is 0."""
    began: datetime | None = None
    """The time when the best choice had no capacity, or None if the walk is there."""
    hope: bool = False
    """Whether one of the choices that were passed by may have capacity later: its quota is not 0."""

    def pass_by(self, *, hope: bool) -> None:
        """Goes on to the next choice, because the present one has no capacity."""
        self.began = self.began or now()
        self.next += 1
        self.hope = self.hope or hope

    def end(self) -> bool:
        """Returns to the best choice. Returns whether any choice may have capacity later."""
        hope = self.hope
        self.next, self.began, self.hope = 0, None, False
        return hope

    def end_if_late(self) -> None:
        """Returns to the best choice when it has been passed by for a while."""
        if self.began and now() - self.began > timedelta(seconds=BEST_CHOICE_AGAIN_SECONDS):
            self.end()

    def keep_within(self, choices: int) -> None:
        """Returns to the best choice if the settings leave fewer `choices` than before."""
        if self.next >= choices:
            self.end()
