"""nginx and Gunicorn with the files of deploy/, on loopback; and an app to put behind them."""

import getpass
import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from typing import Any

from prometheus_client import Counter

from local.driver import ROOT, eventually, free_port
from tests.support.programs import need

CONFIGURATION = ROOT / "deploy" / "nginx.conf"
JOURNAL = "syslog:server=unix:/dev/log,nohostname,tag=nginx"
TEMPORARY = ("fastcgi", "uwsgi", "scgi")


def render(folder: Path, port: int, changes: Mapping[str, str] | None = None, text: str = "") -> Path:
    """deploy/nginx.conf (or `text`, made of it) with this machine's paths in place of a server's."""
    text = text or CONFIGURATION.read_text()
    temporary = "".join(f"    {name}_temp_path {folder}/{name};\n" for name in TEMPORARY)
    places = {
        "user www-data;": f"user {getpass.getuser()};",
        "http {\n": f"http {{\n{temporary}",
        "listen 80 ": f"listen 127.0.0.1:{port} ",
        "listen [::]:80 ": f"listen [::1]:{port} ",
        "listen 127.0.0.1:9113;": f"listen 127.0.0.1:{free_port()};",
        "/run/nginx.pid": f"{folder}/nginx.pid",
        "/run/image-classifier/": f"{folder}/",
        f"error_log {JOURNAL} warn;": f"error_log {folder}/error.log warn;",
        f"access_log {JOURNAL} json;": f"access_log {folder}/access.log json;",
        "/var/spool/image-classifier/nginx": f"{folder}/client_body",
        "/var/cache/image-classifier": f"{folder}/proxy",
        "/opt/image-classifier/": f"{ROOT}/",
        **(changes or {}),
    }
    for old, new in places.items():
        assert old in text, f"deploy/nginx.conf no longer says {old!r}"
        text = text.replace(old, new)
    if not has_ipv6():
        text = re.sub(r".*listen \[::1\].*\n", "", text)
    rendered = folder / "nginx.conf"
    rendered.write_text(text)
    return rendered


def has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


class Nginx:
    def __init__(self, rendered: Path, port: int) -> None:
        self.folder, self.address = rendered.parent, f"127.0.0.1:{port}"
        self.url = f"http://{self.address}"
        [self.for_prometheus] = re.findall(r"listen (\S+);\n *location = /metrics", rendered.read_text())
        self.command = [need("nginx"), "-c", str(rendered), "-e", str(self.folder / "error.log")]

    def test(self) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*self.command, "-t"], capture_output=True, text=True, check=False)

    def reload(self) -> None:
        subprocess.run([*self.command, "-s", "reload"], check=True)

    def log(self) -> list[dict[str, Any]]:
        return read_lines(self.folder / "access.log")


@contextmanager
def nginx(
    folder: Path, port: int, changes: Mapping[str, str] | None = None, text: str = ""
) -> Iterator[Nginx]:
    running = Nginx(render(folder, port, changes, text), port)
    process = subprocess.Popen([*running.command, "-g", "daemon off;"])
    try:
        eventually(lambda: process.poll() is not None or accepts(("127.0.0.1", port)), 10)
        assert process.poll() is None, (folder / "error.log").read_text()
        yield running
    finally:
        process.terminate()
        process.wait(10)


@contextmanager
def gunicorn(app: str, folder: Path, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """Gunicorn on `folder`/controller.sock, its logs beside it."""
    place = {"BIND": f"unix:{folder}/controller.sock", "ACCESS_LOG": f"{folder}/gunicorn.log"}
    with (folder / "controller.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "gunicorn", "--config", "deploy/gunicorn.conf.py", app],
            cwd=ROOT,
            env=os.environ | place | environment,
            stdout=log,
            stderr=log,
        )
    try:
        eventually(
            lambda: process.poll() is not None or accepts(str(folder / "controller.sock"), socket.AF_UNIX), 30
        )
        assert process.poll() is None, (folder / "controller.log").read_text()
        yield process
    finally:
        process.terminate()
        process.wait(30)


def accepts(address: Any, family: int = socket.AF_INET) -> bool:
    with socket.socket(family) as client:
        return client.connect_ex(address) == 0


def read_lines(log: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.read_text().splitlines()]


COUNTED = Counter("tests_counted", "What /counted was asked for.", ["query"], registry=None)
go = Event()
slow: list[str] = []  # in progress


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Says what came to it. `/requests/<id>/events` sends its second event when `/go` is asked for.

    `/counted` counts its queries for Prometheus, and `/large?<megabytes>` answers with so many,
    as `/batches/large` does.
    """
    path, query = environ["PATH_INFO"], environ["QUERY_STRING"]
    headers = [("Content-Type", "application/json")]
    if path.endswith("/events"):
        start_response("200 OK", [("Content-Type", "text/event-stream")])
        return events()
    if path in ("/large", "/batches/large"):
        start_response("200 OK", [("Content-Length", str(int(query) * 1_000_000))])
        return (bytes(1_000_000) for _ in range(int(query)))
    if path == "/go":
        go.set()
    if path == "/counted":
        COUNTED.labels(query).inc()
    if path == "/slow":
        slow.append(query)
        Event().wait(float(query))
        slow.remove(query)
    if path == "/policy":
        headers.append(("Content-Security-Policy", "sandbox"))
    if path == "/admission":
        stranger = environ.get("HTTP_AUTHORIZATION") == "Bearer stranger"
        start_response("401 UNAUTHORIZED" if stranger else "204 NO CONTENT", [("WWW-Authenticate", "Bearer")])
        return []
    if path == "/named":
        headers.append(("X-Request-ID", query))
    status = "200 OK"
    if path == "/over-quota":
        status = "429 TOO MANY REQUESTS"
        headers.append(("Retry-After", "17"))
    said = {
        "pid": os.getpid(),
        "method": environ["REQUEST_METHOD"],
        "uri": environ["RAW_URI"],
        "bytes": len(environ["wsgi.input"].read()),
        "scheme": environ["wsgi.url_scheme"],
        "client": environ.get("HTTP_X_FORWARDED_FOR"),
        "slow": len(slow),
    }
    start_response(status, headers)
    return [json.dumps(said).encode()]


def events() -> Iterator[bytes]:
    yield b"data: 1\n\n"
    go.wait(20)
    yield b"data: 2\n\n"
