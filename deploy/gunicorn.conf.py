"""Gunicorn, which runs the controller. Every value can be set from the environment."""

import os

bind = os.environ.get("BIND", "127.0.0.1:8000")
workers = int(os.environ.get("WEB_CONCURRENCY", "1"))
worker_class = "gthread"
threads = int(os.environ.get("WEB_THREADS", "256"))  # a request that waits for its answers holds one
timeout = (
    60  # seconds in which a worker process must show that it is alive; a waiting request does not block that
)
graceful_timeout = int(os.environ.get("GRACEFUL_TIMEOUT", "330"))
keepalive = 15
worker_tmp_dir = "/dev/shm"
accesslog = "-"
