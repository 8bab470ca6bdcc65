"""Tells from outside what the processes of a system have taken so far."""

from pathlib import Path

import psutil


def cpu_seconds(process: psutil.Process) -> float:
    """Returns the seconds of the processor that the process has taken, without its children."""
    times = process.cpu_times()
    return times.user + times.system


def peak_megabytes(process: psutil.Process) -> float:
    """Returns the most memory that the process ever had, in MB (VmHWM)."""
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024
