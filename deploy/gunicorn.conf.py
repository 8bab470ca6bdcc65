"""Gunicorn, which runs the controller.

    python -m gunicorn --config deploy/gunicorn.conf.py controller.wsgi:app

What is worth setting can be set from the environment, and all else by GUNICORN_CMD_ARGS. SIGHUP
starts new processes with new code, while the old ones answer what they have begun.
"""

import os
import tempfile
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

from gunicorn.glogging import Logger

from cloud.logs import json_formatter
from cloud.settings import ControllerSettings


def setting(name: str, default: int) -> int:
    text = os.environ.get(name) or str(default)
    if not text.isdecimal():
        raise SystemExit(f"controller: {name} is {text!r}, but it should be a whole number")
    return int(text)


class JsonLogger(Logger):
    """One JSON object a line, as everywhere in the system."""

    def setup(self, cfg: Any) -> None:
        super().setup(cfg)
        for log in (self.error_log, self.access_log):
            for handler in log.handlers:
                handler.setFormatter(json_formatter())

    def access(self, resp: Any, req: Any, environ: dict[str, Any], request_time: timedelta) -> None:
        answered = {name.lower(): value for name, value in resp.headers}
        self.access_log.info(
            "request",
            extra={
                "method": environ["REQUEST_METHOD"],
                "uri": environ["RAW_URI"],
                "status": resp.status_code,
                "seconds": round(request_time.total_seconds(), 3),
                "sent": resp.sent,
                "client": environ.get("REMOTE_ADDR") or environ.get("HTTP_X_FORWARDED_FOR"),
                # the controller's own id of the request; where it has none, nginx's
                "request_id": answered.get("x-request-id") or environ.get("HTTP_X_REQUEST_ID"),
            },
        )


bind = os.environ.get("BIND") or "127.0.0.1:8000"
worker_class = "gthread"
threads = setting("WEB_THREADS", ControllerSettings.model_fields["web_threads"].default)
workers = setting("WEB_CONCURRENCY", 1)  # one waits for hundreds; of two, one stays when the other is killed
timeout = setting("WEB_TIMEOUT", 60)  # seconds without a sign of life from a process; a wait gives signs
graceful_timeout = setting("GRACEFUL_TIMEOUT", setting("REQUEST_TIMEOUT", 300) + 30)
keepalive = setting("WEB_KEEPALIVE", 15)
accesslog = os.environ.get("ACCESS_LOG") or "-"
loglevel = (os.environ.get("LOG_LEVEL") or "INFO").lower()
logger_class = JsonLogger

# Each process makes boto3's clients and the autoscaler's thread for itself: no fork may copy them.
preload_app = False
worker_tmp_dir = "/dev/shm"  # a disk can stall the signs of life
control_socket_disable = True


def on_starting(server: Any) -> None:
    """Each process counts for /metrics in files, begun anew also after a crash, but not with a reload."""
    counts = os.environ.get("PROMETHEUS_MULTIPROC_DIR") or tempfile.mkdtemp(prefix="metrics-")
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = counts
    Path(counts).mkdir(mode=0o700, parents=True, exist_ok=True)
    forget_counts()


def on_exit(server: Any) -> None:
    forget_counts()
    with suppress(OSError):  # it has files of others
        Path(os.environ["PROMETHEUS_MULTIPROC_DIR"]).rmdir()


def forget_counts() -> None:
    for file in Path(os.environ["PROMETHEUS_MULTIPROC_DIR"]).glob("*.db"):
        file.unlink(missing_ok=True)


def child_exit(server: Any, worker: Any) -> None:
    """What the process has counted stays; what it had open does not."""
    from prometheus_client.multiprocess import mark_process_dead

    mark_process_dead(worker.pid)


def post_worker_init(worker: Any) -> None:
    """A process that shall end does not wait for its streams: their clients come again, to the next one."""
    services = getattr(worker.wsgi, "extensions", {}).get("services")
    if services:
        services.event_streams.process_stays = lambda: worker.alive
