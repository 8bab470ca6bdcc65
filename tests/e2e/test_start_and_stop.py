"""`make run` from start to end."""

import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import pytest
import requests

from local.driver import ROOT, ask, eventually, free_port, marked, with_command
from tests.support.pictures import picture
from tests.support.requests_of_users import photos


@pytest.fixture
def no_nohup() -> Iterator[None]:
    """Lets programs notice the end of their terminal, also if the tests were started with nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


def test_ctrl_c_sigterm_and_the_end_of_the_terminal_leave_no_process(start, no_nohup):
    """Within ten seconds, or more where much else runs."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        system = start()
        system.post(*photos(), headers={"Prefer": "respond-async"})
        eventually(system.active, 10)
        system.process.send_signal(number)
        assert system.process.wait(40) == 0
        assert not marked(str(system.output))


def test_who_waits_at_ctrl_c_is_told_where_the_answer_will_be(start, tmp_path):
    system = start(LOCAL_BUCKETS=str(tmp_path / "kept"))
    system.limit(0)
    asked = urlsplit(ask(system, ("small.png", picture()))).path
    with ThreadPoolExecutor(2) as pool:
        posting = pool.submit(system.post, ("small.png", picture()))
        looking = pool.submit(
            requests.get, system.url[:-1] + asked, headers={"Prefer": "wait=60"}, timeout=60
        )
        eventually(lambda: system.client("s3").list_objects_v2(Bucket="input-images")["KeyCount"] == 2)
        system.stop()
        posted, looked = posting.result(), looking.result()
    assert (posted.status_code, posted.headers["Location"]) == (202, posted.json()["url"])
    assert (looked.status_code, looked.json()["complete"]) == (200, False)


def test_where_no_weights_can_be_fetched_it_says_so_and_uses_those_that_are_there(start, tmp_path):
    folders = {"MODEL_CACHE": str(tmp_path / "models"), "TORCH_HOME": str(tmp_path / "torch")}
    system = start(MODEL="", HTTPS_PROXY="http://127.0.0.1:9", **folders)
    assert "The weights of resnet18 cannot be fetched" in system.log()
    assert "Using efficientnet_lite0 instead" in system.log()
    images = system.post(*photos()).json()["images"]
    assert {(i["model"], i["status"]) for i in images} == {("efficientnet_lite0 (imagenet)", "classified")}


def test_what_a_shell_says_of_aws_leads_nothing_away_from_the_local_one(start):
    system = start(
        AWS_ENDPOINT_URL_S3="http://127.0.0.1:9",
        AWS_ENDPOINT_URL_EC2="http://127.0.0.1:9",
        AWS_IGNORE_CONFIGURED_ENDPOINT_URLS="true",
    )
    images = system.post(*photos()).json()["images"]
    assert {image["status"] for image in images} == {"classified"}


def test_nothing_is_left_when_it_is_killed(start):
    system = start()
    system.post(*photos(), headers={"Prefer": "respond-async"})
    eventually(lambda: with_command("-m worker", system.children()), 20)
    system.process.kill()
    system.process.wait(5)
    eventually(lambda: not marked(str(system.output)), 10)


def test_a_taken_port_is_one_clear_line():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        for ports in (
            {"PORT": port, "CLOUD_PORT": str(free_port())},
            {"PORT": str(free_port()), "CLOUD_PORT": port},
        ):
            done = subprocess.run(
                [sys.executable, "-m", "local"],
                cwd=ROOT,
                env=ports | {"PATH": "/usr/bin:/bin"},
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            assert done.returncode == 1
            assert done.stderr.strip().count("\n") == 0
            assert f"port {port} is taken" in done.stderr


def test_a_second_run_leaves_the_files_of_the_first_one_alone():
    """While the first one bakes its model, nothing listens at PORT yet.

    Without its own `shutdown`, an instance would switch off the computer that it runs on.
    """
    port = str(free_port())
    shutdown = ROOT / ".local" / port / "bin" / "shutdown"
    shutdown.parent.mkdir(parents=True)
    shutdown.touch()
    try:
        with socket.create_server(("127.0.0.1", 0)) as endpoint_of_the_first:
            cloud_port = str(endpoint_of_the_first.getsockname()[1])
            done = subprocess.run(
                [sys.executable, "-m", "local"],
                cwd=ROOT,
                env={"PORT": port, "CLOUD_PORT": cloud_port, "PATH": "/usr/bin:/bin"},
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
        assert f"port {cloud_port} is taken" in done.stderr
        assert shutdown.exists()
    finally:
        shutil.rmtree(ROOT / ".local" / port)


@pytest.mark.parametrize(
    ("name", "value", "right"),
    [
        ("MAX_INSTANCES", "many", "a whole number"),
        ("PORT", "4566", "PORT and CLOUD_PORT are both 4566, but each needs a port of its own"),
        ("WEIGHTS", "/nowhere/birds.pt", "there is no such file"),
        ("PHOTOS", "/nowhere/birds", "there is no such folder"),
        ("HOST", "0.0.0.0", "Set API_TOKENS, or ALLOW_ANONYMOUS=on"),
    ],
)
def test_a_wrong_setting_is_named_with_what_would_be_right(name, value, right):
    done = subprocess.run(
        [sys.executable, "-m", "local"],
        cwd=ROOT,
        env={name: value, "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert name in done.stderr
    assert right in done.stderr
    assert "Traceback" not in done.stderr


def test_a_restarted_controller_finishes_what_waits(start):
    system = start(LOCAL_BOOT_SECONDS="4")
    reply = system.post(*photos(), headers={"Prefer": "respond-async"})
    eventually(system.active, 10)
    [arbiter] = system.arbiters()
    before = {p.pid for p in system.controllers()}
    arbiter.send_signal(signal.SIGHUP)
    eventually(lambda: system.controllers() and not before & {p.pid for p in system.controllers()}, 20)
    address = system.url.rstrip("/") + reply.headers["Location"]
    eventually(lambda: requests.get(address, timeout=10).json()["complete"], 60)
    eventually(lambda: not system.active(), 60)


def test_what_was_stored_is_there_in_the_next_run_and_what_waited_is_answered(start, tmp_path):
    kept = {"LOCAL_BUCKETS": str(tmp_path / "kept"), "ANSWER_CACHE": "on"}
    first = start(**kept)
    answered = urlsplit(ask(first, *photos())).path
    eventually(lambda: requests.get(first.url[:-1] + answered, timeout=10).json()["complete"])
    first.limit(0)
    waiting = urlsplit(ask(first, ("small.png", picture()))).path
    first.stop()

    second = start(**kept)
    images = requests.get(second.url[:-1] + answered, timeout=10).json()["images"]
    assert {image["status"] for image in images} == {"classified"}
    assert second.post(*photos()).json()["images"][0]["cached"]
    eventually(lambda: requests.get(second.url[:-1] + waiting, timeout=10).json()["complete"], 60)


def test_a_misspelt_setting_is_named_at_the_start_and_in_the_log(start):
    system = start(MAX_INSTNCES="3")
    sentence = "MAX_INSTNCES is not a setting, and is ignored: the nearest one is MAX_INSTANCES."
    assert f"make run: {sentence}" in system.log()
    assert sentence in (ROOT / ".local" / str(system.port) / "controller.log").read_text()
