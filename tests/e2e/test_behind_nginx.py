"""The system as on a server: nginx in front of two processes of Gunicorn, which run the real controller."""

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import partial
from pathlib import Path

import psutil
import pytest
import requests

from bench.photos import PHOTOS
from local.__main__ import DEFAULTS, FALLBACK
from local.driver import System, eventually, free_port
from tests.support import front
from tests.support.exposition import read, value
from tests.support.front import Nginx
from tests.support.soak import soak
from tests.support.soak_clients import Clients

CLIENTS = 100
SOAK_CLIENTS, SOAK_SECONDS = 40, 9


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("front")


@pytest.fixture(scope="module")
def gunicorn(folder: Path, system: System) -> Iterator[subprocess.Popen[bytes]]:
    """On the AWS, and beside the controller, of the running system."""
    access = {"AWS_ENDPOINT_URL": system.endpoint, **system.key.environment()}
    settings = DEFAULTS | FALLBACK | access | {"BATCH_SOURCES": ""}  # they would need tokens behind a proxy
    with front.gunicorn("controller.wsgi:app", folder, WEB_CONCURRENCY="2", **settings) as process:
        yield process


@pytest.fixture(scope="module")
def nginx(folder: Path, gunicorn: subprocess.Popen[bytes]) -> Iterator[Nginx]:
    with front.nginx(folder, free_port()) as nginx:
        eventually(lambda: requests.get(f"{nginx.url}/readyz", timeout=10).ok)
        yield nginx


def burst(
    nginx: Nginx, at_once: int = CLIENTS, meanwhile: dict[int, Callable[[], object]] | None = None
) -> list[requests.Response]:
    """An upload from each of so many clients. `meanwhile`: after how many answers to do what."""
    names = [list(PHOTOS)[n % len(PHOTOS)] for n in range(CLIENTS)]

    def upload(name: str) -> requests.Response:
        return requests.post(nginx.url, files={"image_file": (f"{name}.jpg", PHOTOS[name][0])}, timeout=120)

    with ThreadPoolExecutor(at_once) as pool:
        pending = {pool.submit(upload, name): name for name in names}
        for answered, future in enumerate(as_completed(pending), 1):
            (meanwhile or {}).get(answered, lambda: None)()
            reply = future.result()
            assert reply.status_code == 200, reply.text
            (image,) = reply.json()["images"]
            assert image["label"] in PHOTOS[pending[future]][1]
    return [future.result() for future in pending]


def processes(arbiter: subprocess.Popen[bytes]) -> set[int]:
    return {child.pid for child in psutil.Process(arbiter.pid).children()}


def test_a_burst_of_uploads_is_answered_whole_and_found_again_in_both_logs(nginx: Nginx):
    replies = burst(nginx)
    assert len(replies) == CLIENTS
    ids = {reply.json()["request_id"] for reply in replies}
    assert len(ids) == CLIENTS
    for log in (nginx.log, lambda: front.read_lines(nginx.folder / "gunicorn.log")):
        eventually(lambda log=log: ids <= {line["request_id"] for line in log()}, 10)


def test_nginx_serves_the_static_files_and_the_controller_the_page(nginx: Nginx):
    page = requests.get(nginx.url, headers={"Accept": "text/html"}, timeout=10)
    styles = requests.get(f"{nginx.url}/static/page.css", timeout=10)
    assert page.status_code == styles.status_code == 200
    assert "/static/page.css" in page.text
    eventually(lambda: [line for line in nginx.log() if line["uri"] == "/static/page.css"], 10)
    assert all(line["upstream_seconds"] == "" for line in nginx.log() if line["uri"].startswith("/static/"))
    assert not [
        line for line in front.read_lines(nginx.folder / "gunicorn.log") if line["uri"].startswith("/static/")
    ]


def test_reloads_of_nginx_and_gunicorn_during_a_burst_lose_no_request(
    nginx: Nginx, gunicorn: subprocess.Popen[bytes]
):
    before = processes(gunicorn)
    hang_up = partial(gunicorn.send_signal, signal.SIGHUP)
    # Some wait already and others come, at each of them.
    replies = burst(nginx, 30, {1: hang_up, 10: nginx.reload, 40: nginx.reload, 50: hang_up})
    assert len(replies) == CLIENTS
    eventually(lambda: len(found := processes(gunicorn)) == 2 and not found & before, 60)


def test_a_killed_process_is_replaced_and_the_next_uploads_are_answered(
    nginx: Nginx, gunicorn: subprocess.Popen[bytes]
):
    before = eventually(lambda: len(found := processes(gunicorn)) == 2 and found)
    os.kill(min(before), signal.SIGKILL)
    eventually(lambda: len(found := processes(gunicorn)) == 2 and found != before, 20)
    assert len(burst(nginx)) == CLIENTS


def test_each_process_has_clients_and_an_autoscaler_of_its_own_and_the_first_has_none(
    nginx: Nginx, gunicorn: subprocess.Popen[bytes]
):
    def loaded(pid: int) -> bool:
        """Whether it has the application's libraries in memory."""
        return any("pillow_heif" in mapped.path for mapped in psutil.Process(pid).memory_maps())

    assert not loaded(gunicorn.pid)
    assert psutil.Process(gunicorn.pid).num_threads() == 1
    eventually(
        lambda: all(loaded(pid) and psutil.Process(pid).num_threads() > 1 for pid in processes(gunicorn))
    )


def test_prometheus_gets_the_numbers_of_both_processes(nginx: Nginx):
    def posts() -> float:
        found = read(requests.get(f"http://{nginx.for_prometheus}/metrics", timeout=10).text)
        return value(found, "classifier_http_requests_total", route="/", method="POST", status="200")

    before = posts()
    for _ in range(8):
        requests.post(nginx.url, files={"image_file": ("notes.txt", b"text")}, timeout=20).raise_for_status()
    assert [posts() - before for _ in range(8)] == [8] * 8


def test_under_many_clients_and_reloads_nothing_grows_and_everybody_is_answered(
    nginx: Nginx, gunicorn: subprocess.Popen[bytes], folder: Path, system: System, record_property
):
    """`make soak` does it for an hour, with 1,000 clients."""
    clients = Clients(int(nginx.address.rpartition(":")[2]), SOAK_CLIENTS, thinks=1, slow_bytes=300)
    found = soak(system, nginx, gunicorn, [folder / "client_body"], clients, SOAK_SECONDS, allowance=3)
    record_property("sample", str(found))
    assert clients.outcomes["answered"] > SOAK_CLIENTS // 2
    assert {("controller", "threads"), ("nginx", "file descriptors")} <= {
        (g.kind, g.what) for g in found.growths
    }
    assert found.good, str(found)
