"""What EC2 tells an instance about itself (IMDSv2): who it is, and that it must soon go.

https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/spot-instance-termination-instance_metadata.html
"""

import logging
import os
import socket
import urllib.error
import urllib.request
from threading import Event, Thread

log = logging.getLogger(__name__)

LINK_LOCAL = "http://169.254.169.254"
TOKEN_SECONDS = 21600
NOTICES = {
    "spot/instance-action": "spot interruption notice",
    "events/recommendations/rebalance": "rebalance recommendation",
}
POLL_SECONDS = 5  # as AWS recommends for interruption notices


class Metadata:
    """The instance metadata service. Every call ends within a second or two."""

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint.rstrip("/")

    def get(self, path: str) -> str | None:
        """None when there is no such item. OSError when there is no such service."""
        try:
            token = self._call(
                "PUT", "api/token", {"X-aws-ec2-metadata-token-ttl-seconds": str(TOKEN_SECONDS)}
            )
            return self._call("GET", f"meta-data/{path}", {"X-aws-ec2-metadata-token": token})
        except urllib.error.HTTPError as error:
            with error:
                if error.code == 404:
                    return None
                raise

    def _call(self, method: str, path: str, headers: dict[str, str]) -> str:
        request = urllib.request.Request(f"{self.endpoint}/latest/{path}", method=method, headers=headers)
        with urllib.request.urlopen(request, timeout=1) as reply:
            return reply.read().decode()


def find_metadata(endpoint: str) -> tuple[Metadata | None, str]:
    """The metadata service and this instance's id; off EC2 none, and host name and process id."""
    metadata = Metadata(endpoint)
    try:
        if instance_id := metadata.get("instance-id"):
            return metadata, instance_id
    except OSError:
        pass
    return None, f"{socket.gethostname()}-{os.getpid()}"


def watch(metadata: Metadata, stop: Event, every: float = POLL_SECONDS) -> None:
    """Sets `stop` as soon as EC2 announces that this instance will be taken away."""
    Thread(target=_watch, args=[metadata, stop, every], name="notices", daemon=True).start()


def _watch(metadata: Metadata, stop: Event, every: float) -> None:
    while not stop.wait(every):
        for path, name in NOTICES.items():
            try:
                notice = metadata.get(path)
            except OSError as error:
                log.warning("the instance metadata service does not answer: %s", error)
                continue
            if notice:
                log.warning("%s: draining", name, extra={"notice": notice})
                stop.set()
                return
