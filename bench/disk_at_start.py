"""How much of the disk a process has read: what a worker's start takes from a disk that is still cold."""

import re
from collections import Counter
from pathlib import Path

MAPPING = re.compile(r"[0-9a-f]+-[0-9a-f]+ \S+ \S+ \S+ (\d+)\s+(/.*)")


def read_bytes() -> int:
    """Returns the bytes that this process has read from files so far, such as compiled modules."""
    return int(Path("/proc/self/io").read_text().split()[1])  # rchar


def mapped_bytes() -> Counter[str]:
    """Returns the bytes of each file that are in this process's memory by mapping, such as libraries.

    The kernel brings them in by the page as they are used, and some pages around.
    """
    found: Counter[str] = Counter()
    file = ""
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if mapping := MAPPING.match(line):
            file = mapping[2]
        elif line.startswith("Rss:") and file:
            found[file] += int(line.split()[1]) * 1024
        elif line.startswith("VmFlags"):
            file = ""  # the next mapping may have no file
    return found
