"""Runs a stand-in for AWS in a process of its own, which must not import what this module does."""

import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from local.driver import ROOT, eventually, free_port


def environment(url: str) -> dict[str, str]:
    """Returns the environment of a worker whose AWS is at this URL."""
    return {
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": "bench",
        "AWS_SECRET_ACCESS_KEY": "bench",
        "AWS_REGION": "us-east-1",
        "AWS_EC2_METADATA_SERVICE_ENDPOINT": "http://127.0.0.1:1",
        "INPUT_BUCKET": "input",
        "OUTPUT_BUCKET": "output",
        "STATE_BUCKET": "state",
        "IDLE_SHUTDOWN_SECONDS": "1",
    }


@contextmanager
def stand_in(folder: Path, delay: float, messages: int, module: str = "bench.stand_in") -> Iterator[str]:
    """Runs the server in a process of its own for the duration of the block, and yields its address."""
    port = free_port()
    command = [sys.executable, "-m", module, str(port), str(delay), str(folder), str(messages)]
    process = subprocess.Popen(command, cwd=ROOT)
    url = f"http://127.0.0.1:{port}"
    try:
        eventually(lambda: answers(url), 20)
        yield url
    finally:
        process.kill()
        process.wait()


def answers(url: str) -> bool:
    """Returns whether the stand-in has started."""
    try:
        return bool(ask(f"{url}/_record"))
    except OSError:
        return False


def ask(url: str, body: bytes | None = None) -> dict[str, Any]:
    """Returns what `/_record` or `/_watch` replies."""
    with urllib.request.urlopen(url, body, timeout=10) as reply:  # noqa: S310 - of this bench
        found: dict[str, Any] = json.load(reply)
    return found
