from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bench.simulation.world import World


class Policy:
    """Does nothing. `look` comes every `interval` seconds, and whenever the world is asked to wake it."""

    name = "nothing"
    interval = inf
    idle_shutdown = False
    """Whether a worker without work shuts its instance down."""

    def start(self, world: World) -> None: ...

    def sent(self, world: World) -> None:
        """A request's images were sent."""

    def answered(self, world: World) -> None:
        """A request's last image was answered."""

    def look(self, world: World) -> None: ...
