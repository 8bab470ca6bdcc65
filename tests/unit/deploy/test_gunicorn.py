"""deploy/gunicorn.conf.py in a real Gunicorn."""

import json
import os
import resource
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from datetime import datetime
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import psutil
import pytest

from cloud.settings import ControllerSettings
from local.driver import ROOT, eventually
from tests.support import front
from tests.support.small_disk import small_disk

GUNICORN = [sys.executable, "-m", "gunicorn", "--config", "deploy/gunicorn.conf.py"]


def effective(**environment: str) -> dict[str, str]:
    """The configuration as Gunicorn itself prints it."""
    given = {"PATH": os.environ["PATH"], **environment}
    command = [*GUNICORN, "--print-config", "tests.support.front:app"]
    done = subprocess.run(command, cwd=ROOT, env=given, capture_output=True, text=True, check=True)
    return {k.strip(): v.strip() for k, _, v in (line.partition("=") for line in done.stdout.splitlines())}


def get(folder: Path, path: str = "/", **headers: str) -> dict[str, Any]:
    """One request over the socket, as nginx makes it."""
    with closing(HTTPConnection("controller")) as client:
        client.sock = socket.socket(socket.AF_UNIX)
        client.sock.settimeout(20)
        client.sock.connect(str(folder / "controller.sock"))
        client.request("GET", path, headers={"Connection": "close", **headers})
        answer: dict[str, Any] = json.load(client.getresponse())
        return answer


def processes(arbiter: subprocess.Popen[bytes]) -> set[int]:
    """Of Gunicorn, those that answer requests."""
    return {child.pid for child in psutil.Process(arbiter.pid).children()}


def test_the_defaults_fit_requests_that_wait_for_minutes():
    found = effective()
    assert found["worker_class"] == "gthread"
    assert int(found["threads"]) >= 100
    assert int(found["graceful_timeout"]) > ControllerSettings.model_fields["request_timeout"].default
    assert found["preload_app"] == "False"


def test_there_are_fewer_connections_than_files():
    """Each may have one for its upload, too; what is left is for AWS, logs and metrics."""
    shell = [
        "sh",
        "-c",
        'ulimit -n 500; exec "$@"',
        "-",
        *GUNICORN,
        "--print-config",
        "tests.support.front:app",
    ]
    done = subprocess.run(shell, cwd=ROOT, capture_output=True, text=True, check=True)
    found = dict(line.split("=", 1) for line in done.stdout.replace(" ", "").splitlines() if "=" in line)
    assert 100 <= int(found["worker_connections"]) <= 200


def test_everything_can_be_set_from_the_environment():
    found = effective(
        BIND="127.0.0.1:9",
        WEB_CONCURRENCY="3",
        WEB_THREADS="7",
        WEB_TIMEOUT="41",
        WEB_KEEPALIVE="9",
        GRACEFUL_TIMEOUT="11",
        ACCESS_LOG="/dev/null",
        LOG_LEVEL="WARNING",
    )
    wanted = {
        "bind": "['127.0.0.1:9']",
        "workers": "3",
        "threads": "7",
        "timeout": "41",
        "keepalive": "9",
        "graceful_timeout": "11",
        "accesslog": "/dev/null",
        "loglevel": "warning",
    }
    assert {name: found[name] for name in wanted} == wanted
    assert int(effective(REQUEST_TIMEOUT="1000")["graceful_timeout"]) > 1000


def test_a_wrong_number_is_one_clear_line():
    done = subprocess.run(
        [*GUNICORN, "tests.support.front:app"],
        cwd=ROOT,
        env=os.environ | {"WEB_THREADS": "many"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr == "controller: WEB_THREADS is 'many', but it should be a whole number\n"


def test_logs_are_json_with_the_requests_id_and_its_time(tmp_path: Path):
    with front.gunicorn("tests.support.front:app", tmp_path):
        get(tmp_path, "/slow?0.2", **{"X-Request-ID": "from-nginx", "X-Forwarded-For": "192.0.2.7"})
        get(tmp_path, '/"\\')
        get(tmp_path, "/named?from-the-app", **{"X-Request-ID": "from-nginx"})
    lines = {line["uri"]: line for line in front.read_lines(tmp_path / "gunicorn.log")}
    assert lines.keys() == {"/slow?0.2", '/"\\', "/named?from-the-app"}
    slow = lines["/slow?0.2"]
    assert (slow["method"], slow["status"], slow["message"]) == ("GET", 200, "request")
    assert (slow["request_id"], slow["client"]) == ("from-nginx", "192.0.2.7")
    assert 0.2 <= slow["seconds"] < 5
    assert datetime.fromisoformat(slow["timestamp"]).tzinfo
    assert lines["/named?from-the-app"]["request_id"] == "from-the-app"
    assert all(line["level"] == "INFO" for line in front.read_lines(tmp_path / "controller.log"))


def test_a_killed_process_is_replaced(tmp_path: Path):
    with front.gunicorn("tests.support.front:app", tmp_path, WEB_CONCURRENCY="2") as arbiter:
        before = eventually(lambda: len(found := processes(arbiter)) == 2 and found)
        os.kill(get(tmp_path)["pid"], signal.SIGKILL)
        after = eventually(lambda: len(found := processes(arbiter)) == 2 and found - before and found)
        assert len(before & after) == 1
        eventually(lambda: get(tmp_path)["pid"] in after - before)


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM])
def test_what_is_in_progress_is_answered_before_its_process_ends(tmp_path: Path, number: signal.Signals):
    with front.gunicorn("tests.support.front:app", tmp_path) as arbiter, ThreadPoolExecutor(1) as pool:
        (old,) = eventually(lambda: processes(arbiter))
        begun = pool.submit(get, tmp_path, "/slow?2")
        eventually(lambda: get(tmp_path)["slow"])
        arbiter.send_signal(number)
        assert begun.result()["pid"] == old
        eventually(lambda: not psutil.pid_exists(old))


def test_more_clients_than_it_may_have_files_at_first_end_no_process(tmp_path: Path):
    """A shell or systemd gives a process few file descriptors, but lets it take more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (128, hard))
    with ExitStack() as stack:
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        arbiter = stack.enter_context(front.gunicorn("tests.support.front:app", tmp_path, WEB_THREADS="4"))
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        before = eventually(lambda: processes(arbiter))
        for _ in range(200):
            client = stack.enter_context(socket.socket(socket.AF_UNIX))
            client.connect(str(tmp_path / "controller.sock"))
        (process,) = before
        eventually(lambda: not psutil.pid_exists(process) or psutil.Process(process).num_fds() > 200, 10)
        assert processes(arbiter) == before


def test_more_clients_than_it_may_have_threads_end_no_process(tmp_path: Path):
    """As when thousands of requests wait, each of which has a thread that looks for its answers."""
    with front.gunicorn("tests.support.front:app", tmp_path) as arbiter, ThreadPoolExecutor(20) as pool:
        (process,) = eventually(lambda: processes(arbiter))
        for _ in range(2):
            get(tmp_path)
        memory = psutil.Process(process).memory_info().vms + 4_000_000  # not enough for the stack of a thread
        resource.prlimit(process, resource.RLIMIT_AS, (memory, memory))
        answers = pool.map(lambda _: get(tmp_path, "/slow?0.1"), range(20))
        assert {answer["pid"] for answer in answers} == {process}


def test_no_process_ends_because_the_disk_of_uploads_is_full(tmp_path: Path):
    """The system ends a process that writes to a file in its memory for which the disk has no room."""
    with (
        small_disk(tmp_path, 1) as disk,
        front.gunicorn("tests.support.front:app", tmp_path, TMPDIR=str(disk)) as arbiter,
    ):
        before = eventually(lambda: processes(arbiter))
        with suppress(OSError), (disk / "upload").open("wb", buffering=0) as upload:
            while upload.write(bytes(1000)):
                pass
        for n in range(300):  # a page of the file has some 40 of them
            get(tmp_path, f"/counted?{n}")
        assert processes(arbiter) == before


def test_a_reload_during_a_burst_loses_no_request(tmp_path: Path):
    with front.gunicorn("tests.support.front:app", tmp_path, WEB_CONCURRENCY="2") as arbiter:
        before = eventually(lambda: len(found := processes(arbiter)) == 2 and found)
        with ThreadPoolExecutor(20) as pool:
            answers = [pool.submit(get, tmp_path, "/slow?0.02") for _ in range(1000)]
            for n in (200, 600):
                answers[n].result()
                arbiter.send_signal(signal.SIGHUP)
            pids = [answer.result()["pid"] for answer in answers]
        assert len(pids) == 1000
        assert set(pids) - before
