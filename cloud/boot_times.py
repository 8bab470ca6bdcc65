"""When the machine of a worker and its process started, which the worker tells the controller in its report.

Both times are computed from AWS's time now and from the seconds that have passed on the kernel's clock since
then, so they do not depend on whether the clock of the host was right while it booted.
"""

import os
import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import Self

from pydantic import AwareDatetime, BaseModel

MACHINE_STARTED = "MACHINE_STARTED"
"""An environment variable: the seconds on the kernel's clock (CLOCK_BOOTTIME) when the machine started.

Without it, that is 0. The local AWS sets it, because its machines share the kernel of this computer.
"""


class BootTimes(BaseModel):
    kernel_at: AwareDatetime
    """When the kernel of the machine started."""
    process_at: AwareDatetime
    """When the process of the worker started."""

    @classmethod
    def of_this_process(cls, at: datetime) -> Self:
        """Returns the times of this process and its machine. `at` is the time now."""
        uptime = time.clock_gettime(time.CLOCK_BOOTTIME)
        machine = uptime - float(os.environ.get(MACHINE_STARTED) or 0)
        process = uptime - process_started()
        return cls(kernel_at=at - timedelta(seconds=machine), process_at=at - timedelta(seconds=process))


def process_started() -> float:
    """Returns the seconds on the kernel's clock when this process started, to a hundredth."""
    after_name = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    return int(after_name[19]) / os.sysconf("SC_CLK_TCK")  # the 22nd field in all: see man 5 proc
