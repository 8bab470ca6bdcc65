"""Reads the instance metadata (IMDSv2): the instance's id, and notices that it will be interrupted.

https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/spot-instance-termination-instance_metadata.html
"""

import logging
import os
import socket
import time
import urllib.error
import urllib.request
from http.client import HTTPException
from threading import Event, Thread

log = logging.getLogger(__name__)

LINK_LOCAL = "http://169.254.169.254"
TOKEN_SECONDS = 21600  # how long a token is valid; the maximum
NOTICE = "spot/instance-action"  # comes two minutes before the interruption
TRIES, TRY_AGAIN_SECONDS = 5, 0.4
POLL_SECONDS = 5  # the interval that AWS recommends to check for interruption notices


class Metadata:
    """The instance metadata service at the URL `endpoint`. Each HTTP call has a timeout of one second."""

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint.rstrip("/")

    def get(self, path: str) -> str | None:
        """Returns an item of the metadata, or None when there is no such item.

        Raises OSError when the service fails.
        """
        return self._get(f"meta-data/{path}")

    def user_data(self) -> str | None:
        """Returns the user data, or None when there is none. Raises OSError when the service fails."""
        return self._get("user-data")

    def _get(self, path: str) -> str | None:
        try:
            token = self._call(
                "PUT", "api/token", {"X-aws-ec2-metadata-token-ttl-seconds": str(TOKEN_SECONDS)}
            )
            return self._call("GET", path, {"X-aws-ec2-metadata-token": token})
        except urllib.error.HTTPError as error:
            with error:
                if error.code == 404:
                    return None
                raise

    def _call(self, method: str, path: str, headers: dict[str, str]) -> str:
        url = f"{self.endpoint}/latest/{path}"  # of the instance's own environment, never of a stranger
        request = urllib.request.Request(url, method=method, headers=headers)  # noqa: S310
        try:
            with urllib.request.urlopen(request, timeout=1) as reply:  # noqa: S310
                return reply.read().decode(errors="replace")
        except HTTPException as error:  # the reply was cut
            raise OSError(repr(error)) from error


def find_metadata(endpoint: str) -> tuple[Metadata | None, str]:
    """Returns the metadata service and the id of this instance.

    A service that fails, as when it is asked too often or the machine is busy, is tried again for seconds:
    the controller takes an instance for dead that reports by another name. Outside EC2, returns None, and the
    host name with the process id in place of the instance id.
    """
    metadata = Metadata(endpoint)
    for _ in range(TRIES):
        try:
            instance_id = metadata.get("instance-id")
        except OSError:
            time.sleep(TRY_AGAIN_SECONDS)
            continue
        if instance_id:
            return metadata, instance_id
        break
    return None, f"{socket.gethostname()}-{os.getpid()}"


def watch(metadata: Metadata, stop: Event, every: float = POLL_SECONDS) -> None:
    """Starts a thread that sets `stop` when EC2 announces that it will interrupt this instance.

    `every` is the time between two checks in seconds.
    """
    Thread(target=_watch, args=[metadata, stop, every], name="notices", daemon=True).start()


def _watch(metadata: Metadata, stop: Event, every: float) -> None:
    while not stop.wait(every):
        try:
            notice = metadata.get(NOTICE)
        except OSError as error:
            log.warning("the instance metadata service does not answer: %s", error)
            continue
        if notice:
            log.warning("spot interruption notice: draining", extra={"notice": notice})
            stop.set()
            return
