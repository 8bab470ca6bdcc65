"""Configures Gunicorn, which runs the controller.

    python -m gunicorn --config deploy/gunicorn.conf.py controller.wsgi:app

The most useful options can be set by environment variables, and all others by GUNICORN_CMD_ARGS. SIGHUP
starts new processes with the new code, while the old ones finish the requests that they have begun.
"""

import os
import resource
import signal
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from threading import Timer
from typing import Any

from gunicorn.glogging import Logger

from cloud.logs import json_formatter
from cloud.settings import ControllerSettings


def setting(name: str, default: int) -> int:
    """Returns a whole number from the environment. Exits with a message if the value is not one."""
    text = os.environ.get(name) or str(default)
    if not text.isdecimal():
        raise SystemExit(f"controller: {name} is {text!r}, but it should be a whole number")
    return int(text)


class JsonLogger(Logger):
    """Logs JSON objects, one per line, like all other parts of the system."""

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
                # the id of the request in the controller, or else the id that nginx gave it
                "request_id": answered.get("x-request-id") or environ.get("HTTP_X_REQUEST_ID"),
            },
        )


class WebThreads(ThreadPoolExecutor):
    """Gunicorn's threads. While the system has none left, a connection waits until one of them is free.

    Otherwise the process would end, with all its requests.
    """

    def _adjust_thread_count(self) -> None:
        with suppress(RuntimeError):
            super()._adjust_thread_count()


bind = os.environ.get("BIND") or "127.0.0.1:8000"
worker_class = "gthread"
# A process without a file descriptor for a new connection ends, with all its requests. So it has as many as
# the system allows, and takes fewer connections: each may have an upload, and AWS needs some.
_, most_files = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (most_files, most_files))
if most_files != resource.RLIM_INFINITY:
    worker_connections = min(1000, max(10, (most_files - 200) // 2))
threads = setting("WEB_THREADS", ControllerSettings.model_fields["web_threads"].default)
workers = setting("WEB_CONCURRENCY", 1)  # one process serves hundreds of clients; with two, one can be killed
timeout = setting("WEB_TIMEOUT", 60)  # seconds without a heartbeat after which a process is killed
graceful_timeout = setting("GRACEFUL_TIMEOUT", setting("REQUEST_TIMEOUT", 300) + 30)
keepalive = setting("WEB_KEEPALIVE", 15)
accesslog = os.environ.get("ACCESS_LOG") or "-"
loglevel = (os.environ.get("LOG_LEVEL") or "INFO").lower()
logger_class = JsonLogger

# Each process must create its own boto3 clients and autoscaler thread, because forks cannot share them.
preload_app = False
IN_MEMORY = "/dev/shm"  # noqa: S108 - its files are the user's own
worker_tmp_dir = IN_MEMORY  # a busy disk would delay the heartbeats
control_socket_disable = True
LAST_SECONDS = 2  # in which a process that ends answers those who still wait


def on_starting(server: Any) -> None:
    """Creates the directory in which each process keeps its metrics, and deletes those of an earlier run.

    It is not on the disk of the uploads: the metrics are mapped into the memory of their process, which the
    system ends if there is no room for them. Gunicorn calls this when it starts, but not when it reloads.
    """
    given = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    counts = given or tempfile.mkdtemp(prefix="metrics-", dir=IN_MEMORY)
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = counts
    Path(counts).mkdir(mode=0o700, parents=True, exist_ok=True)
    forget_counts()


def on_exit(server: Any) -> None:
    forget_counts()
    with suppress(OSError):  # the directory contains other files
        Path(os.environ["PROMETHEUS_MULTIPROC_DIR"]).rmdir()


def forget_counts() -> None:
    for file in Path(os.environ["PROMETHEUS_MULTIPROC_DIR"]).glob("*.db"):
        file.unlink(missing_ok=True)


def child_exit(server: Any, worker: Any) -> None:
    """Drops the gauges of a process that has ended. Its counters are kept."""
    from prometheus_client.multiprocess import mark_process_dead

    mark_process_dead(worker.pid)


def post_worker_init(worker: Any) -> None:
    """Lets a process live without further threads, and nobody wait for one that ends.

    Event streams end as soon as the process is told to stop, and their clients connect again. All others wait
    until LAST_SECONDS before it is killed, and get what is known by then.
    """
    worker.tpool = WebThreads(worker.cfg.threads)
    services = getattr(worker.wsgi, "extensions", {}).get("services")
    if not services:
        return
    services.event_streams.process_stays = lambda: worker.alive
    stop = signal.getsignal(signal.SIGTERM)

    def stop_in_time(number: int, frame: Any) -> None:
        last_call = Timer(max(0, graceful_timeout - LAST_SECONDS), services.follower.let_go)
        last_call.daemon = True
        last_call.start()
        if callable(stop):
            stop(number, frame)

    signal.signal(signal.SIGTERM, stop_in_time)
