"""Finds the process at the other end of a connection to this one."""

import socket
from contextlib import suppress
from itertools import pairwise

import psutil

PROGRAMS = ("gunicorn", "worker")  # what `python -m` runs: the controller and the workers


def caller_of(client: socket.socket) -> psutil.Process | None:
    """Returns the controller or worker process that holds the connection, or None if it is neither."""
    try:
        ends = client.getpeername()[1], client.getsockname()[1]
    except OSError:  # it has gone
        return None
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if runs_the_system(process) and any(
                connection.raddr and (connection.laddr.port, connection.raddr.port) == ends
                for connection in process.net_connections("tcp")
            ):
                return process
    return None


def runs_the_system(process: psutil.Process) -> bool:
    words = process.cmdline()
    return any(word == "-m" and program in PROGRAMS for word, program in pairwise(words))
