"""Shortens the waits of an idle autoscaler, so that an idle hour passes in a minute.

A process of Python does this when the folder of this file is in its PYTHONPATH. The file that HURRY_FILE
names has the factor, and 1 changes nothing. Only waits as long as those between two looks at an idle fleet
are shortened.
"""

import os
from pathlib import Path
from threading import Event, current_thread

SHORTEST = 25.0  # seconds of such a wait

wait = Event.wait


def hurried_wait(self: Event, timeout: float | None = None) -> bool:
    if timeout and timeout >= SHORTEST and current_thread().name == "autoscaler":
        timeout /= float(Path(os.environ["HURRY_FILE"]).read_text())
    return wait(self, timeout)


Event.wait = hurried_wait  # type: ignore[method-assign]
