"""Tells systemd that the worker is ready.

https://www.freedesktop.org/software/systemd/man/latest/sd_notify.html
"""

import os
import socket


def notify_ready() -> None:
    """Tells systemd that the unit of this process has started, if systemd did start this process."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as connection:
        connection.sendto(b"READY=1", address.replace("@", "\0", 1))  # @: a socket without a file
